//! Scripts that a person might type: run by bash, in a directory of their own, with the built programs in their path.

use camino::Utf8Path;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid},
};
use std::{
    env, fs,
    os::fd::AsFd,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

/// Seconds that all of it may take. Alone it takes some 15.
const SECONDS_MAX: i64 = 120;

/// An address of this machine that no other process of the test uses: loopback has 16 million.
pub(crate) fn address_of_this_process() -> String {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    format!("127.{}.{middle}.{low}", 64 + high % 128)
}

/// A shell, and all that it has started; ended with this.
pub(crate) struct Shell(Child);

impl Shell {
    pub(crate) fn start(script: &str, directory: &Utf8Path, output: &Utf8Path) -> Shell {
        let program = Utf8Path::new(env!("CARGO_BIN_EXE_sled-agent"));
        let programs = program.parent().expect("a program lies in a directory");
        let path = format!("{programs}:{}", env::var("PATH").unwrap_or_default());
        let said = fs::File::options().create(true).append(true).open(output).unwrap();
        let mut command = Command::new("bash");
        command.args(["-eu", "-o", "pipefail", "-c", script]).current_dir(directory).env("PATH", path);
        command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said).process_group(0);
        Shell(command.spawn().expect("bash is there"))
    }

    /// Whether it has ended in time, and without an error.
    pub(crate) fn ends_well(&mut self) -> bool {
        let ended = pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty()).unwrap();
        let limit = Timespec { tv_sec: SECONDS_MAX, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&limit)).unwrap();
        // It stays where it is until what it has started is ended: its number is that of the group.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        ready == 1 && waitid(WaitId::PidFd(ended.as_fd()), look).unwrap().unwrap().exit_status() == Some(0)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The shell is waited for below, so the group is still its own.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}
