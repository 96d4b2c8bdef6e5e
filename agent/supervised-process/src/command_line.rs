//! What a process was told: read from `/proc`, and compared with what it would have been told.

use rustix::io::Errno;
use std::{fs, io};

/// The words of a command line behind the program's name, without their zeros.
pub type Words<'a> = &'a [&'a [u8]];

/// The processes that were told something, whether they have their directories yet or not: those that a look will soon find, or that will
/// end by themselves because another one has it. That they say so proves nothing.
///
/// # Errors
/// If the system does not tell which processes there are.
pub fn started(is_told: impl Fn(Words<'_>) -> bool) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Of a process that may not be looked at nothing is known: it is another user's, and so are its directories.
        let Ok(Some(line)) = of_process(pid) else { continue };
        if words_of(&line).get(1..).is_some_and(&is_told) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// What it was started with; none if it is gone.
pub(crate) fn of_process(pid: u32) -> io::Result<Option<Vec<u8>>> {
    match fs::read(format!("/proc/{pid}/cmdline")) {
        Err(error) if is_gone(&error) => Ok(None),
        other => other.map(Some),
    }
}

/// The program's name, and what it was told.
pub(crate) fn words_of(line: &[u8]) -> Vec<&[u8]> {
    line.split(|byte| *byte == 0).collect()
}

/// The word behind these, if it was told these.
pub(crate) fn behind<'a>(words: &[&'a [u8]], expected: &[&str]) -> Option<&'a str> {
    let (said, rest) = words.split_at_checked(expected.len())?;
    let is_told = said.iter().copied().eq(expected.iter().map(|word| word.as_bytes()));
    std::str::from_utf8(rest.first()?).ok().filter(|_| is_told)
}

/// ESRCH: it ended between open and read.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}
