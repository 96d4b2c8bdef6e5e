//! Where things are: the checkout, and what cargo builds from it. Owns these paths; reads and writes nothing.

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};

/// The checkout's root.
pub(crate) fn root() -> Result<Utf8PathBuf> {
    // Set by `cargo run`; the other one, from when this was compiled, is right as long as nothing was moved.
    let xtask = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Utf8PathBuf::from(xtask).parent().map(Utf8Path::to_owned).context("xtask lies in the checkout")
}

/// Where cargo builds to: this program lies in `TARGET/PROFILE/`, whatever `CARGO_TARGET_DIR` says.
pub(crate) fn target_dir() -> Result<Utf8PathBuf> {
    let program = this_program()?;
    let profile_dir = program.parent().context("a program lies in a directory")?;
    profile_dir.parent().map(Utf8Path::to_owned).context("a profile's directory lies in the target directory")
}

/// This program.
pub(crate) fn this_program() -> Result<Utf8PathBuf> {
    Utf8PathBuf::try_from(std::env::current_exe().context("finding this program's own file")?)
        .context("this program's path is not UTF-8")
}
