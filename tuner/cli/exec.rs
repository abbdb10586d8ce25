// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead exec`: takes a command and which of its files matter, becomes that command with the preload shim in it. Without an
//! agent it becomes the plain command and says so.

use super::{ExecArgs, Exit, Refused, SocketArgs, socket};
use keepahead_client::Connection;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SHIM: &str = "libkeepahead_preload.so";

/// What the shim is told. The names of its environment are in `clients/preload/preload.c`.
pub struct Shim<'a> {
    pub at: &'a SocketArgs,
    /// Patterns with colons between; empty: every file.
    pub globs: String,
    pub hint: Option<&'a str>,
    pub min_kib: u64,
    pub budget_mib: u64,
}

pub fn run(args: ExecArgs) -> anyhow::Result<Exit> {
    // A colon is one of the pattern's own bytes here, and divides patterns there.
    let globs = args.globs.iter().map(|glob| glob.replace(':', "\\:")).collect::<Vec<_>>().join(":");
    let shim = Shim { at: &args.at, globs, hint: args.hint.as_deref(), min_kib: args.min_kib, budget_mib: args.budget_mib };
    become_command(&shim, &args.command)
}

/// Does not come back where the command can be run.
pub fn become_command(shim: &Shim<'_>, command: &[OsString]) -> anyhow::Result<Exit> {
    let (program, arguments) = command.split_first().ok_or_else(|| Refused::new(Exit::Usage, "no command"))?;
    let mut process = Command::new(program);
    process.args(arguments);
    let socket = socket::path(shim.at)?;
    match Connection::open(&socket) {
        Ok(_) => preload(&mut process, shim, &socket)?,
        Err(e) => eprintln!("keepahead: no agent at {}: {e}; running the command without it", socket.display()),
    }
    let failed = process.exec();
    let exit = if failed.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::NotExecutable };
    Err(Refused::new(exit, format!("{}: {failed}", program.display())).into())
}

fn preload(process: &mut Command, shim: &Shim<'_>, socket: &Path) -> anyhow::Result<()> {
    let mut libraries = find()?.into_os_string();
    if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        libraries.push(":");
        libraries.push(others);
    }
    process.env("LD_PRELOAD", libraries).env("KEEPAHEAD_SOCKET", socket);
    let mut set = |name: &str, value: Option<String>| {
        match value {
            Some(value) => process.env(name, value),
            None => process.env_remove(name),
        };
    };
    set("KEEPAHEAD_PRELOAD_MATCH", Some(shim.globs.clone()).filter(|globs| !globs.is_empty()));
    set("KEEPAHEAD_PRELOAD_HINT", shim.hint.map(Into::into));
    set("KEEPAHEAD_PRELOAD_MIN_KIB", Some(shim.min_kib.to_string()));
    set("KEEPAHEAD_PRELOAD_BUDGET_MIB", Some(shim.budget_mib.to_string()));
    Ok(())
}

/// The shim: beside this program (as it is built), in the lib directory beside its bin (as it is installed), or of the system.
fn find() -> Result<PathBuf, Refused> {
    let here = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned)).unwrap_or_default();
    let places = [here.clone(), here.join("../lib/keepahead"), "/usr/lib/keepahead".into(), "/usr/local/lib/keepahead".into()];
    let found = places.iter().map(|place| place.join(SHIM)).find_map(|file| file.canonicalize().ok());
    found.ok_or_else(|| {
        let looked = places.map(|p| p.display().to_string()).join(", ");
        let way = "build it with `make -C clients/c OUT=DIR` and put it beside this program";
        Refused::new(Exit::Missing, format!("there is no {SHIM} in {looked}; {way}"))
    })
}

/// A path as a pattern that fits it alone.
pub fn exactly(path: &str) -> String {
    path.chars().flat_map(|c| if "\\*?:".contains(c) { vec!['\\', c] } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_path_with_the_signs_of_patterns_is_itself() {
        assert_eq!(super::exactly("/a:b/*?\\"), "/a\\:b/\\*\\?\\\\");
    }
}
