// SPDX-License-Identifier: MIT OR Apache-2.0
//! A script as text: one statement a line, `#` starts a comment. `read_ahead_kb` comes first, then the files with their bytes, then the
//! operations. Errors name the line.
//!
//! ```text
//! read_ahead_kb 128
//! file f0 1048577
//! open d0 f0
//! pread d0 0 4096            # offset and bytes
//! mmap m0 d0 0 64            # first page of the file and pages
//! touch m0 3                 # page of the file
//! fadvise d0 willneed 0 0    # offset and bytes, 0 bytes to the end
//! madvise m0 random 0 64     # first page of the file and pages
//! read_ahead_kb 256
//! munmap m0
//! close d0
//! ```

use super::{Fadvice, MAX_FILE_BYTES, MAX_NUMBER, MAX_READ_AHEAD_KB, Madvice, Op, Script, Standing, within};
use std::fmt;
use std::str::FromStr;

/// What is wrong with a script, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {trouble}")]
pub struct ScriptError {
    pub line: usize,
    pub trouble: Trouble,
}

/// What is wrong with one statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("{word:?} is no statement of a script")]
    Unknown { word: String },
    #[error("{what} is missing")]
    Missing { what: &'static str },
    #[error("{what}: {word:?} is not what belongs here")]
    Malformed { what: &'static str, word: String },
    #[error("{word:?} is too much on this line")]
    Surplus { word: String },
    #[error("{what}: {value} is above {limit}")]
    TooLarge { what: &'static str, value: u64, limit: u64 },
    #[error("f{file}: the script has {files} files, numbered from 0")]
    NoFile { file: u32, files: usize },
    #[error("{kind}{number} is in use: close or unmap it first")]
    Taken { kind: char, number: u32 },
    #[error("{kind}{number} does not exist here")]
    NotThere { kind: char, number: u32 },
    #[error("{pages} pages from {page} do not lie within pages {first}..{end}")]
    OutOfRange { page: u64, pages: u64, first: u64, end: u64 },
    #[error("the first statement must be read_ahead_kb")]
    NoReadAhead,
    #[error("files are numbered from 0 in order, before the operations; f{expected} is next")]
    FileOrder { expected: usize },
    #[error("an event before the first operation")]
    EventWithoutOperation,
}

/// The words of one line, taken one by one.
pub(crate) struct Words<'a>(std::str::SplitWhitespace<'a>);

impl<'a> Words<'a> {
    pub(crate) fn of(line: &'a str) -> Words<'a> {
        Words(line.split('#').next().unwrap_or("").split_whitespace())
    }

    pub(crate) fn word(&mut self, what: &'static str) -> Result<&'a str, Trouble> {
        self.0.next().ok_or(Trouble::Missing { what })
    }

    pub(crate) fn parse<T: FromStr>(&mut self, what: &'static str) -> Result<T, Trouble> {
        let word = self.word(what)?;
        word.parse().map_err(|_| Trouble::Malformed { what, word: word.into() })
    }

    /// A number after a prefix: `f3`, `index=17`.
    pub(crate) fn tagged<T: FromStr>(&mut self, prefix: &'static str) -> Result<T, Trouble> {
        let word = self.word(prefix)?;
        let value = word.strip_prefix(prefix).and_then(|rest| rest.parse().ok());
        value.ok_or_else(|| Trouble::Malformed { what: prefix, word: word.into() })
    }

    pub(crate) fn next(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    pub(crate) fn end(&mut self) -> Result<(), Trouble> {
        self.0.next().map_or(Ok(()), |word| Err(Trouble::Surplus { word: word.into() }))
    }
}

/// Puts a script together line by line; `recording` adds lines of its own.
#[derive(Default)]
pub(crate) struct Builder {
    read_ahead_kb: Option<u32>,
    files: Vec<u64>,
    script: Option<Script>,
    standing: Standing,
}

impl Builder {
    /// One line of a script. `true` if it held an operation.
    pub(crate) fn line(&mut self, line: &str) -> Result<bool, Trouble> {
        let mut words = Words::of(line);
        let Some(word) = words.next() else { return Ok(false) };
        match (word, self.read_ahead_kb) {
            ("read_ahead_kb", None) => {
                let kib: u32 = words.parse("KiB")?;
                within("read_ahead_kb", u64::from(kib), u64::from(MAX_READ_AHEAD_KB))?;
                self.read_ahead_kb = Some(kib);
                words.end()?;
                Ok(false)
            }
            (_, None) => Err(Trouble::NoReadAhead),
            ("file", _) => self.file(&mut words).map(|()| false),
            (_, Some(kib)) => {
                let op = op(word, &mut words)?;
                let files = &mut self.files;
                let script = self.script.get_or_insert_with(|| Script {
                    read_ahead_kb: kib,
                    files: std::mem::take(files),
                    ops: Vec::new(),
                });
                self.standing.apply(script, &op)?;
                script.ops.push(op);
                Ok(true)
            }
        }
    }

    fn file(&mut self, words: &mut Words) -> Result<(), Trouble> {
        let expected = self.script.as_ref().map_or(self.files.len(), |script| script.files.len());
        let file: usize = words.tagged("f")?;
        if self.script.is_some() || file != expected {
            return Err(Trouble::FileOrder { expected });
        }
        let bytes = words.parse("bytes")?;
        within("file's bytes", bytes, MAX_FILE_BYTES)?;
        within("files", expected as u64, u64::from(MAX_NUMBER))?;
        self.files.push(bytes);
        words.end()
    }

    pub(crate) fn finish(self) -> Result<Script, Trouble> {
        let read_ahead_kb = self.read_ahead_kb.ok_or(Trouble::NoReadAhead)?;
        Ok(self.script.unwrap_or(Script { read_ahead_kb, files: self.files, ops: Vec::new() }))
    }
}

fn op(word: &str, words: &mut Words) -> Result<Op, Trouble> {
    let op = match word {
        "open" => Op::Open { fd: words.tagged("d")?, file: words.tagged("f")? },
        "close" => Op::Close { fd: words.tagged("d")? },
        "pread" => Op::Pread { fd: words.tagged("d")?, offset: words.parse("offset")?, bytes: words.parse("bytes")? },
        "mmap" => {
            let (map, fd) = (words.tagged("m")?, words.tagged("d")?);
            Op::Mmap { map, fd, page: words.parse("first page")?, pages: words.parse("pages")? }
        }
        "munmap" => Op::Munmap { map: words.tagged("m")? },
        "touch" => Op::Touch { map: words.tagged("m")?, page: words.parse("page")? },
        "fadvise" => {
            let (fd, advice) = (words.tagged("d")?, words.parse("advice")?);
            Op::Fadvise { fd, advice, offset: words.parse("offset")?, bytes: words.parse("bytes")? }
        }
        "madvise" => {
            let (map, advice) = (words.tagged("m")?, words.parse("advice")?);
            Op::Madvise { map, advice, page: words.parse("first page")?, pages: words.parse("pages")? }
        }
        "read_ahead_kb" => Op::ReadAheadKb(words.parse("KiB")?),
        _ => return Err(Trouble::Unknown { word: word.into() }),
    };
    words.end()?;
    Ok(op)
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Script, ScriptError> {
        let mut builder = Builder::default();
        let mut last = 0;
        for (at, line) in text.lines().enumerate() {
            last = at + 1;
            builder.line(line).map_err(|trouble| ScriptError { line: last, trouble })?;
        }
        builder.finish().map_err(|trouble| ScriptError { line: last, trouble })
    }
}

impl Script {
    /// The lines before the operations.
    pub(crate) fn head(&self) -> String {
        let files = self.files.iter().enumerate().map(|(n, bytes)| format!("file f{n} {bytes}\n"));
        format!("read_ahead_kb {}\n", self.read_ahead_kb) + &files.collect::<String>()
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head())?;
        self.ops.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Op::Open { fd, file } => write!(f, "open d{fd} f{file}"),
            Op::Close { fd } => write!(f, "close d{fd}"),
            Op::Pread { fd, offset, bytes } => write!(f, "pread d{fd} {offset} {bytes}"),
            Op::Mmap { map, fd, page, pages } => write!(f, "mmap m{map} d{fd} {page} {pages}"),
            Op::Munmap { map } => write!(f, "munmap m{map}"),
            Op::Touch { map, page } => write!(f, "touch m{map} {page}"),
            Op::Fadvise { fd, advice, offset, bytes } => write!(f, "fadvise d{fd} {} {offset} {bytes}", advice.name()),
            Op::Madvise { map, advice, page, pages } => write!(f, "madvise m{map} {} {page} {pages}", advice.name()),
            Op::ReadAheadKb(kib) => write!(f, "read_ahead_kb {kib}"),
        }
    }
}

/// Gives an enum its words, both ways.
macro_rules! words {
    ($kind:ident: $($variant:ident $word:literal),+) => {
        impl $kind {
            pub const ALL: &[$kind] = &[$($kind::$variant),+];

            pub fn name(self) -> &'static str {
                match self { $($kind::$variant => $word),+ }
            }
        }

        impl FromStr for $kind {
            type Err = ();

            fn from_str(word: &str) -> Result<$kind, ()> {
                $kind::ALL.iter().copied().find(|one| one.name() == word).ok_or(())
            }
        }
    };
}

words!(Fadvice: Normal "normal", Sequential "sequential", Random "random", Noreuse "noreuse", Willneed "willneed", Dontneed "dontneed");
words!(Madvice: Normal "normal", Sequential "sequential", Random "random", Willneed "willneed", Dontneed "dontneed");
