// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files and regions that have counters of their own, and files that are read by turns.

use super::*;
use keepahead::sensor::{Inode, Part, part_name};
use std::os::unix::fs::{FileExt, MetadataExt};

/// A group that found no free slot used to be given slot 0, a device's, when it was asked for once more.
#[test]
fn a_group_without_a_slot_counts_for_nobody() {
    let Some(mut sensor) = sensor(0) else { return };
    let mut ask = |n: u64| {
        let file = Inode { ino: 1 << 40 | n, major: 4095, minor: 1 };
        sensor.count_apart(&BdiName(format!("workload/{n}")), &[file], &[]).map_err(|e| e.to_string())
    };
    (0..64).for_each(|n| ask(n).unwrap());
    for _ in 0..2 {
        let refused = ask(64).unwrap_err();
        assert!(refused.contains("64 workloads"), "{refused}");
    }
    assert!(!sensor.read().unwrap().contains_key(&BdiName("workload/64".into())));
    sensor.count_apart(&BdiName("workload/0".into()), &[], &[]).unwrap();
    let file = Inode { ino: 1 << 40, major: 4095, minor: 1 };
    sensor.count_apart(&BdiName("workload/64".into()), &[file], &[]).unwrap();
    assert!(sensor.read().unwrap().contains_key(&BdiName("workload/64".into())));
}

fn inode(file: &File) -> Inode {
    let meta = file.metadata().unwrap();
    Inode { ino: meta.ino(), major: rustix::fs::major(meta.dev()), minor: rustix::fs::minor(meta.dev()) }
}

#[test]
fn a_file_that_gets_counters_of_its_own_begins_a_run_there() {
    let Some(mut sensor) = sensor(0) else { return };
    let bed = Loop::new(EXT4, "100M");
    let file = File::open(bed.file("scanned", 16)).unwrap();
    drop_caches();
    let mapping = Mapping::new(&file);
    (0..2048).for_each(|page| mapping.touch(page));
    let apart = BdiName("workload/0".into());
    sensor.count_apart(&apart, &[inode(&file)], &[]).unwrap();
    let c = counted(&mut sensor, &apart, || (2048..4096).for_each(|page| mapping.touch(page)));
    assert!(c.seq_faults > 0 && c.faults == c.seq_faults + 1, "{:?}", nonzero(&c));
}

#[test]
fn what_is_read_ahead_for_a_region_counts_for_the_region() {
    let Some(mut sensor) = sensor(0) else { return };
    let bed = Loop::new(EXT4, "100M");
    let file = File::open(bed.file("scanned", 16)).unwrap();
    let (apart, pages) = (BdiName("workload/0".into()), 1024..4096);
    let region = Part { number: 1, file: inode(&file), first: pages.start, last: pages.end - 1 };
    sensor.count_apart(&apart, &[inode(&file)], &[region]).unwrap();
    drop_caches();
    let mapping = Mapping::new(&file);
    let c = counted(&mut sensor, &part_name(&apart, 1), || pages.clone().for_each(|page| mapping.touch(page as usize)));
    assert!(c.mmap_miss + c.spec_added > (pages.end - pages.start) * 9 / 10, "{:?}", nonzero(&c));
}

#[test]
fn lookups_in_many_files_are_no_scan_and_small_files_are() {
    let Some(mut sensor) = sensor(0) else { return };
    let bed = Loop::new(EXT4, "700M");
    let large: Vec<_> = (0..60).map(|n| bed.file(&format!("large{n}"), 8)).collect();
    // So many that those which have lost their places are nearly all.
    let small: Vec<_> = (0..600).map(|n| bed.mount().join(format!("small{n}"))).collect();
    small.iter().for_each(|path| fs::write(path, vec![1; 9 * 4096]).unwrap());
    drop_caches();
    let open: Vec<File> = large.iter().map(|path| File::open(path).unwrap()).collect();
    let look_up = || {
        let mappings: Vec<Mapping> = open.iter().map(Mapping::new).collect();
        let mut block = [0; 4 * 4096];
        for (n, page) in places(8 * PAGES_PER_MIB - 4, 3000).into_iter().enumerate() {
            // Another file each time, by a step that has no divisor in common with how many there are.
            open[n * 37 % 60].read_exact_at(&mut block, page * 4096).unwrap();
            mappings[n * 23 % 60].touch(page as usize);
        }
    };
    let f = features(counted(&mut sensor, &bed.bdi(), look_up));
    assert!(f.read_long_share < 0.1 && f.mmap_long_share < 0.1 && f.turns > 0.9, "{f:?}");
    let apart = BdiName("workload/0".into());
    sensor.count_apart(&apart, &open.iter().map(inode).collect::<Vec<_>>(), &[]).unwrap();
    drop_caches();
    let f = features(counted(&mut sensor, &apart, look_up));
    assert!(f.demand > 0.0 && f.read_long_share < 0.1 && f.mmap_long_share < 0.1, "of their own: {f:?}");
    sensor.count_apart(&apart, &[], &[]).unwrap();
    let whole = counted(&mut sensor, &bed.bdi(), || small.iter().for_each(|path| read_through(path, 4 * 4096)));
    let f = features(whole);
    // The lookups' last 64 runs, which end only now, are short.
    assert!(f.read_long_share > 0.85 && f.turns < 0.4, "{f:?}");
}
