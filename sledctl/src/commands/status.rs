//! `sledctl status`.

use crate::{
    app::App,
    failure::{Failure, Outcome},
    render,
};

/// Shows the cluster; what is not as it should be is in the exit code too.
pub async fn run(app: &App) -> Result<Outcome, Failure> {
    let status = app.client()?.status().await?;
    app.emit(&status, render::status::status)?;
    Ok(if status.issues.is_empty() { Outcome::Done } else { Outcome::Degraded })
}
