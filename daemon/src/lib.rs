//! What both daemons share at their start and their end.
//!
//! - [`program`]: the frame of a daemon's `main`.
//! - [`config_file`]: a TOML file whose unknown keys are refused with line and hint.
//! - [`log`]: structured logs on standard error.
//! - [`state_directory`]: directories that outlive a power loss.
//! - [`state_lock`]: one process per state directory.
//! - [`state_file`]: the small JSON file that keeps who a process is.
//! - [`stop`]: SIGTERM and SIGINT as one watch.
//!
//! It knows no API and no daemon's own settings.

pub mod config_file;
pub mod log;
pub mod program;
pub mod state_directory;
pub mod state_file;
pub mod state_lock;
pub mod stop;
