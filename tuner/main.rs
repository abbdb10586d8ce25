// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program `keepahead`: takes the command line, gives an exit code. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    keepahead::cli::main()
}
