//! `nexus db check|backup|restore`: what an operator does with the database while no coordinator helps. Owns who may do
//! it when, and the words; the work is `nexus-database`'s.

use crate::Config;
use camino::Utf8PathBuf;
use daemon::state_lock::{StateLock, StateLockError};
use nexus_database::{BackupError, BackupReport, CheckReport, DatabaseError, LocationError};
use std::fmt::Write;
use thiserror::Error;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseCommand {
    /// Look whether everything is in order; may run beside the coordinator.
    Check,
    /// Copy the database to this file; may run beside the coordinator.
    Backup(Utf8PathBuf),
    /// Put this backup in the place of the database; not beside the coordinator.
    Restore(Utf8PathBuf),
}

/// It was not done, or what was looked at is not in order.
#[derive(Debug, Error)]
pub enum DatabaseCommandError {
    /// The config names no database.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The database can not be read.
    #[error(transparent)]
    Check(#[from] DatabaseError),
    /// It is not in order.
    #[error("{0}")]
    Findings(String),
    /// There is no backup, or it was not restored.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// A coordinator runs.
    #[error("a restore needs the database for itself: stop the coordinator first")]
    InUse(#[source] StateLockError),
}

/// Does it; the answer is for people.
///
/// # Errors
/// [`DatabaseCommandError`].
pub async fn run(config: &Config, command: &DatabaseCommand) -> Result<String, DatabaseCommandError> {
    let location = config.database_location()?;
    match command {
        DatabaseCommand::Check => in_words(&nexus_database::check(&location).await?),
        DatabaseCommand::Backup(file) => {
            let report = nexus_database::backup(&location, file).await?;
            Ok(format!("backed up to {}", size_and_sum(&report)))
        }
        DatabaseCommand::Restore(file) => {
            let _lock = StateLock::take(&config.state_dir).map_err(DatabaseCommandError::InUse)?;
            let report = nexus_database::restore(&location, file).await?;
            let kept =
                report.kept.as_ref().map(|kept| format!("\nthe database that was there is kept as {kept}"));
            Ok(format!("restored from {}{}", size_and_sum(&report), kept.unwrap_or_default()))
        }
    }
}

fn in_words(report: &CheckReport) -> Result<String, DatabaseCommandError> {
    let CheckReport { database, schema, known, rows, findings } = report;
    if findings.is_empty() && schema < known {
        return Ok(format!(
            "{database}: the file is in order; schema version {schema}, which the next start brings to {known}"
        ));
    }
    if findings.is_empty() {
        return Ok(format!("{database}: in order (schema version {schema}, {rows} rows)"));
    }
    let mut words = format!("{database} is not in order; restore a backup, or mend these:");
    for finding in findings {
        write!(words, "\n  {finding}").expect("a string takes what is written");
    }
    Err(DatabaseCommandError::Findings(words))
}

fn size_and_sum(report: &BackupReport) -> String {
    let broken = match report.broken_rules {
        0 => String::new(),
        broken => format!("\nwith {broken} rows that break a rule, as before: `nexus db check` lists them"),
    };
    format!("{} ({} bytes, SHA-256 {}){broken}", report.file, report.bytes, report.sha256)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_database::{CheckFinding, Database};

    async fn config() -> (camino_tempfile::Utf8TempDir, Config) {
        let dir = camino_tempfile::tempdir().unwrap();
        let config = serde_json::json!({
            "name": "nexus-1", "state_dir": dir.path(), "address": "127.0.0.1",
            "auth": {
                "operator_token_file": "/o", "sled_token_file": "/s", "coordinator_token_file": "/c"
            },
        });
        let config: Config = serde_json::from_value(config).unwrap();
        let database = Database::open(config.database_location().unwrap()).await.unwrap();
        database.close().await;
        (dir, config)
    }

    #[tokio::test]
    async fn a_restore_is_refused_while_a_coordinator_runs_and_the_rest_is_not() {
        let (dir, config) = config().await;
        let file = dir.path().join("backup");
        let running = StateLock::take(&config.state_dir).unwrap();
        let said = run(&config, &DatabaseCommand::Backup(file.clone())).await.unwrap();
        assert!(said.contains(file.as_str()), "{said}");
        let said = run(&config, &DatabaseCommand::Check).await.unwrap();
        assert!(said.contains("nexus.db: in order"), "{said}");
        let refused = run(&config, &DatabaseCommand::Restore(file.clone())).await.unwrap_err();
        assert!(matches!(refused, DatabaseCommandError::InUse(_)), "{refused}");
        drop(running);
        let said = run(&config, &DatabaseCommand::Restore(file)).await.unwrap();
        assert!(said.contains("is kept as"), "{said}");
    }

    #[test]
    fn what_is_not_in_order_is_an_error_that_lists_it() {
        let finding = CheckFinding {
            table: Some("sled"),
            row: Some("x".to_owned()),
            problem: "\"x\" is no id".to_owned(),
        };
        let database = "nexus.db".to_owned();
        let report = CheckReport { database, schema: 3, known: 3, rows: 1, findings: vec![finding] };
        let said = in_words(&report).unwrap_err().to_string();
        assert!(said.ends_with("sled, row x: \"x\" is no id"), "{said}");
    }
}
