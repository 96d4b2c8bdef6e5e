//! `sledctl completion SHELL`.

use crate::{
    cli::Cli,
    failure::{Failure, Outcome},
    output,
};
use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

/// For which shell.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// The shell
    pub shell: CompletionShell,
}

/// The shells that people have here.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CompletionShell {
    /// source <(sledctl completion bash)
    Bash,
    /// sledctl completion zsh > ~/.zfunc/_sledctl
    Zsh,
    /// sledctl completion fish | source
    Fish,
}

/// Prints the script.
pub fn run(args: &CompletionArgs) -> Result<Outcome, Failure> {
    let shell = match args.shell {
        CompletionShell::Bash => Shell::Bash,
        CompletionShell::Zsh => Shell::Zsh,
        CompletionShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sledctl", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}
