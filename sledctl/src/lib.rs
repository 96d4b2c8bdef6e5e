//! The operator's command line: what a person or a script sees of a Bobsled cluster, and does to it.
//!
//! **The problem.** An operator asks one coordinator over HTTP and reads the answer on a screen, or a script reads
//! it through `jq`. Both must be able to rely on it: what is data goes to standard output and has one shape, what is
//! talk goes to standard error, and an error says what to do next.
//!
//! **The theory.** Each command fetches API objects and hands them, with the time and a [`render::Look`], to a pure
//! function that makes text of them. `-o json` prints the same objects as they are. So everything that is shown can
//! be tested without a network, and nothing that is fetched is hidden from scripts.
//!
//! ```text
//!  argv ──► cli ──► commands::* ──► nexus-client ──► coordinator
//!              ▲          │    └──► fetch ─────────► a sled's depot
//!  environment ┤          ▼
//!  context_file┤     API objects ──► render::* (pure) ──► output ──► stdout
//!  connection ─┘          └─ error ──► render::failure ─────────────► stderr, exit code
//! ```
//!
//! In reading order:
//! - [`cli`]: the grammar of the command line. [`environment`]: what is read from the process's surroundings.
//! - [`context_file`], [`connection`]: which coordinator is called with which token, and who said so.
//! - [`app`]: what every command is given. [`commands`]: one file per noun.
//! - [`resolve`], [`replica`]: what a name stands for; what one cell of the replication means.
//! - [`upload_source`], [`progress`], [`fetch`], [`sink`]: bytes on their way up and down. [`interrupt`]: Ctrl-C meanwhile.
//! - [`render`]: API objects as text. [`output`], [`talk`], [`confirm`]: standard output, standard error, questions.
//! - [`failure`]: everything that can go wrong, and its exit code.

pub mod app;
pub mod cli;
pub mod commands;
pub mod confirm;
pub mod connection;
pub mod context_file;
pub mod environment;
pub mod failure;
pub mod fetch;
pub mod interrupt;
pub mod output;
pub mod progress;
pub mod render;
pub mod replica;
pub mod resolve;
pub mod sink;
pub mod talk;
pub mod upload_source;

pub use app::{App, run};
pub use cli::Cli;
pub use environment::Environment;
