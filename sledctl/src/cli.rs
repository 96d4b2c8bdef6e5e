//! The grammar of the command line: commands, arguments, options, and their help.
//!
//! Says what can be written, and nothing about what it does; that is [`crate::commands`]. Environment variables are
//! read in [`crate::environment`] rather than by the parser, so that an error can say where a value came from.

use crate::commands::{artifact, completion, context, op, repo, sled, task, trust_root};
use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// What stands under the help of every command.
const AFTER_HELP: &str = "Which coordinator: --url, --context, SLEDCTL_URL, the current context, http://127.0.0.1:12220; \
in this order.\nWhich token: --token-file, the context given with --context, SLEDCTL_TOKEN, SLEDCTL_TOKEN_FILE, the current \
context.\nExit codes: 0 ok, 1 error, 2 usage, 6 degraded (status), 130 interrupted.";

/// Operates a Bobsled cluster.
#[derive(Debug, Parser)]
#[command(name = "sledctl", version, about, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: GlobalOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
pub struct GlobalOptions {
    /// The coordinator's operator API, such as http://127.0.0.1:12220 [env: SLEDCTL_URL]
    #[arg(long, global = true, value_name = "URL", help_heading = "Connection")]
    pub url: Option<String>,
    /// A file that holds the bearer token [env: SLEDCTL_TOKEN_FILE; the token itself: SLEDCTL_TOKEN]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    pub token_file: Option<Utf8PathBuf>,
    /// The context to use instead of the current one
    #[arg(long, global = true, value_name = "NAME", help_heading = "Connection")]
    pub context: Option<String>,
    /// How to print: json is the API's object, unchanged
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, help_heading = "Output")]
    pub output: Format,
    /// Print rows only: no headers, no footers
    #[arg(long, global = true, help_heading = "Output")]
    pub no_headers: bool,
    /// When to colour [env: NO_COLOR]
    #[arg(long, global = true, value_enum, default_value_t = ColorWhen::Auto, value_name = "WHEN", help_heading = "Output")]
    pub color: ColorWhen,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: fits the terminal, times are relative.
    Table,
    /// For people who need it all: full ids, RFC 3339 times, no shortening.
    Wide,
    /// For programs: the API's objects; a list is one page with all its items.
    Json,
}

/// When output is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always, also into pipes.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The cluster on one screen; exit code 6 if something is not as it should be
    Status,
    /// Sleds: the hosts of the rack
    #[command(subcommand)]
    Sled(sled::SledCommand),
    /// Repositories: signed releases
    #[command(subcommand)]
    Repo(repo::RepoCommand),
    /// Trust roots: whose releases are believed
    #[command(subcommand)]
    TrustRoot(trust_root::TrustRootCommand),
    /// Artifacts: what the repositories bring, and where it is
    #[command(subcommand)]
    Artifact(artifact::ArtifactCommand),
    /// Background tasks of the coordinator
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Operations, also called sagas: work of several steps that is done to its end, or undone
    #[command(subcommand)]
    Op(op::OpCommand),
    /// Contexts: named coordinators in a file of yours
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// Prints a completion script for a shell
    Completion(completion::CompletionArgs),
    /// Prints the version of this program
    Version,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn grammar_has_no_contradictions() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_may_follow_the_command() {
        let cli =
            Cli::try_parse_from(["sledctl", "sled", "list", "-o", "json", "--url", "http://a"]).unwrap();
        assert_eq!(cli.global.output, Format::Json);
        assert_eq!(cli.global.url.as_deref(), Some("http://a"));
    }
}
