// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads single pages of a file in a given order and says of each whether it was cached. Takes the file; page numbers come on standard
//! input, 32 bits each, little-endian. Gives one byte a page on standard output, 1 for a hit, when all are read, and the time that took, ns
//! in 64 bits; then it waits for end of input, so that whoever started it can look at its memory.

use anyhow::{Context, bail};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

const PAGE: usize = 4096;

fn main() -> anyhow::Result<()> {
    const USAGE: &str = "usage: keepahead-accesses FILE <PAGES";
    let path = std::env::args().nth(1).context(USAGE)?;
    if path == "--help" || path == "-h" {
        println!("{USAGE}");
        return Ok(());
    }
    let file = std::fs::File::open(&path).with_context(|| path.clone())?;
    // Page by page: readahead plays no part.
    // SAFETY: plain numbers, and the descriptor is open.
    if unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) } != 0 {
        bail!("{path}: posix_fadvise");
    }
    let mut input = std::io::stdin().lock();
    let mut count = [0; 4];
    input.read_exact(&mut count)?;
    let mut pages = vec![0; u32::from_le_bytes(count) as usize * 4];
    input.read_exact(&mut pages)?;
    let start = std::time::Instant::now();
    let mut hits = Vec::with_capacity(pages.len() / 4);
    for page in pages.chunks_exact(4) {
        let page = u32::from_le_bytes([page[0], page[1], page[2], page[3]]);
        hits.push(u8::from(read(&file, u64::from(page) * PAGE as u64)?));
    }
    let elapsed = start.elapsed().as_nanos() as u64;
    let mut output = std::io::stdout().lock();
    output.write_all(&hits)?;
    output.write_all(&elapsed.to_le_bytes())?;
    output.flush()?;
    input.read_to_end(&mut pages)?;
    Ok(())
}

/// Whether the page was there without waiting. A try that fails has asked for the page but does not count as a use of it.
fn read(file: &std::fs::File, offset: u64) -> anyhow::Result<bool> {
    let mut page = [0u8; PAGE];
    let vector = libc::iovec { iov_base: page.as_mut_ptr().cast(), iov_len: PAGE };
    // SAFETY: one vector over a buffer of its length, both alive during the call.
    if unsafe { libc::preadv2(file.as_raw_fd(), &vector, 1, offset as i64, libc::RWF_NOWAIT) } == PAGE as isize {
        return Ok(true);
    }
    let error = std::io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::EAGAIN) {
        return Err(error).context("preadv2");
    }
    file.read_exact_at(&mut page, offset)?;
    Ok(false)
}
