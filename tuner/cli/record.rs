// SPDX-License-Identifier: MIT OR Apache-2.0
//! `keepahead record`: takes its arguments, records, tells progress on standard error and the result on standard output.

use super::output::Format;
use super::{Exit, RecordArgs, Refused};

#[cfg(not(feature = "ebpf"))]
pub fn run(_args: RecordArgs, _format: Format) -> anyhow::Result<Exit> {
    Err(Refused::new(Exit::Missing, crate::sensor::SensorError::NotBuilt.to_string()).into())
}

#[cfg(feature = "ebpf")]
pub use probes::run;

#[cfg(feature = "ebpf")]
mod probes {
    use super::*;
    use crate::record::{End, Naming, Options, Progress, RecordError, Summary, record};
    use anyhow::Context;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use std::io::{IsTerminal, Read, Write};
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    pub fn run(args: RecordArgs, format: Format) -> anyhow::Result<Exit> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&stop)).context("signals")?;
        }
        let options = Options {
            device: args.device,
            out: args.out.clone(),
            duration: args.duration,
            one_file_in: args.sample_files,
            naming: naming(args.plain_paths, args.hash_key.as_deref())?,
            max_bytes: args.max_mib << 20,
            buffer_bytes: args.buffer_mib << 20,
        };
        let summary = record(options, &stop, &mut teller()).map_err(with_exit)?;
        say(&summary, &args.out, format)?;
        Ok(Exit::Ok)
    }

    fn naming(plain: bool, key: Option<&Path>) -> anyhow::Result<Naming> {
        if plain {
            return Ok(Naming::Plain);
        }
        let key = key.map(read_key).transpose()?;
        Naming::hashed(key).context("random numbers")
    }

    fn read_key(path: &Path) -> anyhow::Result<[u8; 16]> {
        let mut key = [0; 16];
        let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut key));
        let wrong = |e: std::io::Error| {
            let short = e.kind() == std::io::ErrorKind::UnexpectedEof;
            let why = if short { "it has fewer than 16 bytes".to_owned() } else { e.to_string() };
            let way_out = "a key is a file of 16 bytes or more: head -c 16 /dev/urandom";
            Refused::new(Exit::Usage, format!("--hash-key {}: {why}; {way_out}", path.display()))
        };
        read.map_err(wrong)?;
        Ok(key)
    }

    /// Rewrites one line a second on a terminal; elsewhere a line every ten seconds.
    fn teller() -> impl FnMut(&Progress) {
        let terminal = std::io::stderr().is_terminal();
        let mut told = -10.0;
        move |now| {
            let mib = now.bytes as f64 / f64::from(1 << 20);
            let line = format!("{:.0} s: {} accesses, {} lost, {mib:.1} MiB", now.seconds, now.accesses, now.lost);
            // Nobody left to tell is no reason to stop recording.
            if terminal {
                let _ = write!(std::io::stderr(), "\r{line}\x1b[K");
            } else if now.seconds - told >= 10.0 {
                told = now.seconds;
                let _ = writeln!(std::io::stderr(), "{line}");
            }
        }
    }

    fn with_exit(error: RecordError) -> anyhow::Error {
        let exit = match &error {
            RecordError::Device { .. } | RecordError::NotRecordable { .. } | RecordError::Exists { .. } => Exit::Usage,
            RecordError::Probes(_) => Exit::Missing,
            _ => return error.into(),
        };
        Refused::new(exit, error.to_string()).into()
    }

    fn say(summary: &Summary, out: &Path, format: Format) -> std::io::Result<()> {
        let mut to = std::io::stdout().lock();
        let Summary { end, totals, files, bytes, .. } = summary;
        let end = match end {
            End::Duration => "duration",
            End::Stopped => "signal",
            End::Size => "max-mib",
            End::Files => "files",
        };
        if format == Format::Json {
            let line = serde_json::json!({ "file": out, "bytes": bytes, "files": files, "ended_by": end, "totals": totals });
            return writeln!(to, "{line}");
        }
        if std::io::stderr().is_terminal() {
            eprintln!();
        }
        writeln!(to, "{}: {} accesses of {files} files in {bytes} bytes", out.display(), totals.accesses)?;
        if totals.events_lost > 0 {
            writeln!(to, "{} accesses were lost: try a larger --buffer-mib, or --sample-files", totals.events_lost)?;
        }
        if totals.files_sampled_out > 0 {
            writeln!(to, "{} files were left out by --sample-files", totals.files_sampled_out)?;
        }
        match summary.end {
            End::Size => writeln!(to, "ended at --max-mib"),
            End::Files => writeln!(to, "ended because a trace holds no more files: try --sample-files"),
            End::Duration | End::Stopped => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::one_in;

    #[test]
    fn a_share_is_one_in_so_many() {
        assert_eq!((one_in("1/1"), one_in("1/16")), (Ok(1), Ok(16)));
        for text in ["", "16", "1/0", "2/16", "1/", "1/-1", "1/9999999"] {
            assert!(one_in(text).is_err_and(|e| e.contains("1/N")), "{text}");
        }
    }
}
