// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one list of configuration keys: for each its limits, its unit, the place in [`Config`](super::Config) where it lives, and
//! what it means. Data only: the parser takes its limits from here, and `config/keepahead.toml` is written from it.

use super::READ_AHEAD_LIMITS;
use super::keys::{Key, Limit, ON_EXIT, POLICIES, SOCKET_MODES, Slot};

/// Keys of which the first must not be above the second.
pub const ORDERED: &[(&str, &str)] = &[
    ("bounds.floor_kib", "bounds.ceiling_kib"),
    ("trial.block_min_ms", "trial.block_max_ms"),
    ("trial.pairs_min", "trial.pairs_max"),
    ("trial.stall_margin_ratio", "trial.harm_ratio"),
    ("guards.cool_down_s", "guards.cool_down_max_s"),
    ("agent.trial_tick_ms", "agent.tick_ms"),
    // A block that ends between two ticks would not be seen to end.
    ("agent.trial_tick_ms", "trial.block_min_ms"),
];

const fn whole(low: u64, high: u64) -> Limit {
    Limit::Whole { low, high }
}

const fn number(low: f64, high: f64) -> Limit {
    Limit::Number { low, high }
}

const READ_AHEAD: Limit = Limit::PowerOfTwo { low: READ_AHEAD_LIMITS.0.0 as u64, high: READ_AHEAD_LIMITS.1.0 as u64 };

macro_rules! keys {
    ($($table:literal { $($name:literal, $limit:expr, $unit:literal, $slot:ident($($field:tt).+), $meaning:literal;)* })*) => {
        &[$($(Key {
            table: $table, name: $name, limit: $limit, unit: $unit, meaning: $meaning,
            slot: |c| Slot::$slot(&mut c.$($field).+),
        },)*)*]
    };
}

/// Every key, in the order of the documented file.
pub const KEYS: &[Key] = keys! {
    "devices" {
        "include", Limit::Globs, "", Globs(devices.include), "Devices to tune.";
        "exclude", Limit::Globs, "", Globs(devices.exclude), "Devices to leave alone, even if include names them.";
    }
    "bounds" {
        "floor_kib", READ_AHEAD, "KiB", U32(settings.floor.0), "No value below this is ever written.";
        "ceiling_kib", READ_AHEAD, "KiB", U32(settings.ceiling.0), "No value above this is ever written.";
        "max_step_factor", Limit::PowerOfTwo { low: 2, high: 262_144 }, "factor", U32(settings.max_step), "Largest factor between the present value and a candidate that no trial on this device has proven. The default is no limit: it leads from 1 GiB to a page; 4 makes a search of many small steps. Without full sensing, suggestions keep within 4.";
        "memory_share_percent", number(0.1, 50.0), "percent of MemAvailable", Percent(settings.memory_share), "What the windows of all active streams together may take.";
    }
    "trial" {
        "confidence", number(0.5, 0.9999), "probability", F64(settings.trial.confidence), "One-sided confidence of a verdict, over all looks of the sequential test together. Inconclusive means revert.";
        "washout_ms", whole(0, 60_000), "ms", Millis(settings.trial.washout), "Start of each block that is not measured: windows of the other value are still in flight.";
        "block_min_ms", whole(50, 60_000), "ms", Millis(settings.trial.block_min), "Shortest measured part of a block.";
        "block_max_ms", whole(50, 600_000), "ms", Millis(settings.trial.block_max), "Longest measured part of a block.";
        "block_pages", whole(1, 1_000_000_000), "demanded pages", U64(settings.trial.block_pages), "Demanded pages that end a block once block_min_ms is over; down to a 16th where the difference is plain.";
        "pairs_min", whole(2, 1000), "pairs of blocks", U32(settings.trial.pairs_min), "Pairs before the first verdict.";
        "pairs_max", whole(2, 1000), "pairs of blocks", U32(settings.trial.pairs_max), "Pairs after which an undecided trial is reverted; twice as many where a gain is in sight.";
        "harm_ratio", number(1.01, 100.0), "stall, new over old", F64(settings.trial.harm_ratio), "A block above this is clearly harmful and ends the trial, at once or, where the value was better in every block before, after a second.";
        "stall_margin_ratio", number(1.0, 2.0), "stall, new over old", F64(settings.trial.stall_margin), "How much worse stall may be and still count as not worse.";
        "hit_margin_points", number(0.0, 0.5), "hit ratio, 0 to 1", F64(settings.trial.hit_margin), "How far the hit ratio may fall and still count as not worse; more through mappings, whose hits are partly unseen.";
        "min_gain_percent", number(0.0, 90.0), "percent of stall", Percent(settings.trial.min_gain), "Smallest fall of stall worth keeping.";
        "waste_budget_percent", number(0.0, 100.0), "percent of the device's reads", Percent(settings.trial.waste_budget), "Speculative pages left unused that a kept value may cause beyond the old value's.";
    }
    "guards" {
        "window_s", whole(1, 60), "s", U32(settings.window_slots), "Length of the sliding window that decisions stand on.";
        "min_demand_pages_per_s", number(0.0, 1e9), "demanded pages a second", F64(settings.min_demand_pages_per_s), "Below this a device counts as idle: no trial. Below a 25th of it where somebody waits half of the time.";
        "min_stall_percent", number(0.0, 100.0), "percent of the time", Percent(settings.min_stall_share), "Share of the time that somebody waited for pages, below which there is nothing to gain.";
        "cool_down_s", whole(1, 86_400), "s", Secs(settings.cool_down), "Pause after a trial that was not kept; doubles with each further one in the same pattern, fourfold with harm once one has hurt at once.";
        "cool_down_max_s", whole(1, 604_800), "s", Secs(settings.cool_down_max), "Longest such pause.";
        "trials_per_hour", whole(0, 3600), "trials a device", U32(settings.trials_per_hour), "Trials that a device may start in an hour; 0 starts none.";
        "check_percent", number(0.0, 50.0), "percent of the time", Percent(settings.check_share), "What comparing a kept value with the one it replaced may take, to notice when it has become wrong; 0 never compares.";
        "memory_pressure_percent", number(0.0, 100.0), "percent, PSI memory some avg10", F64(settings.memory_pressure_max), "Above this nothing is raised.";
        "refaults_per_s", number(0.0, 1e9), "file pages a second", F64(settings.refaults_per_s_max), "Above this no value is raised.";
    }
    "agent" {
        "tick_ms", whole(100, 60_000), "ms", Millis(agent.tick), "Time between two looks at the devices.";
        "trial_tick_ms", whole(10, 10_000), "ms", Millis(agent.trial_tick), "The same while a trial runs; not longer than tick_ms or trial.block_min_ms.";
        "policy", Limit::Choice(POLICIES), "", Policy(settings.policy), "Who proposes values: the rules, or the learned policy (docs/training.md says how good it is). Trials verify both alike.";
        "model", Limit::Text, "", Path(agent.model), "The learned policy's model: a file that `keepahead train --out` has written. \"shipped\": the one inside the program. Where it is refused, the rules go on.";
        "on_exit", Limit::Choice(ON_EXIT), "", OnExit(agent.on_exit), "Whether the original values come back when the agent leaves, or those in force then stay: proven ones, and what a person has pinned.";
        "state_dir", Limit::AbsolutePath, "", Path(agent.state_dir), "Where the journal, the restore file and their lock, agent.lock, live. --state-dir wins over it. Another lock, /run/keepahead.lock, keeps it to one agent a machine wherever this is.";
        "log", Limit::LogFilter, "", Text(agent.log), "What is logged to standard error, as a tracing filter. The environment variable KEEPAHEAD_LOG wins over it.";
    }
    "open_files" {
        "enabled", Limit::Bool, "", Bool(open_files.enabled), "Refresh open files that still carry the old value. Those that the application advised itself are always left alone.";
        "files_per_second", whole(1, 100_000), "files a second", U32(open_files.files_per_second), "Most files refreshed in a second.";
        "allow", Limit::Rules, "", Rules(open_files.allow), "Processes whose files may be refreshed: all conditions of one rule must hold. Empty: every process.";
        "deny", Limit::Rules, "", Rules(open_files.deny), "Processes whose files are never refreshed, even if allow names them.";
    }
    "journal" {
        "inputs_mib", whole(1, 1_048_576), "MiB", U32(journal.inputs_mib), "Recorded inputs kept for replay; the oldest go first.";
        "records_days", whole(1, 36_500), "days", U32(journal.records_days), "Records kept for history.";
    }
    "control" {
        "enabled", Limit::Bool, "", Bool(control.enabled), "Open the socket. A dry run never does.";
        "socket", Limit::AbsolutePath, "", Path(control.socket), "Where it is. A socket that systemd hands over wins over it.";
        "mode", Limit::Choice(SOCKET_MODES), "", Mode(control.mode), "Who may connect: root, the group too, or every user.";
        "group", Limit::Text, "", Text(control.group), "Group of the socket, by name or number.";
        "monitor", Limit::Globs, "", Globs(control.monitor), "Who may look: Status, Devices, History, Trials.";
        "advise", Limit::Globs, "", Globs(control.advise), "Who may have files prefetched and dropped for him, by descriptors that he hands over.";
        "tune", Limit::Globs, "", Globs(control.tune), "Who may pause, resume, take back, pin and unpin.";
        "admin", Limit::Globs, "", Globs(control.admin), "Who may have all originals put back, and the configuration read again.";
        "budget_mib", whole(1, 1_048_576), "MiB", U32(control.budget_mib), "What is prefetched and not yet read, of all workloads together.";
    }
};

/// What each table is about.
pub const TABLES: &[(&str, &str)] = &[
    (
        "devices",
        "Which devices are tuned. Globs (* and ?) on the bdi name (259:0), the label (nvme0n1) or the identity, as `keepahead devices` shows them.",
    ),
    ("bounds", "Which values of read_ahead_kb may ever be written."),
    ("trial", "How a candidate is compared with the present value: blocks in tossed order, a sequential test."),
    ("guards", "What is not tried, and when."),
    ("agent", "How the agent runs."),
    ("open_files", "Files that were open before a change keep their old window until they are refreshed (POSIX_FADV_NORMAL)."),
    ("journal", "What is kept, for `keepahead history` and `keepahead replay`."),
    (
        "control",
        "The control socket (docs/control.md). Of those who may connect, each list names users (\"alice\", \"1000\"), groups (\"%staff\") or all (\"*\"); root may always.",
    ),
];

/// The list of rules for programs that cannot be changed.
pub const WORKLOAD: &str = "workload";
/// Rules: each takes a slot of the probes' counters, of which there are 64, on each device where it names files.
pub const WORKLOADS_MOST: usize = 32;
pub const WORKLOADS: &str = "\
# Programs that cannot be changed (docs/control.md): the open files that a rule names get a readahead window of their own, tried and
# verified like a device's. No rule: nothing of the kind happens. All conditions given must hold, and one must be given; the first
# rule that names a file has it. At most 32 rules. path: glob on the file's absolute path, symbolic links resolved. comm, uid, cgroup:
# as in open_files.allow.
#
# [[workload]]
# name = \"postgres\"
# comm = \"postgres*\"
# path = \"/srv/db/*\"
";
