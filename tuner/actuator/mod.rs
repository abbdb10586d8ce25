// SPDX-License-Identifier: MIT OR Apache-2.0
//! Acting on the machine: which devices there are, their knobs, their open files, and who else writes them. One write, read back,
//! reported; nothing here chooses a value or tries again.

#[cfg(feature = "ebpf")]
mod advice;
pub mod apply;
pub mod capability;
mod descend;
pub mod discover;
pub mod doctor;
mod error;
pub mod file_window;
pub mod hotplug;
mod identity;
pub mod knob;
mod mounts;
mod network;
#[cfg(feature = "ebpf")]
pub mod openfiles;
pub mod ruled;
pub mod rules;
pub mod scan;
#[cfg(feature = "ebpf")]
mod throttle;
pub mod watch;

pub use apply::{Actuate, SysfsActuator, apply_lines};
pub use discover::{Discovery, NotTunable, Roots, discover};
pub use error::ActuatorError;
pub use hotplug::{Hotplug, Plugged};
