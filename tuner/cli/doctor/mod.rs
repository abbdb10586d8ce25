// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead doctor`: takes what the machine says of itself, gives a [`Report`]: one [`Check`] a line with what it means and what
//! to do. Reads only. Probes and devices append their own checks to the same report.

mod kernel;
mod privilege;
mod surroundings;

use super::Exit;
use super::output::{self, Format};
use crate::actuator;
use crate::agent;
use crate::config::Config;
use crate::journal::{AgentLock, Journal, Outstanding};
use crate::sensor;
use keepahead_core::units::Kib;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ok,
    /// keepahead works, with something less exact or out of reach; the detail says what.
    Degraded,
    /// Without it keepahead cannot tune; the detail says what still works.
    Missing,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: String,
    pub status: Status,
    /// What was found, and what it means.
    pub detail: String,
    /// What to do about it; none where nothing needs doing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    pub fn ok(name: impl Into<String>, detail: impl Into<String>) -> Check {
        Check { name: name.into(), status: Status::Ok, detail: detail.into(), remedy: None }
    }

    pub fn degraded(name: impl Into<String>, detail: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { name: name.into(), status: Status::Degraded, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    pub fn missing(name: impl Into<String>, detail: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { status: Status::Missing, ..Check::degraded(name, detail, remedy) }
    }
}

/// All that was looked at, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub checks: Vec<Check>,
}

impl Report {
    /// The worst status of all checks.
    pub fn status(&self) -> Status {
        self.checks.iter().map(|c| c.status).max().unwrap_or(Status::Ok)
    }

    /// What a person reads: a line a check, its remedy below it, the upshot at the end.
    pub fn text(&self) -> String {
        let width = self.checks.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for check in &self.checks {
            let word = match check.status {
                Status::Ok => "ok",
                Status::Degraded => "degraded",
                Status::Missing => "MISSING",
            };
            text += &format!("{word:<8}  {:<width$}  {}\n", check.name, check.detail);
            if let Some(remedy) = &check.remedy {
                text += &format!("{:<8}  {:<width$}  -> {remedy}\n", "", "");
            }
        }
        text += match self.status() {
            Status::Ok => "\nAll that keepahead needs is here.\n",
            Status::Degraded => "\nkeepahead can tune here; what is less exact is said above.\n",
            Status::Missing => "\nkeepahead cannot tune here until what is MISSING is put right.\n",
        };
        text
    }
}

/// Where to look; tests point it at a fake tree.
#[derive(Clone, Debug)]
pub struct Roots {
    pub proc: PathBuf,
    pub sys: PathBuf,
    /// Bytes of a page, from the kernel.
    pub page_bytes: u64,
}

impl Default for Roots {
    fn default() -> Roots {
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
        Roots { proc: "/proc".into(), sys: "/sys".into(), page_bytes: page.and_then(|b| u64::try_from(b).ok()).unwrap_or(0) }
    }
}

/// Looks at the machine itself: kernel, privileges, surroundings. The caller appends probes and devices.
pub fn examine(roots: &Roots) -> Report {
    let mut checks = kernel::checks(roots);
    checks.extend(privilege::checks(roots));
    checks.extend(surroundings::checks(roots));
    Report { checks }
}

pub fn run(format: Format) -> anyhow::Result<Exit> {
    let mut report = examine(&Roots::default());
    report.checks.extend(probes());
    report.checks.extend(devices());
    report.checks.extend(left_behind());
    match format {
        Format::Text => output::text(&report.text())?,
        Format::Json => report.checks.iter().try_for_each(output::json_line)?,
    }
    Ok(if report.status() == Status::Missing { Exit::Missing } else { Exit::Ok })
}

/// Loads and attaches every probe for a moment, as `run` would.
fn probes() -> Vec<Check> {
    let (sensor, why) = sensor::open(true, &sensor::Places::default());
    if let Some(why) = why {
        return vec![Check::missing(
            "probes",
            why.to_string(),
            "until then only `keepahead run --dry-run` works, with coarse figures",
        )];
    }
    let check = |p: &sensor::ProbeStatus| {
        let name = format!("probe {}", p.hook);
        let tried: Vec<String> = p.tried.iter().map(|(how, why)| format!("{how}: {why}")).collect();
        match p.attached {
            Some(how) => Check::ok(name, format!("{how}: counts {}", p.counts)),
            None if p.required => Check::missing(name, format!("no trial without it: {}", p.lost), tried.join("; ")),
            None => Check::degraded(name, p.lost, tried.join("; ")),
        }
    };
    sensor.probes().iter().map(check).collect()
}

/// Values of an agent that was killed and has not been started again: of the configured state directory, and of the last one on this machine.
fn left_behind() -> Vec<Check> {
    let configured = Config::load_or_default(None).map_or_else(|_| Config::default().agent.state_dir, |c| c.agent.state_dir);
    let other = agent::other_state_dir(&configured);
    let dirs = std::iter::once(configured).chain(other);
    dirs.filter(|dir| !AgentLock::is_held(&Journal::lock_path(dir))).filter_map(|dir| values_left(&dir)).collect()
}

fn values_left(state_dir: &Path) -> Option<Check> {
    let words = |(o, value): (Outstanding, Kib)| format!("{} at {value} (the original is {})", o.label, o.original);
    let left: Vec<String> = agent::left_behind(state_dir).into_iter().map(words).collect();
    let detail = format!("an agent ended without putting back what it had written: {}", left.join(", "));
    let remedy = format!("keepahead restore --state-dir {}", state_dir.display());
    (!left.is_empty()).then(|| Check::degraded("values left", detail, remedy))
}

/// Odd inherited values, and who else writes the knob.
fn devices() -> Vec<Check> {
    let roots = actuator::Roots::default();
    let mut findings = actuator::doctor::other_writers(std::path::Path::new("/"));
    match actuator::discover(&roots) {
        Ok(found) => findings.extend(found.tunable.iter().flat_map(actuator::doctor::insane)),
        Err(e) => {
            return vec![Check::missing(
                "devices",
                e.to_string(),
                "keepahead needs to read /sys/class/bdi and /proc/self/mountinfo",
            )];
        }
    }
    if findings.is_empty() {
        return vec![Check::ok("devices", "no odd inherited value, and nobody else is known to write read_ahead_kb")];
    }
    findings.into_iter().map(|f| Check::degraded("devices", format!("{}: {}", f.what, f.why), f.remedy)).collect()
}

/// The trimmed text of a file, none where it cannot be read.
fn read(root: &std::path::Path, file: &str) -> Option<String> {
    std::fs::read_to_string(root.join(file)).ok().map(|s| s.trim().to_owned())
}

#[cfg(test)]
mod tests;
