//! Processes that end with whoever holds them, or with this process, however that ends.
//!
//! ```text
//!   the test ══ pipe ══► keeper (sh), the first of the group ─── what the test starts ─── what that starts
//!      │                      │
//!      ├─ drops the group ────┼──────────────────────────────► SIGKILL to all of the group
//!      └─ dies, even by SIGKILL: the kernel closes the pipe ──► the keeper sends SIGKILL to all of the group, itself too
//!                                                                        └─ the keeper is gone ──► the last act, if there is one
//! ```
//!
//! The keeper is not waited for as long as the group is held, and it is in the group when it ends that: the number is nobody else's at either
//! time. What leaves the group by itself is not ended; that is what a last act is for.

use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    io::pipe,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::LazyLock,
};

/// Nobody writes into the pipe, so there is nothing to read but its end.
const KEEPER: &str = "read -r nothing; kill -s KILL 0";

/// The same pipe's end, of the one that only the keeper holds.
const LAST_ACT: &str = r#"read -r nothing; exec "$@""#;

/// A group of processes, ended with this.
#[derive(Debug)]
pub struct Group {
    keeper: Child,
    last_act: Option<Child>,
}

impl Group {
    /// A group that nobody is in yet.
    #[must_use]
    pub fn start() -> Group {
        Group { keeper: keeper(Stdio::null()), last_act: None }
    }

    /// One behind whose end this is run: its program, arguments, variables and directory. It ends what has left the group.
    #[must_use]
    pub fn start_with_last_act(act: &Command) -> Group {
        let (reads, writes) = pipe().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", LAST_ACT, "last-act"]).arg(act.get_program()).args(act.get_args());
        for (name, value) in act.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(directory) = act.get_current_dir() {
            command.current_dir(directory);
        }
        command.stdin(reads).stdout(Stdio::null()).process_group(0);
        let last_act = command.spawn().expect("sh is there");
        Group { keeper: keeper(Stdio::from(writes)), last_act: Some(last_act) }
    }

    /// One that ends with this process: for what somebody else ends as long as this lives.
    #[must_use]
    pub fn of_this_process() -> &'static Group {
        static OF_THIS_PROCESS: LazyLock<Group> = LazyLock::new(Group::start);
        &OF_THIS_PROCESS
    }

    /// What this command starts is one of the group.
    pub fn add(&self, command: &mut Command) {
        command.process_group(self.number().as_raw_nonzero().get());
    }

    fn number(&self) -> Pid {
        Pid::from_child(&self.keeper)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The keeper is waited for below, so the group is still its own.
        let _ = kill_process_group(self.number(), Signal::KILL);
        let _ = self.keeper.wait();
        if let Some(mut last_act) = self.last_act.take() {
            let _ = last_act.wait();
        }
    }
}

/// The first of a group. It alone holds the last act's pipe: this process does not keep it.
fn keeper(last_act: Stdio) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", KEEPER]).current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(last_act).stderr(Stdio::null());
    command.spawn().expect("sh is there")
}
