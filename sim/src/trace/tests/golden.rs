// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every reader on a shipped trace (`fixtures/traces`), against counts made with awk, od and python: the commands stand beside them.

use super::super::*;
use std::io::Cursor;

#[derive(Debug, Default, PartialEq)]
struct Counts {
    reads: u64,
    read_bytes: u64,
    writes: u64,
    write_bytes: u64,
    trims: u64,
    files: usize,
    last: u64,
}

fn count(bytes: &'static [u8], wanted: TraceFormat, options: &ReadOptions) -> Counts {
    let (format, source) = open(Box::new(Cursor::new(bytes)), None, options).unwrap();
    assert_eq!(format, wanted);
    let mut counts = Counts::default();
    let mut files = std::collections::HashSet::new();
    for access in source {
        let access = access.unwrap();
        match access.kind {
            Kind::Read | Kind::Mmap => {
                (counts.reads, counts.read_bytes) = (counts.reads + 1, counts.read_bytes + u64::from(access.bytes))
            }
            Kind::Write => {
                (counts.writes, counts.write_bytes) = (counts.writes + 1, counts.write_bytes + u64::from(access.bytes))
            }
            Kind::Trim => counts.trims += 1,
        }
        files.insert(access.file);
        counts.last = access.at.0;
    }
    counts.files = files.len();
    counts
}

macro_rules! trace {
    ($name:literal) => {
        include_bytes!(concat!("../../../../fixtures/traces/", $name))
    };
}

/// `awk '$3=="read"{r++;rb+=$5} $3=="write"{w++;wb+=$5} $3=="read"||$3=="write"{f[$2];t=$1} END{print r,rb,w,wb,length(f),t}'`.
#[test]
fn fio_version_3() {
    let wanted =
        Counts { reads: 38, read_bytes: 155_648, writes: 14, write_bytes: 458_752, trims: 0, files: 2, last: 13_822_000 };
    assert_eq!(count(trace!("fio-v3.iolog"), TraceFormat::FioIolog, &ReadOptions::default()), wanted);
}

/// The same run; waits of under 100 µs are left out as the manual says, so times are up to that early. `awk '$2=="wait"{w+=$3}'`.
#[test]
fn fio_version_2() {
    let wanted =
        Counts { reads: 38, read_bytes: 155_648, writes: 14, write_bytes: 458_752, trims: 0, files: 2, last: 13_816_000 };
    assert_eq!(count(trace!("fio-v2.iolog"), TraceFormat::FioIolog, &ReadOptions::default()), wanted);
}

/// `awk -F, '{k[$4]++;b[$4]+=$6;d[$3]}'`; the last time by python, awk has no 64-bit integers.
#[test]
fn msr() {
    let wanted = Counts {
        reads: 364,
        read_bytes: 15_601_664,
        writes: 36,
        write_bytes: 147_456,
        trims: 0,
        files: 2,
        last: 4_016_857_500,
    };
    assert_eq!(count(trace!("msr.csv"), TraceFormat::Msr, &ReadOptions::default()), wanted);
}

/// `awk '$6=="Q"&&$9=="+"{c=($7~/D/)?"T":($7~/R/)?"R":"W";k[c]++;b[c]+=$10*512;t=$4}'`; one line is a flush, the summary is left out.
#[test]
fn blkparse() {
    let wanted =
        Counts { reads: 137, read_bytes: 4_304_896, writes: 12, write_bytes: 49_152, trims: 1, files: 1, last: 1_423_756_442 };
    assert_eq!(count(trace!("blkparse.txt"), TraceFormat::Blkparse, &ReadOptions::default()), wanted);
    let completed = ReadOptions { blkparse_action: 'C', ..ReadOptions::default() };
    assert_eq!(count(trace!("blkparse.txt"), TraceFormat::Blkparse, &completed).reads, 137);
}

/// `od -An -v -w24 -t u4 | awk '{n++;b+=$4;o[$2" "$3]++;if(!f)f=$1;l=$1}'`: 300 requests, 12,275,712 bytes, 300 objects, 74 s.
#[test]
fn oracle_general() {
    let wanted = Counts { reads: 300, read_bytes: 12_275_712, files: 300, last: 74_000_000_000, ..Counts::default() };
    let default = ReadOptions::default();
    assert_eq!(count(trace!("blocks.oracleGeneral.bin"), TraceFormat::OracleGeneral, &default), wanted);
    assert_eq!(count(trace!("blocks.oracleGeneral.bin.zst"), TraceFormat::OracleGeneral, &default), wanted);
    let blocks = ReadOptions { objects: Objects::Blocks { bytes: 4096 }, ..default };
    let wanted = Counts { files: 1, ..wanted };
    assert_eq!(count(trace!("blocks.oracleGeneral.bin"), TraceFormat::OracleGeneral, &blocks), wanted);
}

/// The same requests; `awk -F, 'NR>1{n++;b+=$3;o[$2]}'`; the largest object is 2,092,695.
#[test]
fn cache_csv() {
    let wanted = Counts { reads: 300, read_bytes: 12_275_712, files: 300, last: 74_000_000_000, ..Counts::default() };
    let default = ReadOptions::default();
    assert_eq!(count(trace!("blocks.csv"), TraceFormat::CacheCsv, &default), wanted);
    let blocks = ReadOptions { objects: Objects::Blocks { bytes: 4096 }, ..default };
    let (_, source) = open(Box::new(Cursor::new(trace!("blocks.csv"))), None, &blocks).unwrap();
    assert_eq!(source.map(|a| a.unwrap().offset).max(), Some(2_092_695 * 4096));
}

/// Text and its first error, with its place.
#[test]
fn errors_say_where_and_what() {
    for (format, text, wanted) in [
        (
            TraceFormat::FioIolog,
            "fio version 3 iolog\n1 /a add\n2 /a read 0 x\n",
            "line 3, column 13: a length is `x`: a whole number from 0 to 2147479552",
        ),
        (
            TraceFormat::FioIolog,
            "fio version 3 iolog\n2 /a wait 5\n",
            "line 2, column 6: an action is `wait`: add, open, close, read",
        ),
        (TraceFormat::FioIolog, "fio version 1 iolog\n", "line 1, column 1: the first line is `fio version 1 iolog`"),
        (
            TraceFormat::Msr,
            "1,h,0,Read,0,512,1\n2,h,0,Peek,0,512,1\n",
            "line 2, column 7: a type is `Peek`: Read and Write are known",
        ),
        (TraceFormat::Msr, "1,h,0,Read,9223372036854775807,512,1\n", "line 1, column 12: an offset is `9223372036854775807`"),
        (TraceFormat::Msr, "1,h,0,Read\n", "line 1, column 1: a line is `1,h,0,Read`: seven fields are needed"),
        (TraceFormat::Blkparse, " 8,0 1 1 0.x 7 Q R 8 + 8 [a]\n", "line 1, column 10: a time is `0.x`: seconds from 0"),
        (TraceFormat::Blkparse, "hello\n", "line 1, column 1: a device is `hello`: major,minor is needed"),
        (TraceFormat::CacheCsv, "1,2\n", "line 1, column 1: a line is `1,2`: column 3 is needed"),
    ] {
        let (_, mut source) = open(Box::new(Cursor::new(text)), Some(format), &ReadOptions::default()).unwrap();
        let error = source.find_map(Result::err).unwrap().to_string();
        assert!(error.starts_with(wanted), "{error}\nwanted {wanted}");
    }
}

#[test]
fn an_unknown_format_is_refused_with_the_known_ones() {
    let Err(error) = open(Box::new(Cursor::new("GIF89a\x1b[2J")), None, &ReadOptions::default()) else { panic!("opened") };
    let error = error.to_string();
    assert!(error.contains(r"`GIF89a\u{1b}[2J`; known are keepahead, fio-iolog"), "{error}");
}

#[test]
fn format_names_come_back() {
    for format in TraceFormat::ALL {
        assert_eq!(format.name().parse(), Ok(format));
    }
    assert!("pcap".parse::<TraceFormat>().unwrap_err().contains("known are keepahead"));
}

/// Decoded by a python program written from `docs/trace-format.md` alone: 287 reads and 76 mapped accesses of 15,470,592 bytes
/// together, 36 writes, 1 trim, 2 files of 9 GiB. If this fails, version 1 no longer reads what version 1 wrote.
#[test]
fn own_version_1() {
    let bytes = trace!("own-v1.katrace");
    let wanted = Counts {
        reads: 363,
        read_bytes: 15_470_592,
        writes: 36,
        write_bytes: 147_456,
        trims: 1,
        files: 2,
        last: 4_016_857_500,
    };
    assert_eq!(count(bytes, TraceFormat::Keepahead, &ReadOptions::default()), wanted);
    let mut reader = Reader::new(&bytes[..]).unwrap();
    assert_eq!(reader.by_ref().filter(|a| a.as_ref().unwrap().kind == Kind::Mmap).count(), 76);
    assert_eq!(reader.header().device, "nvme0n1");
    assert_eq!(reader.totals(), Some(&Totals { accesses: 400, files: 2, events_lost: 12, files_sampled_out: 34 }));
    let name = FileName::Plain("/srv/db/1".into());
    assert_eq!(reader.files().get(1), Some(&FileEntry { id: 1, bytes: 9 << 30, name }));
}
