// SPDX-License-Identifier: MIT OR Apache-2.0
//! keepahead's own format: what is written comes back, what is cut off or changed is found.

use super::super::*;
use proptest::prelude::*;

fn header() -> Header {
    Header {
        device: "nvme0n1".into(),
        kernel: "6.12.0".into(),
        start_unix_ns: 1_700_000_000_000_000_000,
        one_file_in: 4,
        paths_hashed: true,
    }
}

#[derive(Clone, Debug)]
enum Item {
    File(FileEntry),
    Access(Access),
}

fn access() -> impl Strategy<Value = Access> {
    let kind = prop_oneof![Just(Kind::Read), Just(Kind::Mmap), Just(Kind::Write), Just(Kind::Trim)];
    let place = prop_oneof![0u64..1 << 30, 0..=OFFSET_MAX - ACCESS_BYTES_MAX];
    let file = prop_oneof![0u64..4, any::<u64>()];
    (any::<u64>(), file, any::<u32>(), place, 0..=ACCESS_BYTES_MAX as u32, kind, proptest::option::of(any::<u64>())).prop_map(
        |(at, file, pid, offset, bytes, kind, took)| Access {
            at: Nanos(at),
            file,
            pid,
            offset,
            bytes,
            kind,
            took: took.map(Nanos),
        },
    )
}

fn item() -> impl Strategy<Value = Item> {
    let name =
        prop_oneof![Just(FileName::Unknown), any::<u64>().prop_map(FileName::Hashed), ".{0,40}".prop_map(FileName::Plain)];
    let file = (any::<u64>(), 0..=OFFSET_MAX, name).prop_map(|(id, bytes, name)| Item::File(FileEntry { id, bytes, name }));
    prop_oneof![1 => file, 8 => access().prop_map(Item::Access)]
}

fn write(items: &[Item], blocks_of: usize) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    for (i, item) in items.iter().enumerate() {
        match item {
            Item::File(entry) => writer.file(entry).unwrap(),
            Item::Access(access) => writer.access(access).unwrap(),
        }
        if i % blocks_of == blocks_of - 1 {
            writer.flush().unwrap();
        }
    }
    let written = writer.written();
    let bytes = writer.finish(7, 9).unwrap();
    assert!(bytes.len() as u64 > written);
    bytes
}

fn accesses(items: &[Item]) -> Vec<Access> {
    items.iter().filter_map(|i| if let Item::Access(a) = i { Some(*a) } else { None }).collect()
}

/// What is yielded before the first error, and that error.
fn read(bytes: &[u8]) -> (Vec<Access>, Option<TraceError>) {
    let mut got = Vec::new();
    let reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(e) => return (got, Some(e)),
    };
    for item in reader {
        match item {
            Ok(access) => got.push(access),
            Err(e) => return (got, Some(e)),
        }
    }
    (got, None)
}

proptest! {
    #[test]
    fn what_is_written_comes_back(items in proptest::collection::vec(item(), 0..200), blocks_of in 1usize..100) {
        let bytes = write(&items, blocks_of);
        let mut reader = Reader::new(&bytes[..]).unwrap();
        prop_assert_eq!(reader.header(), &header());
        let got: Vec<Access> = reader.by_ref().map(Result::unwrap).collect();
        let wanted = accesses(&items);
        prop_assert_eq!(&got, &wanted);
        let files = (items.len() - wanted.len()) as u64;
        let totals = Totals { accesses: wanted.len() as u64, files, events_lost: 7, files_sampled_out: 9 };
        prop_assert_eq!(reader.totals(), Some(&totals));
        let mut last = HashMap::new();
        for item in &items {
            if let Item::File(entry) = item {
                last.insert(entry.id, entry.clone());
            }
        }
        prop_assert_eq!(reader.files().len(), last.len());
        for entry in last.values() {
            prop_assert_eq!(reader.files().get(entry.id), Some(entry));
        }
    }

    #[test]
    fn a_truncated_trace_yields_its_whole_blocks_and_says_where_it_ends(
        items in proptest::collection::vec(item(), 1..60), blocks_of in 1usize..10, cut in 0.0f64..1.0
    ) {
        let bytes = write(&items, blocks_of);
        let cut = (bytes.len() as f64 * cut) as usize;
        let (got, error) = read(&bytes[..cut]);
        let wanted = accesses(&items);
        prop_assert_eq!(&got[..], &wanted[..got.len()]);
        match error {
            Some(TraceError::Truncated { position: Position::Byte(at), records, .. }) => {
                prop_assert!(at <= cut as u64);
                prop_assert_eq!(records, got.len() as u64);
            }
            other => prop_assert!(false, "cut at {}: {:?}", cut, other),
        }
    }

    /// CRC-32 finds every change of a single byte.
    #[test]
    fn a_changed_byte_is_found(items in proptest::collection::vec(item(), 1..60), at in 0.0f64..1.0, with in 1u8..) {
        let mut bytes = write(&items, 7);
        let at = (bytes.len() as f64 * at) as usize;
        bytes[at] ^= with;
        let (got, error) = read(&bytes);
        prop_assert!(error.is_some());
        let wanted = accesses(&items);
        prop_assert_eq!(&got[..], &wanted[..got.len()]);
    }
}

#[test]
fn blocks_are_closed_at_their_target_and_sequential_reads_cost_little() {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    for i in 0..100_000u64 {
        let read = Access {
            at: Nanos(i * 10_000),
            file: i % 3,
            pid: 5,
            offset: i / 3 * 4096,
            bytes: 4096,
            kind: Kind::Read,
            took: None,
        };
        writer.access(&read).unwrap();
    }
    assert!(writer.written() > 100, "blocks go out before the end");
    let bytes = writer.finish(0, 0).unwrap();
    assert!(bytes.len() < 40_000, "{} bytes for 100,000 reads in three interleaved streams", bytes.len());
    assert_eq!(read(&bytes).0.len(), 100_000);
}

#[test]
fn a_killed_recorder_leaves_its_flushed_blocks() {
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file, &header()).unwrap();
    let one = Access { at: Nanos(1), file: 0, pid: 1, offset: 0, bytes: 1, kind: Kind::Mmap, took: None };
    writer.access(&one).unwrap();
    writer.flush().unwrap();
    writer.access(&one).unwrap();
    drop(writer);
    let (got, error) = read(&file);
    assert_eq!(got, [one]);
    assert!(matches!(error, Some(TraceError::Truncated { records: 1, .. })), "{error:?}");
}

#[test]
fn sizes_of_the_file_are_not_believed() {
    let mut bytes = write(&[], 1);
    bytes[10..14].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = read(&bytes).1.unwrap().to_string();
    assert!(
        error.starts_with("byte 10: the header is damaged (it says that it has 4294967295 bytes, at most 65536"),
        "{error}"
    );
}

#[test]
fn another_version_is_named() {
    let mut bytes = write(&[], 1);
    bytes[8] = 2;
    let error = read(&bytes).1.unwrap();
    assert!(matches!(error, TraceError::Version { found: 2, known: 1, position: Position::Byte(8) }), "{error}");
}

#[test]
fn joined_traces_are_refused_after_the_first() {
    let one = Access { at: Nanos(1), file: 0, pid: 1, offset: 0, bytes: 1, kind: Kind::Read, took: None };
    let bytes = write(&[Item::Access(one)], 1);
    let (got, error) = read(&[&bytes[..], &bytes[..]].concat());
    assert_eq!(got, [one]);
    assert_eq!(error.unwrap().position(), Position::Byte(bytes.len() as u64));
}

#[test]
fn a_range_that_no_file_has_is_not_written() {
    let mut writer = Writer::new(Vec::new(), &header()).unwrap();
    let beyond = Access { at: Nanos(1), file: 0, pid: 1, offset: OFFSET_MAX, bytes: 1, kind: Kind::Read, took: None };
    let error = writer.access(&beyond).unwrap_err().to_string();
    assert!(error.contains("an access's end is `9223372036854775808`"), "{error}");
}
