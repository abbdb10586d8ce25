// SPDX-License-Identifier: MIT OR Apache-2.0
//! The eBPF sensor against the running kernel: known workloads on a loop device with ext4, counters compared with what was done.

mod apart;

use crate::bed::*;
use keepahead::sensor::{EbpfSensor, FileUse, Places, Sense, SensorError};
use keepahead_core::device::BdiName;
use keepahead_core::features::Features;
use keepahead_core::sample::{Completeness, Counters};
use keepahead_core::window::Span;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const EXT4: &[&str] = &["mkfs.ext4", "-q", "-F"];

fn features(counters: Counters) -> Features {
    Features::of(&Span { seconds: 1.0, counters })
}

#[test]
fn sequential_read_cold_then_cached() {
    let Some(mut sensor) = sensor(0) else { return };
    let bed = Loop::new(EXT4, "200M");
    let path = bed.file("data", 64);
    let pages = 64 * PAGES_PER_MIB;
    let cold = counted(&mut sensor, &bed.bdi(), || read_through(&path, 4096));
    assert_eq!(cold.read_pages, pages);
    assert_eq!(cold.read_requests, pages);
    assert!(near(cold.read_miss + cold.spec_used, pages, 1), "{} + {}", cold.read_miss, cold.spec_used);
    assert!(cold.hit_ratio().unwrap() > 0.5);
    assert!(cold.seq_requests * 100 >= pages * 99);
    assert!(cold.dev_read_bytes >= 64 * MIB as u64);
    assert!(cold.stall_ns() > 0 && cold.read_fill_ns > 0);
    let cached = counted(&mut sensor, &bed.bdi(), || read_through(&path, 4096));
    assert_eq!((cached.read_pages, cached.read_miss, cached.read_late, cached.spec_added), (pages, 0, 0, 0));
    assert_eq!(cached.fill_ns(), 0);
    assert_eq!(cached.hit_ratio(), Some(1.0));
}

#[test]
fn a_process_that_is_left_out_demands_nothing() {
    if sensor(0).is_none() {
        return;
    }
    if fs::read_link("/proc/self/ns/pid").unwrap().as_os_str() != "pid:[4026531836]" {
        return println!("skipped: another PID namespace, where one's own id is not what the kernel knows");
    }
    let mut sensor = EbpfSensor::open_ignoring(&Places::default(), std::process::id()).unwrap();
    let bed = Loop::new(EXT4, "200M");
    let path = bed.file("data", 16);
    let c = counted(&mut sensor, &bed.bdi(), || read_through(&path, 4096));
    assert_eq!((c.read_pages, c.read_miss, c.windows, c.spec_added), (0, 0, 0, 0));
    let mut cat = Command::new("cat");
    cat.arg(&path).stdout(std::process::Stdio::null());
    let c = counted(&mut sensor, &bed.bdi(), || assert!(cat.status().unwrap().success()));
    assert_eq!(c.read_pages, 16 * PAGES_PER_MIB);
}

#[test]
fn large_requests_are_counted_once() {
    let Some(mut sensor) = sensor(0) else { return };
    let bed = Loop::new(EXT4, "100M");
    let path = bed.file("data", 32);
    let mut elapsed = Duration::ZERO;
    let c = counted(&mut sensor, &bed.bdi(), || {
        let begin = Instant::now();
        read_through(&path, MIB);
        elapsed = begin.elapsed();
    });
    assert_eq!((c.read_requests, c.read_pages), (32, 32 * PAGES_PER_MIB));
    // What is copied between two waits of one request is neither.
    let lost = u128::from(c.stall_ns() + c.fill_ns());
    assert!(c.fill_ns() > 0 && lost < elapsed.as_nanos(), "{lost} of {elapsed:?}");
    assert!(near(c.read_miss + c.spec_used, 32 * PAGES_PER_MIB, 2), "{} + {}", c.read_miss, c.spec_used);
}

#[test]
fn a_request_beyond_the_end_is_clipped() {
    let Some(mut sensor) = sensor(0) else { return };
    let bed = Loop::new(EXT4, "100M");
    let path = bed.file("data", 1);
    let c = counted(&mut sensor, &bed.bdi(), || {
        let mut buffer = vec![0; 8 * MIB];
        let file = File::open(&path).unwrap();
        assert_eq!(file.read_at(&mut buffer, 512 * 1024).unwrap(), 512 * 1024);
    });
    assert_eq!(c.read_pages, 128);
}

#[test]
fn random_mmap_with_a_large_window_wastes() {
    let Some(mut sensor) = sensor(0) else { return };
    let bed = Loop::new(EXT4, "500M");
    bed.set(2048);
    let path = bed.file("data", 400);
    let c = counted(&mut sensor, &bed.bdi(), || {
        let file = File::open(&path).unwrap();
        let map = Mapping::new(&file);
        for page in places(400 * PAGES_PER_MIB, 40) {
            map.touch(page as usize);
        }
    });
    assert!((36..=44).contains(&c.faults), "{}", c.faults);
    assert!((36..=60).contains(&c.mmap_pages), "{}", c.mmap_pages);
    assert!(c.mmap_miss >= 20);
    assert!(c.spec_added > 100 * c.mmap_miss, "{}", c.spec_added);
    assert!(c.spec_used * 20 < c.spec_added);
    assert!(c.mmap_stall_ns > 0);
    assert!(c.windows >= 20 && c.window_pages / c.windows > 256);
}

#[test]
fn work_between_faults_that_a_small_window_leaves_to_one_neighbourhood_is_seen() {
    const WORK: Duration = Duration::from_micros(50);
    let Some(mut sensor) = sensor(0) else { return };
    let bed = Loop::new(EXT4, "500M");
    // Reads four pages around a fault, of the sixteen that a fault maps where they are cached.
    bed.set(16);
    let path = bed.file("data", 400);
    let places = places(400 * PAGES_PER_MIB - 5, 90);
    let work = || {
        let begin = Instant::now();
        while begin.elapsed() < WORK {}
    };
    let c = counted(&mut sensor, &bed.bdi(), || {
        let file = File::open(&path).unwrap();
        let map = Mapping::new(&file);
        for page in &places {
            for near in [0, 5] {
                map.touch(*page as usize + near);
                work();
            }
        }
    });
    let done = 2 * places.len() as u64 * WORK.as_nanos() as u64;
    assert!(c.mmap_think_ns * 100 >= done * 90, "{} of {done} ns", c.mmap_think_ns);
}

#[test]
fn a_faulting_tasks_time_is_its_work_its_sleep_and_what_the_kernel_works_for_it() {
    let Some(mut sensor) = sensor(0) else { return };
    let bed = Loop::new(EXT4, "500M");
    // 128 pages to allocate for each fault: a good part of what it costs.
    bed.set(512);
    let path = bed.file("data", 400);
    let places = places(400 * PAGES_PER_MIB, 300);
    let (mut elapsed, mut work) = (Duration::ZERO, Duration::ZERO);
    let c = counted(&mut sensor, &bed.bdi(), || {
        let file = File::open(&path).unwrap();
        let map = Mapping::new(&file);
        let begin = Instant::now();
        for page in &places {
            map.touch(*page as usize);
            let touched = Instant::now();
            while touched.elapsed() < Duration::from_micros(100) {}
            work += touched.elapsed();
        }
        elapsed = begin.elapsed();
    });
    let work = work.as_nanos() as u64;
    let (elapsed, seen) = (elapsed.as_nanos() as u64, c.mmap_think_ns + c.mmap_stall_ns + c.mmap_fill_ns);
    assert!((elapsed * 85 / 100..=elapsed * 101 / 100).contains(&seen), "{seen} of {elapsed} ns");
    assert!(
        c.mmap_fill_ns * 20 > elapsed && c.mmap_fill_ns < elapsed - work,
        "{} of {elapsed} ns, {work} of work",
        c.mmap_fill_ns
    );
    assert!(c.mmap_think_ns * 100 > work * 85, "{} of {work} ns", c.mmap_think_ns);
}

#[test]
fn what_follows_a_fault_is_none_of_its_time() {
    let Some(mut sensor) = sensor(0) else { return };
    let bed = Loop::new(EXT4, "500M");
    let path = bed.file("data", 200);
    let other = bed.file("other", 64);
    let mut direct = File::options().read(true).custom_flags(libc::O_DIRECT).open(&other).unwrap();
    let room = vec![0u8; MIB + 4096];
    let aligned = room.as_ptr().align_offset(4096);
    let mut room = room;
    let buffer = &mut room[aligned..aligned + MIB];
    let mut faulting = Duration::ZERO;
    let begin = Instant::now();
    let c = counted(&mut sensor, &bed.bdi(), || {
        let map = Mapping::to_write(&File::open(&path).unwrap());
        for page in places(200 * PAGES_PER_MIB, 60) {
            let begin = Instant::now();
            // A fault that reads would be mapped, and so closed, by fault-around.
            map.write(page as usize);
            faulting += begin.elapsed();
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(1) {}
            direct.read_exact(buffer).unwrap();
        }
    });
    let (faulting, seen) = (faulting.as_nanos() as u64, c.mmap_stall_ns + c.mmap_fill_ns);
    println!("{faulting} of {:?}", begin.elapsed());
    assert!(c.mmap_miss >= 55, "{}", c.mmap_miss);
    assert!((faulting / 2..=faulting).contains(&seen), "{seen} of {faulting} ns in faults");
}

#[test]
fn sequential_mmap_demand_is_seen_within_a_tenth() {
    let Some(mut sensor) = sensor(0) else { return };
    let bed = Loop::new(EXT4, "200M");
    let path = bed.file("data", 64);
    let pages = 64 * PAGES_PER_MIB;
    for state in ["cold", "cached"] {
        let c = counted(&mut sensor, &bed.bdi(), || {
            let file = File::open(&path).unwrap();
            let map = Mapping::new(&file);
            (0..pages as usize).for_each(|page| map.touch(page));
        });
        assert!(near(c.mmap_pages, pages, 10), "{state}: {}", c.mmap_pages);
        if state == "cold" {
            assert!(near(c.spec_used + c.mmap_miss, pages, 10), "{} + {}", c.spec_used, c.mmap_miss);
        }
    }
}

#[test]
fn dropped_pages_are_not_waste() {
    let Some(mut sensor) = sensor(0) else { return };
    let bed = Loop::new(EXT4, "200M");
    bed.set(2048);
    let path = bed.file("data", 64);
    let other = bed.file("other", 64);
    let touch = |path: &Path| {
        let file = File::open(path).unwrap();
        Mapping::new(&file).touch(8000);
    };
    let c = counted(&mut sensor, &bed.bdi(), || {
        touch(&path);
        drop_caches();
        touch(&other);
        File::options().write(true).open(&other).unwrap().set_len(0).unwrap();
    });
    assert!(c.spec_added > 500);
    assert!(near(c.spec_dropped, c.spec_added, 3), "{} of {}", c.spec_dropped, c.spec_added);
    assert_eq!(c.spec_evicted, 0);
}

#[test]
fn pages_reclaimed_unused_are_waste() {
    let Some(mut sensor) = sensor(0) else { return };
    let bed = Loop::new(EXT4, "500M");
    bed.set(2048);
    let path = bed.file("data", 400);
    let Some(group) = MemoryGroup::new("64M") else { return println!("skipped: no memory cgroup to be made") };
    let c = counted(&mut sensor, &bed.bdi(), || {
        let script = "import mmap,sys,random\nf=open(sys.argv[1],'rb')\nm=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ)\n\
            random.seed(1)\nfor i in range(300): m[random.randrange(100*1024)*4096]\n";
        let enter = format!("echo $$ > {}/cgroup.procs; exec python3 -c \"$0\" \"$1\"", group.0.display());
        run("sh", &["-c", &enter, script, path.to_str().unwrap()]);
    });
    assert!(c.spec_evicted > 10_000, "{}", c.spec_evicted);
    assert!(c.accuracy().unwrap() < 0.2, "{:?}", c.accuracy());
    assert!(c.spec_dropped * 10 < c.spec_evicted);
}

#[test]
fn a_raw_block_device_counts_for_its_disk() {
    let Some(mut sensor) = sensor(0) else { return };
    let bed = Loop::new(&[], "32M");
    drop_caches();
    let c = counted(&mut sensor, &bed.bdi(), || read_through(Path::new(&bed.device), 65536));
    assert_eq!(c.read_pages, 32 * PAGES_PER_MIB);
    assert!(c.dev_read_bytes >= 32 * MIB as u64);
}

#[test]
fn btrfs_counts_for_its_own_bdi() {
    let Some(mut sensor) = sensor(0) else { return };
    let known = fs::read_to_string("/proc/filesystems").unwrap().contains("btrfs");
    if !known || Command::new("mkfs.btrfs").arg("--version").output().is_err() {
        return println!("skipped: no btrfs here");
    }
    let bed = Loop::new(&["mkfs.btrfs", "-q", "-f"], "300M");
    let path = bed.file("data", 16);
    let before = sensor.read().unwrap();
    read_through(&path, 65536);
    let after = sensor.read().unwrap();
    let (name, sample) = after.iter().find(|(name, _)| name.0.starts_with("btrfs-")).expect("a btrfs bdi");
    let c = before.get(name).map_or(sample.counters, |b| sample.counters.since(&b.counters));
    println!("{:?}", nonzero(&c));
    assert!(c.read_pages >= 16 * PAGES_PER_MIB, "{name}: {}", c.read_pages);
}

#[test]
fn windows_of_files_opened_before_a_change_are_stale() {
    let Some(mut sensor) = sensor(0) else { return };
    let bed = Loop::new(EXT4, "200M");
    let path = bed.file("data", 32);
    let mut file = File::open(&path).unwrap();
    bed.set(512);
    let mut buffer = vec![0; 65536];
    let mut pass = |file: &mut File| {
        file.seek(SeekFrom::Start(0)).unwrap();
        while file.read(&mut buffer).unwrap() > 0 {}
    };
    let c = counted(&mut sensor, &bed.bdi(), || pass(&mut file));
    assert_eq!(c.stale_windows, c.windows);
    drop_caches();
    let c = counted(&mut sensor, &bed.bdi(), || pass(&mut File::open(&path).unwrap()));
    assert!(c.windows > 10 && c.stale_windows == 0, "{} of {}", c.stale_windows, c.windows);
}

#[test]
fn sampled_counts_estimate_the_exact_ones() {
    let Some(mut exact) = sensor(0) else { return };
    let Some(mut sampled) = sensor(3) else { return };
    let bed = Loop::new(EXT4, "500M");
    let path = bed.file("data", 400);
    let bdi = bed.bdi();
    let before = (read(&mut exact, &bdi), read(&mut sampled, &bdi));
    let file = File::open(&path).unwrap();
    let mut buffer = vec![0; 4096];
    for start in places(400 * PAGES_PER_MIB - 16, 6000) {
        for page in start..start + 8 {
            file.read_exact_at(&mut buffer, page * 4096).unwrap();
        }
    }
    let exact = read(&mut exact, &bdi).since(&before.0);
    let sampled = read(&mut sampled, &bdi).since(&before.1);
    println!("exact {:?}\nsampled {:?}", nonzero(&exact), nonzero(&sampled));
    // 1600 chunks at one in eight: the estimate's standard deviation is about 7 %.
    for (name, e, s) in [
        ("read_pages", exact.read_pages, sampled.read_pages),
        ("read_requests", exact.read_requests, sampled.read_requests),
        ("seq_requests", exact.seq_requests, sampled.seq_requests),
        ("spec_added", exact.spec_added, sampled.spec_added),
        ("spec_used", exact.spec_used, sampled.spec_used),
    ] {
        assert!(near(s, e, 25), "{name}: {s} sampled, {e} exact");
    }
    assert_eq!(exact.read_pages, 48_000);
}

#[test]
fn random_pread_is_all_miss_and_no_guess() {
    let Some(mut sensor) = sensor(0) else { return };
    let bed = Loop::new(EXT4, "500M");
    let path = bed.file("data", 400);
    let c = counted(&mut sensor, &bed.bdi(), || {
        let file = File::open(&path).unwrap();
        let mut buffer = [0; 4096];
        for page in places(400 * PAGES_PER_MIB, 1000) {
            file.read_exact_at(&mut buffer, page * 4096).unwrap();
        }
    });
    assert_eq!(c.read_pages, 1000);
    assert!(c.read_miss > 950, "{}", c.read_miss);
    assert!(c.spec_added < 100, "{}", c.spec_added);
    assert!(c.jump_hist.iter().sum::<u64>() > 950);
}

#[test]
fn the_heaviest_file_is_named_with_its_user() {
    if sensor(0).is_none() {
        return;
    }
    // The sensor comes second: the loop device, and so its bdi, is the one that other tests used.
    let bed = Loop::new(EXT4, "200M");
    let Some(mut sensor) = sensor(0) else { return };
    let (small, large) = (bed.file("small", 4), bed.file("large", 32));
    read_through(&small, 65536);
    read_through(&large, 65536);
    let files: Vec<FileUse> = sensor.files(&bed.bdi(), 1).unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].ino, fs::metadata(&large).unwrap().ino());
    assert_eq!(files[0].pid, std::process::id());
    assert_eq!(files[0].read_pages, 32 * PAGES_PER_MIB);
}

#[test]
fn advice_is_not_speculation_of_the_knob() {
    let Some(mut sensor) = sensor(0) else { return };
    let bed = Loop::new(EXT4, "100M");
    let path = bed.file("data", 8);
    let c = counted(&mut sensor, &bed.bdi(), || {
        let file = File::open(&path).unwrap();
        // SAFETY: fadvise takes no memory of ours; the descriptor is open.
        assert_eq!(unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 1 << 20, libc::POSIX_FADV_WILLNEED) }, 0);
    });
    assert_eq!((c.windows, c.spec_added, c.read_miss), (0, 0, 0));
}

#[test]
fn every_probe_attaches_where_the_kernel_is_new_enough() {
    let Some(mut sensor) = sensor(0) else { return };
    for probe in sensor.probes() {
        println!("{}: {:?} {:?}", probe.hook, probe.attached, probe.tried);
    }
    let full = sensor.read().unwrap().into_values().all(|s| s.completeness == Completeness::Full);
    assert_eq!(full, sensor.probes().iter().all(|p| !p.required || p.attached.is_some()));
    assert_eq!(sensor.overflow(), Default::default());
}

/// The verifier gives up after a million instructions on all paths together. One change took the probe of reads from 576 thousand to 998, and whether it
/// loaded was a matter of the random seed among its constants. Since loop and histograms are global functions it is 64 thousand.
#[test]
fn no_program_comes_near_what_the_verifier_looks_at() {
    let Some(_sensor) = sensor(0) else { return };
    let looked_at: Vec<_> = libbpf_rs::query::ProgInfoIter::default()
        // The kernel keeps 15 letters of a name: `map_pages__tp_b`, `ra_unbounded__t`.
        .filter(|program| program.name.to_string_lossy().contains("__t"))
        .map(|program| (program.verified_insns, program.name))
        .collect();
    assert!(looked_at.len() >= 10, "{looked_at:?}");
    assert!(looked_at.iter().all(|(instructions, _)| *instructions < 150_000), "{looked_at:?}");
}

#[test]
fn missing_btf_is_named_and_the_coarse_sensor_takes_over() {
    let places = Places { btf: "/nowhere/vmlinux".into(), ..Places::default() };
    let why = EbpfSensor::open(&places).err().expect("no BTF there");
    assert!(matches!(why, SensorError::NoBtf { .. }));
    assert!(why.to_string().contains("/nowhere/vmlinux is absent"), "{why}");
    let (sensor, why) = keepahead::sensor::open(true, &places);
    assert!(why.is_some() && sensor.missing().is_some());
}
