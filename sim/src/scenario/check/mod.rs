// SPDX-License-Identifier: MIT OR Apache-2.0
//! Refuses the impossible before anything runs: takes a scenario as read, gives the first thing in it that cannot be, with its key,
//! value, limit and the way out. Upper limits are there so that no slip of the pen fills the memory or runs for a day.

mod programs;

use super::error::ScenarioError;
use super::layout::Layout;
use super::schema::{Band, MACHINE, Scenario, TaskEntry, What};
use crate::device::Profile;
use crate::workload::distribution::Distribution;
use crate::workload::pace::Arrival;

/// A day of virtual time.
const LONGEST_S: f64 = 86_400.0;
/// Cgroups of 1 KiB to 16 TiB.
const MEMORY_MIB: (f64, f64) = (0.001, (1u64 << 24) as f64);
/// 1 GiB: `read_ahead_kb` itself knows no limit.
const READ_AHEAD_KB: f64 = (1u64 << 20) as f64;

/// Quantities that know how to check themselves.
pub(super) trait Checked {
    /// All samples must lie in `low..=high`, in the key's unit.
    fn check(&self, key: &str, low: f64, high: f64, way_out: &str) -> Result<(), ScenarioError>;
}

impl Checked for Distribution {
    fn check(&self, key: &str, low: f64, high: f64, way_out: &str) -> Result<(), ScenarioError> {
        let within = |v: f64| range(key, v, low, high, way_out);
        let order = |a: f64, b: f64, words: &str| {
            if a <= b {
                Ok(())
            } else {
                Err(ScenarioError::impossible(key, format!("[{a}, {b}]"), words, "write the smaller one first"))
            }
        };
        match self {
            Distribution::Fixed(value) => within(*value),
            Distribution::Uniform(a, b) => within(*a).and(within(*b)).and(order(*a, *b, "must be [LOW, HIGH]")),
            // A mean of 0 has no distribution.
            Distribution::Exponential(mean) => range(key, *mean, low.max(1e-6), high, way_out),
            Distribution::Lognormal { median, sigma, max } => {
                range(format!("{key}.lognormal.median"), *median, low.max(1e-6), high, way_out)?;
                range(format!("{key}.lognormal.max"), *max, low, high, way_out)?;
                range(format!("{key}.lognormal.sigma"), *sigma, 0.0, 10.0, "1 is already wide: 95 % lie within a factor of 7")?;
                order(*median, *max, "the median must not be above max")
            }
            Distribution::Choice(values) if values.is_empty() => {
                Err(ScenarioError::impossible(key, "[]", "must have at least one value", "write the values to choose from"))
            }
            Distribution::Choice(values) => values.iter().try_for_each(|v| within(*v)),
        }
    }
}

/// `value` must lie in `low..=high`; NaN does not.
pub(super) fn range(key: impl std::fmt::Display, value: f64, low: f64, high: f64, way_out: &str) -> Result<(), ScenarioError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let limit = if high == f64::MAX { format!("must be at least {low}") } else { format!("must be {low} to {high}") };
    Err(ScenarioError::impossible(key, value, &limit, way_out))
}

/// Index of the device with this label; `key` is where the label stands.
pub(super) fn device(scenario: &Scenario, key: &str, label: &str) -> Result<usize, ScenarioError> {
    let labels: Vec<&str> = scenario.devices.iter().map(|d| d.label.as_str()).collect();
    labels.iter().position(|l| *l == label).ok_or_else(|| {
        let way_out = format!("use one of these: {}", labels.join(", "));
        ScenarioError::impossible(key, format!("{label:?}"), "is no [[device]]", &way_out)
    })
}

/// Index of the cgroup of this name: `machine` is the first.
pub(super) fn cgroup(scenario: &Scenario, key: &str, name: &str) -> Result<usize, ScenarioError> {
    let names: Vec<&str> = std::iter::once(MACHINE).chain(scenario.cgroups.iter().map(|c| c.name.as_str())).collect();
    names.iter().position(|n| *n == name).ok_or_else(|| {
        let way_out = format!("use one of these: {}", names.join(", "));
        ScenarioError::impossible(key, format!("{name:?}"), "is no [[cgroup]]", &way_out)
    })
}

pub(super) fn check(scenario: &Scenario) -> Result<(), ScenarioError> {
    range("duration_s", scenario.duration_s, 0.001, LONGEST_S, "60 to 180 s are enough to settle")?;
    range("sensor_noise", scenario.sensor_noise, 0.0, 1.0, "0.1 is already much: the sensor's figures are off by 10 %")?;
    range("wake_us", scenario.wake_us, 0.0, 10_000.0, "hardware takes about 5, virtual machines about 28")?;
    super::settings::merged(&scenario.settings)?;
    ladder(&scenario.ladder_kib)?;
    bands(scenario)?;
    // What devices are held against.
    memory(scenario)?;
    devices(scenario)?;
    let layout = Layout::new(scenario)?;
    unique("task", scenario.tasks.iter().map(|t| t.name.as_str()))?;
    if scenario.tasks.is_empty() {
        return Err(ScenarioError::impossible("task", "[]", "must have at least one entry", "add a [[task]]; one may be idle"));
    }
    let mut opened = 0.0;
    for (i, entry) in scenario.tasks.iter().enumerate() {
        let key = format!("task[{i}]");
        task(scenario, &key, entry)?;
        let files = programs::check(&format!("{key}.program"), &entry.program, &layout, scenario)?;
        opened += entry.copies as f64 * files as f64;
        // A process may open 2^20 files (`fs.nr_open`); here it bounds memory.
        range(format!("{key}.copies"), opened, 0.0, (1u64 << 20) as f64, "the files opened by all tasks so far are too many")?;
    }
    happenings(scenario)
}

fn ladder(values: &[u32]) -> Result<(), ScenarioError> {
    for (i, value) in values.iter().enumerate() {
        let key = format!("ladder_kib[{i}]");
        range(&key, f64::from(*value), 4.0, READ_AHEAD_KB, "below 4 KiB every read becomes a request of one page")?;
        if i > 0 && *value <= values[i - 1] {
            return Err(ScenarioError::impossible(key, value, "must be above the one before it", "sort the values"));
        }
    }
    Ok(())
}

fn unique<'a>(list: &str, names: impl Iterator<Item = &'a str>) -> Result<(), ScenarioError> {
    let mut seen = std::collections::BTreeSet::new();
    for (i, name) in names.enumerate() {
        let part = if list == "device" { "label" } else { "name" };
        if name.is_empty() || !seen.insert(name) {
            let way_out = "give each a name of its own";
            return Err(ScenarioError::impossible(
                format!("{list}[{i}].{part}"),
                format!("{name:?}"),
                "is empty or there already",
                way_out,
            ));
        }
    }
    Ok(())
}

fn bands(scenario: &Scenario) -> Result<(), ScenarioError> {
    let b = &scenario.bands;
    let all = [
        ("regret_percent", b.regret_percent),
        ("changes", b.changes),
        ("settle_s", b.settle_s),
        ("worst_moment_ratio", b.worst_moment_ratio),
        ("pollution_mib_per_s", b.pollution_mib_per_s),
    ];
    for (name, band) in all.into_iter().filter_map(|(n, b)| Some((n, b?))) {
        let Band { min, max } = band;
        let (low, high) = (min.unwrap_or(f64::MIN), max.unwrap_or(f64::MAX));
        // NaN is in no range, so it is refused too.
        if !(f64::MIN..=high).contains(&low) {
            let value = format!("{{ min = {low}, max = {high} }}");
            return Err(ScenarioError::impossible(format!("bands.{name}"), value, "min must not be above max", "swap them"));
        }
    }
    Ok(())
}

fn devices(scenario: &Scenario) -> Result<(), ScenarioError> {
    if scenario.devices.is_empty() {
        return Err(ScenarioError::impossible("device", "[]", "must have at least one entry", "add a [[device]]"));
    }
    unique("device", scenario.devices.iter().map(|d| d.label.as_str()))?;
    for (i, entry) in scenario.devices.iter().enumerate() {
        read_ahead(scenario, &format!("device[{i}].read_ahead_kb"), entry.read_ahead_kb)?;
        profile(scenario, i)?;
    }
    Ok(())
}

/// The device's profile with its own figures.
pub(super) fn profile(scenario: &Scenario, index: usize) -> Result<Profile, ScenarioError> {
    let entry = &scenario.devices[index];
    let mut table = entry.figures.clone();
    if let Some(name) = &entry.profile {
        table.insert("profile".into(), name.clone().into());
    }
    Profile::from_table(table).map_err(|e| {
        let (part, value) = match &entry.profile {
            Some(name) if entry.figures.is_empty() => ("profile", format!("{name:?}")),
            _ => ("figures", toml::Value::Table(entry.figures.clone()).to_string()),
        };
        ScenarioError::impossible(
            format!("device[{index}].{part}"),
            value,
            &e.to_string(),
            "correct the profile or its figures",
        )
    })
}

/// No cache may be smaller than two windows: while one is read, the next is on its way, and the first would be evicted unread.
fn read_ahead(scenario: &Scenario, key: &str, kib: u32) -> Result<(), ScenarioError> {
    range(key, f64::from(kib), 0.0, READ_AHEAD_KB, "the kernel's default is 128")?;
    let shrunk = scenario.happenings.iter().filter_map(|h| match &h.what {
        What::MemoryLimit { memory_mib, .. } => Some(*memory_mib),
        _ => None,
    });
    let all = std::iter::once(scenario.memory_mib).chain(scenario.cgroups.iter().map(|c| c.memory_mib)).chain(shrunk);
    let most = all.fold(f64::INFINITY, f64::min) * 1024.0 / 2.0;
    range(
        key,
        f64::from(kib),
        0.0,
        most,
        "the smallest memory_mib must hold two windows: make it larger, or the window smaller",
    )
}

fn memory(scenario: &Scenario) -> Result<(), ScenarioError> {
    range("memory_mib", scenario.memory_mib, MEMORY_MIB.0, MEMORY_MIB.1, "write the page cache that fits, in MiB")?;
    unique("cgroup", scenario.cgroups.iter().map(|c| c.name.as_str()))?;
    for (i, entry) in scenario.cgroups.iter().enumerate() {
        let key = format!("cgroup[{i}].memory_mib");
        range(key, entry.memory_mib, MEMORY_MIB.0, MEMORY_MIB.1, "write the page cache that fits, in MiB")?;
        if entry.name == MACHINE {
            let way_out = "its size is memory_mib at the top";
            return Err(ScenarioError::impossible(format!("cgroup[{i}].name"), MACHINE, "is there already", way_out));
        }
    }
    Ok(())
}

fn task(scenario: &Scenario, key: &str, entry: &TaskEntry) -> Result<(), ScenarioError> {
    if let Some(name) = &entry.cgroup {
        cgroup(scenario, &format!("{key}.cgroup"), name)?;
    }
    range(format!("{key}.start_s"), entry.start_s, 0.0, scenario.duration_s, "start within duration_s")?;
    range(format!("{key}.copies"), entry.copies as f64, 1.0, 10_000.0, "use fewer tasks, or the program streams")?;
    pace(key, &entry.think_us, entry.arrival)
}

pub(super) fn pace(key: &str, think_us: &Distribution, arrival: Arrival) -> Result<(), ScenarioError> {
    // 1000 s of thought between two operations.
    think_us.check(
        &format!("{key}.think_us"),
        0.0,
        1e9,
        "time does not run backwards; use the program idle for long pauses",
    )?;
    let (name, value, low, high) = match arrival {
        Arrival::Closed => return Ok(()),
        Arrival::EveryMs(ms) => ("every_ms", ms, 0.001, 1e6),
        Arrival::PoissonPerS(rate) => ("poisson_per_s", rate, 0.001, 1e6),
    };
    range(format!("{key}.arrival.{name}"), value, low, high, "leave arrival out for a closed loop")
}

fn happenings(scenario: &Scenario) -> Result<(), ScenarioError> {
    let mut times = 0.0;
    for (i, entry) in scenario.happenings.iter().enumerate() {
        let at = format!("happening[{i}]");
        range(format!("{at}.at_s"), entry.at_s, 0.0, scenario.duration_s, "it must happen within duration_s")?;
        times += 1.0;
        if let Some(every) = entry.every_s {
            range(format!("{at}.every_s"), every, 0.01, LONGEST_S, "leave it out for once")?;
            times += scenario.duration_s / every;
        }
        range(&at, times, 0.0, 1e6, "all happenings so far are too many")?;
        what(scenario, &format!("{at}.what"), &entry.what)?;
    }
    Ok(())
}

fn what(scenario: &Scenario, key: &str, what: &What) -> Result<(), ScenarioError> {
    let disk = |name: &str, label: &str| device(scenario, &format!("{key}.{name}.device"), label).map(drop);
    match what {
        What::AdminWrites { device, read_ahead_kb } => {
            disk("admin_writes", device)?;
            read_ahead(scenario, &format!("{key}.admin_writes.read_ahead_kb"), *read_ahead_kb)
        }
        What::KernelRaises { device, read_ahead_kb, .. } => {
            disk("kernel_raises", device)?;
            read_ahead(scenario, &format!("{key}.kernel_raises.read_ahead_kb"), *read_ahead_kb)
        }
        What::MemoryLimit { cgroup: name, memory_mib } => {
            cgroup(scenario, &format!("{key}.memory_limit.cgroup"), name)?;
            let key = format!("{key}.memory_limit.memory_mib");
            range(key, *memory_mib, MEMORY_MIB.0, MEMORY_MIB.1, "write the page cache that fits, in MiB")
        }
        What::Degrade { device, latency, slowdown } => {
            disk("degrade", device)?;
            range(format!("{key}.degrade.latency"), *latency, 0.001, 1e6, "1 changes nothing")?;
            range(format!("{key}.degrade.slowdown"), *slowdown, 0.001, 1e6, "1 changes nothing")
        }
        What::Sensor { device, .. } => disk("sensor", device),
        What::MemoryPressure { percent } => {
            range(format!("{key}.memory_pressure.percent"), *percent, 0.0, 100.0, "it is a share of time in percent")
        }
        What::DropCaches => Ok(()),
    }
}
