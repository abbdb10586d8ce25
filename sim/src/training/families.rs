// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs on a world's machine: a function a family, each takes random numbers and memory, gives a workload's name, its pattern by
//! construction and its tables of a scenario. The text goes through the public parser, so a world can be saved and run by hand.

use super::draw::{Machine, between, machine, one_of};
use super::runs::pattern;
use super::{DURATION_S, TrainingError, World};
use crate::scenario::Scenario;
use crate::workload::distribution::{Distribution, random};
use crate::workload::place::Access;
use keepahead_core::event::Pattern;
use rand::Rng;
use rand_xoshiro::Xoshiro256StarStar as Rngs;

/// A family's draw.
struct Drawn {
    workload: String,
    pattern: Pattern,
    text: String,
}

/// Draws a workload for a machine with so many KiB of page cache.
type Family = fn(&mut Rngs, f64) -> Drawn;

/// All families, by name.
pub const FAMILIES: [&str; 16] = [
    "sequential-read",
    "sequential-mmap",
    "reverse",
    "strided",
    "runs-read",
    "runs-mmap",
    "random-read",
    "random-mmap",
    "zipf-mmap",
    "streams",
    "epochs",
    "weights",
    "database",
    "backup",
    "log",
    "install",
];

const DRAW: [Family; 16] = [
    |rng, cache| sequential(rng, cache, Access::Read),
    |rng, cache| sequential(rng, cache, Access::Mmap),
    reverse,
    strided,
    |rng, cache| runs(rng, cache, Access::Read),
    |rng, cache| runs(rng, cache, Access::Mmap),
    |rng, cache| at_random(rng, cache, Access::Read, false),
    |rng, cache| at_random(rng, cache, Access::Mmap, false),
    |rng, cache| at_random(rng, cache, Access::Mmap, true),
    streams,
    epochs,
    weights,
    database,
    backup,
    log,
    install,
];

/// World number `number` of a seed; those of other numbers do not move it.
pub fn world(seed: u64, number: u32) -> Result<World, TrainingError> {
    let mut rng = random(seed, u64::from(number) + 1);
    let Machine { device, kernel, memory_mib, text } = machine(&mut rng);
    let family = number as usize % FAMILIES.len();
    let drawn = DRAW[family](&mut rng, f64::from(memory_mib) * 1024.0);
    let name = format!("{}-{number}", drawn.workload);
    let head = format!("name = \"{name}\"\nshows = \"training\"\nduration_s = {DURATION_S}\nseed = {}\n", rng.r#gen::<u32>());
    let scenario = Scenario::parse(&format!("{head}{text}{}", drawn.text));
    Ok(World {
        number,
        scenario: scenario.map_err(|error| TrainingError::Scenario { workload: name, error: Box::new(error) })?,
        workload: drawn.workload,
        family: FAMILIES[family].into(),
        device: device.into(),
        kernel,
        memory_mib,
        pattern: drawn.pattern,
    })
}

fn files(name: &str, count: u32, kib: f64) -> String {
    format!("[[files]]\nname = \"{name}\"\ncount = {count}\nsize_kib = {}\n", kib as u64)
}

fn task(copies: u32, think_us: f64, program: &str) -> String {
    format!("[[task]]\nname = \"reader\"\ncopies = {copies}\nthink_us = {{ exponential = {think_us:.2} }}\nprogram.{program}\n")
}

fn word(access: Access) -> &'static str {
    if access == Access::Mmap { "mmap" } else { "read" }
}

/// Larger than the cache, so that what is evicted would come round again.
fn data(rng: &mut Rngs, cache: f64) -> f64 {
    cache * between(rng, 1.5, 8.0)
}

/// Request size of a reader, KiB: what `dd`, `cat`, `cp`, `tar` and databases ask for.
fn request(rng: &mut Rngs, access: Access) -> u32 {
    if access == Access::Mmap { 4 } else { one_of(rng, &[4, 16, 32, 64, 128, 128, 256]) }
}

/// Computing a page, µs: 0.5 (adding it up) to 20 (decompressing it).
fn per_page(rng: &mut Rngs) -> f64 {
    between(rng, 0.5, 20.0)
}

fn sequential(rng: &mut Rngs, cache: f64, access: Access) -> Drawn {
    let (request, copies) = (request(rng, access), one_of(rng, &[1, 1, 1, 2, 4]));
    let think = per_page(rng) * f64::from(request / 4);
    let size = data(rng, cache) / f64::from(copies);
    // A file for each: two that read the same one would follow each other through the cache, or not, by chance.
    let reader = |copy: u32| {
        let program =
            format!("sequential = {{ files = \"data{copy}\", access = \"{}\", request_kib = {request} }}", word(access));
        files(&format!("data{copy}"), 1, size) + &task(1, think, &program).replace("reader", &format!("reader{copy}"))
    };
    let text = (0..copies).map(reader).collect();
    Drawn { workload: format!("sequential-{}", word(access)), pattern: Pattern::Sequential, text }
}

/// Backward. Through a mapping, read-around serves it and a larger window pays, as for a scan; a `read(2)` that begins below the last
/// one is a random one to the kernel (`page_cache_sync_ra`, mm/readahead.c).
fn reverse(rng: &mut Rngs, cache: f64) -> Drawn {
    let access = one_of(rng, &[Access::Mmap, Access::Mmap, Access::Read]);
    let request = if access == Access::Mmap { 4 } else { one_of(rng, &[4, 16, 64, 128]) };
    let think = per_page(rng) * f64::from(request / 4);
    let program = format!("reverse = {{ files = \"data\", access = \"{}\", request_kib = {request} }}", word(access));
    let pattern = if access == Access::Mmap { Pattern::Sequential } else { Pattern::RandomRead };
    let text = files("data", 1, data(rng, cache)) + &task(1, think, &program);
    Drawn { workload: format!("reverse-{}", word(access)), pattern, text }
}

fn strided(rng: &mut Rngs, cache: f64) -> Drawn {
    let access = one_of(rng, &[Access::Mmap, Access::Mmap, Access::Read]);
    let request = one_of(rng, &[4, 8, 16, 32, 64]);
    // Farther than fault-around reaches (64 KiB): nearer strides are runs with gaps.
    let stride = (request * one_of(rng, &[4, 8, 16, 64])).max(request + 128);
    let think = per_page(rng) * if access == Access::Mmap { 1.0 } else { f64::from(request / 4) };
    let program = format!(
        "strided = {{ files = \"data\", access = \"{}\", request_kib = {request}, stride_kib = {stride} }}",
        word(access)
    );
    let pages = f64::from(request / 4);
    let in_request = if access == Access::Mmap { 1.0 } else { pages };
    let text = files("data", 1, data(rng, cache) * 2.0) + &task(1, think, &program);
    Drawn {
        workload: format!("strided-{}", word(access)),
        pattern: pattern(access, in_request, &Distribution::Fixed(pages)),
        text,
    }
}

/// Runs at random places: mostly 3 to 64 pages, some longer. Runs of some hundred pages are long ones, whatever they are called. (A mean
/// of two pages is the border to single pages: nothing that acts on it could be right or wrong.)
fn runs(rng: &mut Rngs, cache: f64, access: Access) -> Drawn {
    let long = rng.r#gen::<f64>() < 0.25;
    let median = if long { between(rng, 128.0, 2048.0) } else { between(rng, 3.0, 40.0) };
    let (sigma, max) = (between(rng, 0.05, 0.6), if long { 8192.0 } else { 64.0 });
    let request = if access == Access::Mmap || median < 8.0 { 4 } else { one_of(rng, &[4, 8, 16]) };
    let copies = one_of(rng, &[1, 1, 2, 4]);
    let think = per_page(rng) * f64::from(request / 4);
    let program = format!(
        "runs = {{ files = \"data\", access = \"{}\", request_kib = {request}, pages = {{ lognormal = {{ median = {median:.1}, \
         sigma = {sigma:.2}, max = {max} }} }} }}",
        word(access)
    );
    let text = files("data", 1, data(rng, cache) * 2.0) + &task(copies, think, &program);
    Drawn {
        workload: format!("{}-runs-{}", if long { "long" } else { "short" }, word(access)),
        pattern: pattern(access, f64::from(request / 4), &Distribution::Lognormal { median, sigma, max }),
        text,
    }
}

fn at_random(rng: &mut Rngs, cache: f64, access: Access, zipf: bool) -> Drawn {
    let request = if access == Access::Mmap { 4 } else { one_of(rng, &[4, 4, 8, 16, 32, 64]) };
    let popular = if zipf { format!(", zipf = {:.2}", between(rng, 0.6, 1.3)) } else { String::new() };
    let copies = one_of(rng, &[1, 1, 2, 4, 8]);
    // Together at most 250,000 a second: where popular records are all cached, a run is nothing but computing, and costs the most.
    let think = between(rng, 4.0, 200.0) * f64::from(copies);
    let program = format!("random = {{ files = \"data\", access = \"{}\", request_kib = {request}{popular} }}", word(access));
    let text = files("data", 1, data(rng, cache) * 2.0) + &task(copies, think, &program);
    let pages = f64::from(request / 4);
    Drawn {
        workload: format!("{}-{}", if zipf { "zipf" } else { "random" }, word(access)),
        pattern: pattern(access, pages, &Distribution::Fixed(pages)),
        text,
    }
}

/// Several scans in turn, each with a descriptor of its own: video servers, merges.
fn streams(rng: &mut Rngs, cache: f64) -> Drawn {
    let access = one_of(rng, &[Access::Read, Access::Read, Access::Mmap]);
    // Within one file, the sensor takes one task's streams for jumps: seldom drawn, since threads and processes are tasks of their own.
    let streams = one_of(rng, &[2, 4, 6, 8]);
    let request = if access == Access::Mmap { 4 } else { one_of(rng, &[16, 32, 64, 128]) };
    let count = if access == Access::Mmap { streams } else { one_of(rng, &[1, streams, streams, streams]) };
    let turns = one_of(rng, &["round_robin", "random"]);
    let think = per_page(rng) * f64::from(request / 4);
    let program = format!(
        "streams = {{ files = \"data\", access = \"{}\", request_kib = {request}, streams = {streams}, turns = \"{turns}\" }}",
        word(access)
    );
    let text = files("data", count, data(rng, cache) * 2.0 / f64::from(count)) + &task(1, think, &program);
    Drawn { workload: format!("streams-{}", word(access)), pattern: Pattern::Sequential, text }
}

/// A training data loader: whole files in shuffled order. Sequential, however small they are.
fn epochs(rng: &mut Rngs, cache: f64) -> Drawn {
    let large = rng.r#gen::<f64>() < 0.5;
    let median = if large { between(rng, 512.0, 4096.0) } else { between(rng, 24.0, 128.0) };
    let sigma = between(rng, 0.2, 0.6);
    let request = if large { one_of(rng, &[4, 16, 64]) } else { one_of(rng, &[4, 8]) };
    let max = median * 8.0;
    let count = (data(rng, cache) / median).clamp(8.0, 20_000.0) as u32;
    let (copies, think) = (one_of(rng, &[1, 2, 4]), per_page(rng) * f64::from(request / 4) * 2.0);
    let text = format!(
        "[[files]]\nname = \"data\"\ncount = {count}\nsize_kib = {{ lognormal = {{ median = {median:.0}, sigma = {sigma:.2}, \
         max = {max:.0} }} }}\n"
    ) + &task(copies, think, &format!("epochs = {{ files = \"data\", request_kib = {request} }}"));
    Drawn { workload: "epochs".into(), pattern: Pattern::Sequential, text }
}

/// A model's weights through a mapping: each tensor in order, the tensors not.
fn weights(rng: &mut Rngs, cache: f64) -> Drawn {
    let (median, sigma) = (between(rng, 512.0, 16_384.0), between(rng, 0.3, 1.2));
    let max = (median * 16.0).min(65_536.0);
    let program = format!(
        "weights = {{ files = \"data\", tensor_kib = {{ lognormal = {{ median = {median:.0}, sigma = {sigma:.2}, max = {max:.0} }} \
         }}, repeat = true }}"
    );
    let size = (data(rng, cache) * 2.0).max(median * 4.0);
    let text = files("data", one_of(rng, &[1, 3]), size) + &task(1, per_page(rng), &program);
    let pages = Distribution::Lognormal { median: median / 4.0, sigma, max: max / 4.0 };
    Drawn { workload: "weights".into(), pattern: pattern(Access::Mmap, 1.0, &pages), text }
}

/// RocksDB's `db_bench`. With the default memtable no compaction falls into the run, and lookups alone remain; with one of 2 MiB they
/// run beside each other.
fn database(rng: &mut Rngs, cache: f64) -> Drawn {
    let benchmark = one_of(
        rng,
        &["readseq", "readreverse", "readrandom", "seekrandom", "readrandomwriterandom", "updaterandom", "mixgraph"],
    );
    let writes = matches!(benchmark, "readrandomwriterandom" | "updaterandom" | "mixgraph");
    let access = if benchmark == "readreverse" || rng.r#gen::<f64>() < 0.75 { Access::Mmap } else { Access::Read };
    let memtable = one_of(rng, &[65_536, 2048]);
    // RocksDB's default of 4 KiB, less what a block ends short of it, crosses a page's border nine times in ten: runs of 1.9 pages, named
    // single faults as the rules name them (below 2).
    let block = one_of(rng, &[1900, 3750, 8000, 12_000, 16_000]);
    let nexts = one_of(rng, &[20, 50, 100]);
    let program = format!(
        "rocksdb = {{ files = \"data\", log = \"log\", benchmark = \"{benchmark}\", access = \"{}\", block_bytes = {block}, \
         nexts = {nexts}, memtable_kib = {memtable} }}",
        word(access)
    );
    let text = files("data", 8, data(rng, cache) / 4.0) + &files("log", 1, 4.0) + &task(1, between(rng, 2.0, 20.0), &program);
    let pages = f64::from(block).div_euclid(4096.0) + 1.0;
    let pattern = match benchmark {
        "readseq" | "readreverse" => Pattern::Sequential,
        "seekrandom" => pattern(access, 1.0, &Distribution::Fixed((f64::from(nexts) * 416.0 / 4096.0).ceil() + pages)),
        _ if writes && memtable < 65_536 => Pattern::Mixed,
        _ if access == Access::Read => Pattern::RandomRead,
        _ if block < 4096 => Pattern::RandomMmap,
        _ => Pattern::ShortRuns,
    };
    let beside = if writes && memtable < 65_536 { "-compacting" } else { "" };
    Drawn { workload: format!("db-{benchmark}-{}{beside}", word(access)), pattern, text }
}

/// A backup reads everything once while a mapped database serves.
fn backup(rng: &mut Rngs, cache: f64) -> Drawn {
    let request = one_of(rng, &[64, 128, 256]);
    let copies = one_of(rng, &[1, 1, 2, 4]);
    let think = between(rng, 4.0, 100.0) * f64::from(copies);
    let zipf = if rng.r#gen::<f64>() < 0.5 { format!(", zipf = {:.2}", between(rng, 0.6, 1.1)) } else { String::new() };
    let scan = format!("sequential = {{ files = \"rest\", request_kib = {request} }}");
    let text = files("data", 1, data(rng, cache))
        + &files("rest", 4, data(rng, cache))
        + &task(copies, think, &format!("random = {{ files = \"data\", access = \"mmap\"{zipf} }}"))
        + &task(1, per_page(rng) * f64::from(request / 4), &scan).replace("reader", "backup");
    Drawn { workload: "backup-over-serving".into(), pattern: Pattern::Mixed, text }
}

/// A log and a reader that lags behind its end; those at the end never reach the disk.
fn log(rng: &mut Rngs, cache: f64) -> Drawn {
    let every = between(rng, 0.5, 4.0);
    let median = between(rng, 4.0, 64.0);
    let size = data(rng, cache) * 2.0;
    let lag = (size * 0.9) as u64;
    let text = files("log", 1, size)
        + &format!(
            "[[task]]\nname = \"broker\"\narrival = {{ every_ms = {every:.2} }}\nprogram.log = {{ files = \"log\", record_kib = {{ \
             lognormal = {{ median = {median:.0}, sigma = 0.8, max = 512 }} }}, sync_every = 200, reader_lag_kib = [{lag}] }}\n"
        );
    Drawn { workload: "log-tail".into(), pattern: Pattern::Sequential, text }
}

/// Many small files, each read from start to end once and written elsewhere.
fn install(rng: &mut Rngs, cache: f64) -> Drawn {
    // `cp` and `tar` ask for more than most files have; 4 KiB is what stdio asks for.
    let request = one_of(rng, &[4, 128]);
    let median = if request == 4 { between(rng, 16.0, 48.0) } else { between(rng, 4.0, 24.0) };
    let group = |name: &str| {
        format!(
            "[[files]]\nname = \"{name}\"\ncount = 20000\nsize_kib = {{ lognormal = {{ median = {median:.1}, sigma = 1.2, max = 2048 }} }}\n"
        )
    };
    let program = format!("install = {{ files = \"data\", to = \"new\", request_kib = {request}, sync_every = 500 }}");
    let text = group("data") + &group("new") + &task(1, between(rng, 20.0, 200.0), &program);
    let _ = cache;
    Drawn { workload: "install".into(), pattern: Pattern::Sequential, text }
}
