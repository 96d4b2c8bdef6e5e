//! What the program `zfs` was asked, by whomever in a test's namespaces. Owns the program that stands before the real one and writes it down.

use crate::disk::command;
use camino::Utf8PathBuf;
use std::fs;

/// Where programs are found before those of the system.
const BEFORE: &str = "/usr/local/sbin";

/// Writes down what it was asked, then is the real one: one short line at a time, so that those who ask at once do not mix.
const PROGRAM: &str =
    r#"printf '%s\n' '#!/bin/sh' 'echo "$*" >> ASKED' 'exec REAL "$@"' > PLACE && chmod 755 PLACE"#;

/// Everything that `zfs` is asked from now on.
#[derive(Debug)]
pub struct Asked {
    log: Utf8PathBuf,
}

impl Asked {
    /// From now on. `work` is a directory of the test's own, in namespaces of its own.
    ///
    /// # Panics
    /// If the program cannot be put there.
    #[must_use]
    pub fn of_zfs(work: &camino::Utf8Path) -> Asked {
        let log = work.join("zfs.asked");
        fs::write(&log, "").unwrap();
        let real = ["/usr/sbin/zfs", "/sbin/zfs"].into_iter().find(|path| fs::exists(path).unwrap());
        command(&["mount", "-t", "tmpfs", "-o", "mode=755", "none", BEFORE]);
        // Written by another process: a program that anybody here has open to be written is not run.
        let script = PROGRAM
            .replace("ASKED", log.as_str())
            .replace("REAL", real.expect("ZFS is installed"))
            .replace("PLACE", &format!("{BEFORE}/zfs"));
        command(&["sh", "-c", &script]);
        Asked { log }
    }

    /// What it was asked since this was asked last: the arguments of each call, in order.
    ///
    /// # Panics
    /// If that cannot be read.
    #[must_use]
    pub fn since(&self) -> Vec<String> {
        let asked = fs::read_to_string(&self.log).unwrap().lines().map(str::to_owned).collect();
        fs::write(&self.log, "").unwrap();
        asked
    }
}
