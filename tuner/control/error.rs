// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a call can be refused with: takes a reason, gives the Varlink error of that name with its parameters. Each names the
//! thing and, where there is one, the limit.

use serde::Serialize;
use serde_json::{Value, json};

/// An error reply. Variants and fields are those of the interface description.
#[derive(Clone, Debug, PartialEq, Serialize, thiserror::Error)]
#[serde(untagged)]
pub enum ControlError {
    #[error("{method} needs the class {needs}, which {user} does not have; see [control] in the configuration")]
    NotPermitted { method: String, needs: &'static str, user: String },
    #[error("no tunable device is called {device}; known are {}", known.join(", "))]
    NoSuchDevice { device: String, known: Vec<String> },
    #[error("no workload {workload} of this connection or user")]
    NoSuchWorkload { workload: u64 },
    #[error("the workload has no file {file}, only {files}")]
    NoSuchFile { file: u64, files: u64 },
    #[error("the workload has no region {region}, only {regions}")]
    NoSuchRegion { region: u64, regions: u64 },
    #[error("descriptor {index}: {reason}")]
    BadDescriptor { index: u64, reason: String },
    #[error("{parameter} = {value}: allowed is {allowed}")]
    InvalidValue { parameter: &'static str, value: String, allowed: String },
    #[error("{what}: the limit is {limit}")]
    LimitReached { what: &'static str, limit: u64 },
    #[error("{advice}: {reason}")]
    DoYourself { advice: String, reason: String },
    #[error("{reason}")]
    Busy { reason: String },
    #[error("{reason}")]
    Failed { reason: String },
    /// An error of `org.varlink.service`.
    #[error("{name} {parameters}")]
    Service { name: &'static str, parameters: Value },
}

impl ControlError {
    /// The method or interface is not there, or its parameters are not as described.
    pub fn service(name: &'static str, parameter: &'static str, value: impl Into<String>) -> ControlError {
        ControlError::Service { name, parameters: json!({ parameter: value.into() }) }
    }

    pub fn failed(reason: impl ToString) -> ControlError {
        ControlError::Failed { reason: reason.to_string() }
    }

    /// The reply, as it goes over the socket.
    pub fn reply(&self) -> Value {
        if let ControlError::Service { name, parameters } = self {
            return json!({ "error": format!("org.varlink.service.{name}"), "parameters": parameters });
        }
        json!({ "error": format!("{}.{}", super::INTERFACE, self.name()), "parameters": self })
    }

    fn name(&self) -> &'static str {
        match self {
            ControlError::NotPermitted { .. } => "NotPermitted",
            ControlError::NoSuchDevice { .. } => "NoSuchDevice",
            ControlError::NoSuchWorkload { .. } => "NoSuchWorkload",
            ControlError::NoSuchFile { .. } => "NoSuchFile",
            ControlError::NoSuchRegion { .. } => "NoSuchRegion",
            ControlError::BadDescriptor { .. } => "BadDescriptor",
            ControlError::InvalidValue { .. } => "InvalidValue",
            ControlError::LimitReached { .. } => "LimitReached",
            ControlError::DoYourself { .. } => "DoYourself",
            ControlError::Busy { .. } => "Busy",
            ControlError::Failed { .. } => "Failed",
            ControlError::Service { name, .. } => name,
        }
    }
}
