//! x
pub mod cli;
pub mod journal;
