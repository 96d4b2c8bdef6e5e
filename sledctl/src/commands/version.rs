//! `sledctl version`: of this program; it calls nobody.

use crate::{
    app::App,
    failure::{Failure, Outcome},
};
use serde::Serialize;

/// The program and its version.
#[derive(Serialize)]
struct Version {
    name: &'static str,
    version: &'static str,
}

/// Prints the version.
pub fn run(app: &App) -> Result<Outcome, Failure> {
    let version = Version { name: "sledctl", version: env!("CARGO_PKG_VERSION") };
    app.emit(&version, |version, _, _| format!("{} {}\n", version.name, version.version))?;
    Ok(Outcome::Done)
}
