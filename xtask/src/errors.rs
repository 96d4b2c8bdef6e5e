//! `cargo xtask errors`: `docs/ERRORS.md`, printed from the catalogue of error codes. Owns the page's form; the `problem`
//! crate owns what it says.

use crate::workspace;
use anyhow::{Context, Result};
use clap::Args;
use problem::Code;
use std::{fs, process::ExitCode};

/// Writes docs/ERRORS.md from the catalogue of error codes.
#[derive(Debug, Args)]
pub(crate) struct ErrorsArgs {
    /// Write nothing; fail if the page is not what the catalogue says
    #[arg(long)]
    check: bool,
}

const HEAD: &str = "# Error codes

Every error of every API is answered as `application/problem+json` with a `code` from this list. Codes are stable:
branch on them, not on words. This page is printed from the catalogue in `problem/src/code.rs` by `cargo xtask errors`.

| code | status | meaning | what to do |
|---|---|---|---|
";

/// Runs the command.
pub(crate) fn run(args: &ErrorsArgs) -> Result<ExitCode> {
    let path = workspace::root()?.join("docs/ERRORS.md");
    let page = page();
    if !args.check {
        fs::write(&path, page).with_context(|| format!("writing {path}"))?;
        say!("wrote {path}");
        return Ok(ExitCode::SUCCESS);
    }
    if fs::read_to_string(&path).is_ok_and(|found| found == page) {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{path} is not what the catalogue says; `cargo xtask errors` writes it");
    Ok(ExitCode::FAILURE)
}

fn page() -> String {
    Code::ALL.iter().fold(HEAD.to_owned(), |page, code| {
        let hint = code.hint().unwrap_or("—");
        page + &format!(
            "| `{}` | {} | {} | {} |\n",
            code.name(),
            code.status(),
            cell(code.title()),
            cell(hint)
        )
    })
}

/// Text that a table's cell shows as it is.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_row_of_four_cells() {
        let page = page();
        for code in Code::ALL {
            let row = page.lines().find(|line| line.starts_with(&format!("| `{}` |", code.name()))).unwrap();
            assert_eq!(row.replace("\\|", "").matches('|').count(), 5, "{row}");
        }
    }
}
