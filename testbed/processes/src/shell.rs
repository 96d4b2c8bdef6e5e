//! Scripts that a person might type: run by bash, in a directory of their own. Owns how one is started, and how long it may take.

use crate::group::Group;
use camino::Utf8Path;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid},
};
use std::{
    fs,
    process::{Child, Command, Stdio},
};

/// A shell, and all that it has started; ended with this. What it has left in the background goes on until then.
#[derive(Debug)]
pub struct Shell {
    // It is ended before the shell is waited for.
    group: Option<Group>,
    child: Child,
}

impl Shell {
    /// Starts it, in the group. It ends where a command fails; what it says goes behind what is in `output`.
    ///
    /// # Panics
    /// If there is no bash, or no such directory.
    #[must_use]
    pub fn start(
        group: Group,
        script: &str,
        directory: &Utf8Path,
        output: &Utf8Path,
        variables: &[(&str, &str)],
    ) -> Shell {
        let said = fs::File::options().create(true).append(true).open(output).unwrap();
        let mut command = Command::new("bash");
        command.args(["-eu", "-o", "pipefail", "-c", script]).current_dir(directory);
        command.envs(variables.iter().copied()).stdin(Stdio::null());
        command.stdout(said.try_clone().unwrap()).stderr(said);
        group.add(&mut command);
        Shell { child: command.spawn().expect("bash is there"), group: Some(group) }
    }

    /// Whether it has ended in so many seconds, and without an error.
    ///
    /// # Panics
    /// If the system does not say.
    pub fn ends_well(&self, seconds_max: i64) -> bool {
        // It is not waited for: it may be asked again.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = || waitid(WaitId::Pid(Pid::from_child(&self.child)), look).unwrap().unwrap();
        has_ended(&self.child, seconds_max) && status().exit_status() == Some(0)
    }
}

/// Whether a child that was not waited for has ended in so many seconds.
///
/// # Panics
/// If the system does not say.
#[must_use]
pub fn has_ended(child: &Child, seconds_max: i64) -> bool {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap();
    let limit = Timespec { tv_sec: seconds_max, tv_nsec: 0 };
    poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)).unwrap() == 1
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.group = None;
        let _ = self.child.wait();
    }
}
