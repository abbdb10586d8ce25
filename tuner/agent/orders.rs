// SPDX-License-Identifier: MIT OR Apache-2.0
//! Orders from the control socket: each becomes inputs of `step`, journalled and carried out like any other, and an answer. And the
//! state that the socket shows.

use super::{Agent, report};
use crate::cli::in_words;
use crate::control::{self, Control, ControlError, DeviceState, Listening, Order, PressureMost, Snapshot};
use keepahead_core::device::{BdiName, Device, DeviceKind};
use keepahead_core::event::Input;
use keepahead_core::units::Kib;
use keepahead_core::watched::Watched;
use serde_json::{Value, json};

impl Agent {
    /// Opens the socket. Without it the loop runs all the same.
    pub(super) fn open_control(&mut self) -> Option<Control> {
        let config = &self.plan.config.control;
        if !config.enabled || self.plan.dry_run {
            return None;
        }
        let opened = || -> anyhow::Result<_> {
            let listening = Listening::open(config)?;
            let most = PressureMost::new(self.plan.config.settings.memory_pressure_max);
            let (board, end) = control::board(config.clone(), most)?;
            Ok((Control::start(listening, board)?, end))
        };
        match opened() {
            Ok((control, end)) => {
                self.board = Some(end);
                self.publish();
                Some(control)
            }
            Err(e) => {
                tracing::error!("no control socket: {}", in_words(&e));
                None
            }
        }
    }

    pub(super) fn publish(&self) {
        let Some(board) = &self.board else { return };
        let devices = self.state.devices().map(state_of).collect();
        let on_trial = self.state.devices().filter(|d| d.on_trial()).count();
        board.publish(Snapshot {
            policy: self.policy.name(),
            paused: self.state.paused(),
            on_trial,
            devices,
            ..Snapshot::default()
        });
    }

    pub(super) fn carry_out_orders(&mut self) -> anyhow::Result<()> {
        while let Some(asked) = self.board.as_ref().and_then(|b| b.next_order()) {
            let order = asked.order.to_string();
            let answer = self.carry_out(asked.order)?;
            match &answer {
                Ok(_) => tracing::info!("control: asked to {order}: done"),
                Err(why) => tracing::info!("control: asked to {order}: refused: {why}"),
            }
            self.publish();
            // Who asked may be gone.
            let _ = asked.answer.send(answer);
        }
        Ok(())
    }

    /// The outer error ends the agent, the inner one is the answer.
    fn carry_out(&mut self, order: Order) -> anyhow::Result<Result<Value, ControlError>> {
        let now = super::now();
        match order {
            Order::Pause => self.feed(Input::Pause { now })?,
            Order::Resume => self.feed(Input::Resume { now })?,
            Order::TakeBack(name) => {
                let only = match name.map(|name| self.named(&name)).transpose() {
                    Ok(only) => only.map(|device| device.bdi),
                    Err(e) => return Ok(Err(e)),
                };
                return Ok(Ok(json!({ "taken": self.take_back(only.as_ref())? })));
            }
            Order::Pin(name, value) => return self.pin(&name, value),
            Order::Unpin(name) => return self.unpin(&name),
            Order::Reload => return self.reload(),
            Order::Restore => return self.restore_all(),
        }
        Ok(Ok(json!({})))
    }

    fn pin(&mut self, name: &str, value: Kib) -> anyhow::Result<Result<Value, ControlError>> {
        let device = match self.named(name) {
            Ok(device) => device,
            Err(e) => return Ok(Err(e)),
        };
        let (floor, ceiling) = (self.state.settings.floor, self.state.settings.ceiling);
        let legal = value.0.is_power_of_two() && (floor..=ceiling).contains(&value);
        if !legal && value != device.original {
            let allowed = format!("a power of two from {} to {}, or the original, {}", floor.0, ceiling.0, device.original.0);
            return Ok(Err(ControlError::InvalidValue { parameter: "value_kib", value: value.0.to_string(), allowed }));
        }
        self.feed(Input::Pin { now: super::now(), bdi: device.bdi.clone(), value })?;
        Ok(self.now_reads(&device.bdi, Some(value)))
    }

    fn unpin(&mut self, name: &str) -> anyhow::Result<Result<Value, ControlError>> {
        let device = match self.named(name) {
            Ok(device) => device,
            Err(e) => return Ok(Err(e)),
        };
        if !self.state.devices().any(|d| d.device.bdi == device.bdi && d.pinned()) {
            return Ok(Err(ControlError::failed(format!("{} is not pinned", device.label))));
        }
        self.feed(Input::Unpin { now: super::now(), bdi: device.bdi.clone() })?;
        Ok(self.now_reads(&device.bdi, None))
    }

    /// What the knob reads; an error where that is not what was asked for.
    fn now_reads(&self, bdi: &BdiName, wanted: Option<Kib>) -> Result<Value, ControlError> {
        // Open files have no knob to read: what was written to them was read back by the step before.
        let owned = self.state.devices().find(|d| d.device.bdi == *bdi && d.device.kind == DeviceKind::OpenFiles);
        let found = match owned {
            Some(watched) => watched.current(),
            None => self.knob.read(bdi).map_err(ControlError::failed)?,
        };
        match wanted {
            Some(wanted) if wanted != found => {
                let label =
                    self.state.devices().find(|d| d.device.bdi == *bdi).map_or(bdi.to_string(), |d| d.device.label.clone());
                let why =
                    "the pin stands, and the write is done again until it succeeds; the log and `keepahead history` say why";
                Err(ControlError::failed(format!("{label} reads {found}, not {wanted}: {why}")))
            }
            _ => Ok(json!({ "read_back_kib": found.0 })),
        }
    }

    /// Every original comes back and stays: the loop is paused and each device pinned.
    fn restore_all(&mut self) -> anyhow::Result<Result<Value, ControlError>> {
        self.feed(Input::Pause { now: super::now() })?;
        let theirs = |d: &&Watched| !d.hands_off();
        let devices: Vec<Device> = self.state.devices().filter(theirs).map(|d| d.device.clone()).collect();
        let mut failed = Vec::new();
        for device in &devices {
            let Device { bdi, original, .. } = device;
            self.feed(Input::Pin { now: super::now(), bdi: bdi.clone(), value: *original })?;
            failed.extend(
                self.now_reads(bdi, Some(*original)).err().map(|e| format!("{}: {}", device.label, in_words(&e.into()))),
            );
        }
        Ok(match failed.is_empty() {
            true => Ok(json!({ "devices": devices.len() })),
            false => Err(ControlError::failed(format!("{} of {}: {}", failed.len(), devices.len(), failed.join("; ")))),
        })
    }

    fn named(&self, name: &str) -> Result<Device, ControlError> {
        let is = |d: &Device| [&d.bdi.0, &d.label, &d.identity].iter().any(|n| *n == name);
        let devices = || self.state.devices().map(|d| &d.device);
        let known = || devices().map(|d| d.label.clone()).collect();
        let found = devices().find(|d| is(d)).cloned();
        found.ok_or_else(|| ControlError::NoSuchDevice { device: name.into(), known: known() })
    }
}

fn state_of(watched: &Watched) -> DeviceState {
    let device = &watched.device;
    let state = match () {
        () if watched.on_trial() => "trial",
        () if watched.hands_off() => "hands_off",
        () if watched.pinned() => "pinned",
        () => "watching",
    };
    DeviceState {
        name: device.label.clone(),
        bdi: device.bdi.0.clone(),
        identity: device.identity.clone(),
        read_ahead_kib: watched.current().0,
        original_kib: device.original.0,
        state,
        pattern: watched.pattern().map(|p| p.to_string()),
        held: watched.held().map(report::hold),
    }
}
