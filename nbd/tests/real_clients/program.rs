//! Programs that are clients. Owns how one is run and ended, how long it may take, and what is said if it is not there.

use camino_tempfile::tempfile;
use std::{
    fs::File,
    io::{self, Read, Seek},
    process::{Child, Command, ExitStatus, Stdio},
};
use test_processes::{Group, has_ended};

/// Seconds that one run may take. They take less than one; a machine that is busy with other tests is slow.
const RUN_SECONDS_MAX: i64 = 120;

/// A client that is installed with a Debian package.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    name: &'static str,
    package: &'static str,
}

pub(crate) const QEMU_IO: Program = Program { name: "qemu-io", package: "qemu-utils" };
pub(crate) const QEMU_IMG: Program = Program { name: "qemu-img", package: "qemu-utils" };
pub(crate) const QEMU_NBD: Program = Program { name: "qemu-nbd", package: "qemu-utils" };
pub(crate) const NBDINFO: Program = Program { name: "nbdinfo", package: "libnbd-bin" };
pub(crate) const NBDCOPY: Program = Program { name: "nbdcopy", package: "libnbd-bin" };
pub(crate) const FIO: Program = Program { name: "fio", package: "fio" };

/// What a run has left.
pub(crate) struct Finished {
    command: String,
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Program {
    pub(crate) fn run<I: AsRef<str>>(self, arguments: impl IntoIterator<Item = I>) -> Finished {
        let (mut stdout, mut stderr) = (tempfile().unwrap(), tempfile().unwrap());
        let mut command = Command::new(self.name);
        command.args(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        let in_words = format!("{command:?}");
        command.stdin(Stdio::null());
        command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
        Group::of_this_process().add(&mut command);
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("cannot run {}: {error}; install it: apt-get install {}", self.name, self.package)
        });
        let status = Running(child).wait(&in_words);
        Finished { command: in_words, status, stdout: content(&mut stdout), stderr: content(&mut stderr) }
    }
}

impl Finished {
    /// Its standard output.
    #[track_caller]
    pub(crate) fn success(self) -> String {
        let Finished { command, status, stdout, stderr } = self;
        assert!(status.success(), "{command} failed, {status}:\n{stdout}{stderr}");
        stdout
    }

    /// Its standard output and error.
    #[track_caller]
    pub(crate) fn failure(self) -> String {
        let Finished { command, status, stdout, stderr } = self;
        assert!(!status.success(), "{command} did not fail:\n{stdout}{stderr}");
        format!("{stdout}{stderr}")
    }
}

/// A child that does not outlive the test.
struct Running(Child);

impl Running {
    fn wait(mut self, command: &str) -> ExitStatus {
        assert!(has_ended(&self.0, RUN_SECONDS_MAX), "{command} has not ended after {RUN_SECONDS_MAX} s");
        self.0.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn content(file: &mut File) -> String {
    let mut content = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut content)).map_err(io::Error::other).unwrap();
    String::from_utf8_lossy(&content).into_owned()
}
