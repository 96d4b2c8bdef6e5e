//! How a process is started that outlives the agent.

use camino::Utf8PathBuf;
use daemon::log::LogFormat;
use std::{error::Error, process::Stdio};
use tokio::process::{Child, Command};

/// How the agent starts its own program once more.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The agent's program.
    pub program: Utf8PathBuf,
    /// How they log; to where the agent does.
    pub log_format: LogFormat,
    /// Where the fault sockets of Downstairs are; none unless the config says `[testing] faults = true`.
    pub fault_sockets: Option<Utf8PathBuf>,
}

impl Launch {
    /// Starts one.
    ///
    /// # Errors
    /// That it cannot be started, in words.
    pub(super) fn start(&self, arguments: Vec<String>) -> Result<Child, String> {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        if self.log_format == LogFormat::Json {
            command.arg("--log-json");
        }
        // Its words go to where the agent's go, and it is not ended with the agent.
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(false).spawn();
        spawned.map_err(|error| {
            let error: &dyn Error = &error;
            format!("cannot start {}: {error}", self.program)
        })
    }
}
