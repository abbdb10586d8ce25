// SPDX-License-Identifier: MIT OR Apache-2.0
//! `org.varlink.service`: who this is and what it offers. Takes a call, gives its answer, or `None` where it is not of that interface.

use super::INTERFACE;
use super::error::ControlError;
use keepahead_client::call::Call;
use serde_json::{Value, json};

/// The description that the methods implement; docs/control.md explains it.
pub const DESCRIPTION: &str = include_str!("io.keepahead.Control.varlink");

const SERVICE: &str = "org.varlink.service";

/// As the Varlink specification gives it (varlink.org/Service).
const SERVICE_DESCRIPTION: &str = "interface org.varlink.service

method GetInfo() -> (vendor: string, product: string, version: string, url: string, interfaces: []string)
method GetInterfaceDescription(interface: string) -> (description: string)

error InterfaceNotFound (interface: string)
error MethodNotFound (method: string)
error MethodNotImplemented (method: string)
error InvalidParameter (parameter: string)
error PermissionDenied ()
error ExpectedMore ()
";

/// Everybody who may connect may ask.
pub fn answer(call: &Call) -> Option<Result<Value, ControlError>> {
    let method = call.method.strip_prefix(SERVICE)?.strip_prefix('.')?;
    Some(match method {
        "GetInfo" => Ok(json!({
            "vendor": "keepahead", "product": "keepahead", "version": env!("CARGO_PKG_VERSION"),
            "url": env!("CARGO_PKG_REPOSITORY"), "interfaces": [SERVICE, INTERFACE],
        })),
        "GetInterfaceDescription" => match call.parameters.as_ref().map(|p| &p["interface"]) {
            Some(Value::String(name)) if name == INTERFACE => Ok(json!({ "description": DESCRIPTION })),
            Some(Value::String(name)) if name == SERVICE => Ok(json!({ "description": SERVICE_DESCRIPTION })),
            Some(Value::String(name)) => Err(ControlError::service("InterfaceNotFound", "interface", name)),
            _ => Err(ControlError::service("InvalidParameter", "parameter", "interface")),
        },
        _ => Err(ControlError::service("MethodNotFound", "method", &call.method)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::access::Class;

    #[test]
    fn description_methods_errors_and_reference_agree() {
        let methods: Vec<&str> = DESCRIPTION
            .lines()
            .filter_map(|line| line.strip_prefix("method ").and_then(|rest| rest.split('(').next()))
            .collect();
        assert_eq!(methods.len(), 23);
        assert!(methods.iter().all(|m| Class::of(m).is_some()));
        let reference = include_str!("../../docs/control.md");
        let errors = DESCRIPTION.lines().filter_map(|line| line.strip_prefix("error ").and_then(|rest| rest.split(' ').next()));
        for name in methods.iter().copied().chain(errors) {
            assert!(reference.contains(&format!("`{name}`")), "docs/control.md does not tell of {name}");
        }
        let error = ControlError::NoSuchFile { file: 1, files: 0 }.reply();
        assert_eq!(error["error"], "io.keepahead.Control.NoSuchFile");
        assert!(DESCRIPTION.contains("error NoSuchFile (file: int, files: int)"));
    }

    #[test]
    fn the_reference_states_the_limits_as_they_are() {
        use crate::control::limits as l;
        let reference = include_str!("../../docs/control.md");
        let row = |what: &str, limit: String| {
            let line = reference.lines().find(|line| line.starts_with(&format!("| {what}"))).unwrap_or_default();
            assert!(line.contains(&limit), "docs/control.md: {what} is {limit}: {line:?}");
        };
        row("bytes of a message", l::MESSAGE_BYTES.to_string());
        row("messages above 16 KiB", l::LARGE_MESSAGES_PER_USER.to_string());
        row("descriptors in a message", l::MESSAGE_FDS.to_string());
        row("connections", format!("{}, of one user other than root {}", l::CONNECTIONS, l::CONNECTIONS_PER_USER));
        row("workloads", format!("{}, of one connection {}", l::WORKLOADS, l::WORKLOADS_PER_CLIENT));
        row("characters of a workload's name", l::NAME_CHARS.to_string());
        row("files of a workload", l::FILES_PER_WORKLOAD.to_string());
        row("files of a workload with a window", l::FILES_WITH_WINDOW.to_string());
        row("ranges ahead", format!("{}; in all plans {}", l::RANGES_PER_WORKLOAD, l::RANGES));
        row("ranges in one", l::RANGES_AT_ONCE.to_string());
        row("regions of a workload", l::REGIONS_PER_WORKLOAD.to_string());
        row("a wait for orders", format!("{} s", l::ORDERS_WAIT.as_secs()));
        row("a begun message", format!("{} s", l::STALLED.as_secs()));
        row("time for an order", format!("{} s", l::AGENT_ANSWERS.as_secs()));
    }
}
