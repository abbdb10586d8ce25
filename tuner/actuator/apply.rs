// SPDX-License-Identifier: MIT OR Apache-2.0
//! Carries out a change: knob, read back, open files. And the same change as lines that a person applies by hand.

use super::error::ActuatorError;
use super::knob::Knob;
#[cfg(feature = "ebpf")]
use super::openfiles::OpenFilesActuator;
use crate::sensor::Inode;
use keepahead_core::device::{BdiName, Device, DeviceKind};
use keepahead_core::event::{Applied, OpenFiles};
use keepahead_core::units::Kib;

/// Something that changes `read_ahead_kb`. A dry run simply has none.
pub trait Actuate {
    /// Writes `to` where `from` stands, takes it to the open files, reports.
    fn set(&mut self, bdi: &BdiName, from: Kib, to: Kib) -> Result<Applied, ActuatorError>;
    /// Puts `original` back where `ours` still stands, open files included. Any original, odd ones too.
    fn restore(&mut self, bdi: &BdiName, ours: Kib, original: Kib) -> Result<Applied, ActuatorError>;
    /// What the knob holds now.
    fn value(&self, bdi: &BdiName) -> Result<Kib, ActuatorError>;
    /// Forgets a device that is gone.
    fn forget(&mut self, bdi: &BdiName);
}

/// The real one.
pub struct SysfsActuator {
    knob: Knob,
    #[cfg(feature = "ebpf")]
    files: Option<OpenFilesActuator>,
}

impl SysfsActuator {
    /// Writes knobs only: open files keep what they carry.
    pub fn new(knob: Knob) -> SysfsActuator {
        SysfsActuator {
            knob,
            #[cfg(feature = "ebpf")]
            files: None,
        }
    }

    /// Reaches open files as well.
    #[cfg(feature = "ebpf")]
    pub fn with_open_files(knob: Knob, files: OpenFilesActuator) -> SysfsActuator {
        SysfsActuator { knob, files: Some(files) }
    }

    /// Looks at the open files of these bdis, so that later changes tell advice from old values. At start and every few seconds.
    pub fn observe(&mut self, bdis: &[BdiName]) -> Result<(), ActuatorError> {
        #[cfg(feature = "ebpf")]
        if let Some(files) = &mut self.files {
            return files.observe(bdis);
        }
        let _ = bdis;
        Ok(())
    }

    /// Files of a workload that have a window of their own; none: it has ended.
    pub fn leave_alone(&mut self, workload: &BdiName, own: &[Inode]) {
        #[cfg(feature = "ebpf")]
        if let Some(files) = &mut self.files {
            files.leave_alone(workload, own);
        }
        let _ = (workload, own);
    }

    /// Takes the present value to the open files that the bound of files a second left over.
    pub fn refresh(&mut self, bdi: &BdiName, value: Kib) -> Result<OpenFiles, ActuatorError> {
        #[cfg(feature = "ebpf")]
        if let Some(files) = &mut self.files {
            return files.refresh(bdi, value, std::time::Instant::now());
        }
        let _ = (bdi, value);
        Ok(OpenFiles::default())
    }

    fn exchange(
        &mut self,
        bdi: &BdiName,
        old: Kib,
        wanted: Kib,
        write: fn(&Knob, &BdiName, Kib, Kib) -> Result<Kib, ActuatorError>,
    ) -> Result<Applied, ActuatorError> {
        // A listing that fails must neither keep a value from being restored nor hide that the write was done.
        if let Err(error) = self.observe(std::slice::from_ref(bdi)) {
            tracing::warn!(%bdi, %error, "open files not looked at before the change");
        }
        let read_back = write(&self.knob, bdi, old, wanted)?;
        let files = self.refresh(bdi, read_back).unwrap_or_else(|error| {
            tracing::warn!(%bdi, %error, "open files not reached");
            OpenFiles::default()
        });
        Ok(Applied { bdi: bdi.clone(), old, wanted, read_back, files })
    }
}

impl Actuate for SysfsActuator {
    fn set(&mut self, bdi: &BdiName, from: Kib, to: Kib) -> Result<Applied, ActuatorError> {
        self.exchange(bdi, from, to, Knob::write)
    }

    fn restore(&mut self, bdi: &BdiName, ours: Kib, original: Kib) -> Result<Applied, ActuatorError> {
        self.exchange(bdi, ours, original, Knob::restore)
    }

    fn value(&self, bdi: &BdiName) -> Result<Kib, ActuatorError> {
        self.knob.read(bdi)
    }

    fn forget(&mut self, bdi: &BdiName) {
        #[cfg(feature = "ebpf")]
        if let Some(files) = &mut self.files {
            files.forget(bdi);
        }
        let _ = bdi;
    }
}

/// The lines that make a value hold by hand: now (sysfs) and at every boot (a udev rule).
pub fn apply_lines(device: &Device, value: Kib) -> Vec<String> {
    let kib = value.0;
    let now = format!("echo {kib} > /sys/class/bdi/{}/read_ahead_kb", device.bdi);
    let rule = match udev_match(device) {
        Some(on) => format!("ACTION==\"add|change\", SUBSYSTEM==\"block\", {on}, ATTR{{queue/read_ahead_kb}}=\"{kib}\""),
        None => {
            format!("ACTION==\"add|change\", SUBSYSTEM==\"bdi\", KERNEL==\"{}\", ATTR{{read_ahead_kb}}=\"{kib}\"", device.bdi)
        }
    };
    vec![now, rule]
}

/// How udev recognises a block device, by what survives renumbering where it has such a thing.
fn udev_match(device: &Device) -> Option<String> {
    if matches!(device.kind, DeviceKind::Btrfs | DeviceKind::Nfs | DeviceKind::Fuse | DeviceKind::Other) {
        return None;
    }
    let (kind, value) = device.identity.split_once(':')?;
    // udev reads quotes, backslashes and globs in a pattern itself.
    let plain = !value.contains(['"', '\\', '*', '?', '[', '|']);
    Some(match kind {
        "dm-uuid" if plain => format!("ATTR{{dm/uuid}}==\"{value}\""),
        "md-uuid" if plain => format!("ATTR{{md/uuid}}==\"{value}\""),
        // `@` marks a serial number that more than one disk bears.
        "serial" if plain && !value.contains('@') => format!("ATTR{{serial}}==\"{value}\""),
        "wwid" if plain && !value.contains('_') && device.label.starts_with("nvme") => format!("ATTR{{wwid}}==\"{value}\""),
        "wwid" if plain && !value.contains('_') => format!("ATTRS{{wwid}}==\"{value}\""),
        "loop" if plain => {
            let file = value.rsplitn(4, ':').last().unwrap_or(value);
            format!("KERNEL==\"loop*\", ATTR{{loop/backing_file}}==\"{file}\"")
        }
        _ => format!("KERNEL==\"{}\"", device.label),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(kind: DeviceKind, label: &str, bdi: &str, identity: &str) -> Device {
        let (original, limits) = (Kib(128), Default::default());
        Device {
            bdi: BdiName(bdi.into()),
            node: None,
            label: label.into(),
            kind,
            identity: identity.into(),
            disks: vec![],
            original,
            limits,
        }
    }

    #[test]
    fn lines_to_apply_by_hand() {
        let lines = apply_lines(&device(DeviceKind::Disk, "vda", "254:0", "path:devices/x"), Kib(512));
        assert_eq!(lines[0], "echo 512 > /sys/class/bdi/254:0/read_ahead_kb");
        let rule = r#"ACTION=="add|change", SUBSYSTEM=="block", KERNEL=="vda", ATTR{queue/read_ahead_kb}="512""#;
        assert_eq!(lines[1], rule);
        let rule = &apply_lines(&device(DeviceKind::Nfs, "nas:/x on /mnt", "0:45", "nfs:nas:/x"), Kib(512))[1];
        assert!(rule.contains(r#"SUBSYSTEM=="bdi", KERNEL=="0:45", ATTR{read_ahead_kb}="512""#), "{rule}");
        let rule = &apply_lines(&device(DeviceKind::DeviceMapper, "dm-0", "253:0", "dm-uuid:LVM-abc"), Kib(64))[1];
        assert!(rule.contains(r#"ATTR{dm/uuid}=="LVM-abc""#), "{rule}");
        let rule = &apply_lines(&device(DeviceKind::Loop, "loop0", "7:0", "loop:/a/b.img:8:1:42"), Kib(64))[1];
        assert!(rule.contains(r#"ATTR{loop/backing_file}=="/a/b.img""#), "{rule}");
    }
}
