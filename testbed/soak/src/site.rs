//! The coordinator that it is done to. Owns starting it and finding its database; the testbed owns its processes, which
//! end with this one however it ends.

use crate::order::SoakSite;
use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use nexus_database::Location;
use serde::Deserialize;
use std::fs;
use testbed::{Cluster, ClusterBuilder, OwnedCluster};

/// The one coordinator.
pub(crate) const COORDINATOR: &str = "nexus-1";

/// Starts a coordinator without sleds, from nothing; nothing is left when the answer is dropped.
pub(crate) async fn start(site: &SoakSite, name: &str) -> Result<OwnedCluster> {
    let builder = ClusterBuilder::new(&site.parent).name(name).sleds(0).database(site.database);
    let builder = match &site.bin_dir {
        Some(bin_dir) => builder.bin_dir(bin_dir.clone()),
        None => builder,
    };
    let builder = match &site.keeper {
        Some(keeper) => builder.keeper(keeper.clone()),
        None => builder,
    };
    builder.remove_state(true).start().await
}

/// Of a coordinator's config: where its database is.
#[derive(Deserialize)]
struct Config {
    state_dir: Utf8PathBuf,
    database: Option<DatabaseConfig>,
}

#[derive(Deserialize)]
struct DatabaseConfig {
    url: String,
    password_file: Option<Utf8PathBuf>,
}

/// Where the coordinator's database is.
pub(crate) fn database(cluster: &Cluster) -> Result<Location> {
    let file = cluster.directory().config_file(COORDINATOR);
    let text = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
    let config: Config = toml::from_str(&text).with_context(|| format!("understanding {file}"))?;
    let sqlite_file = config.state_dir.join("nexus.db");
    Ok(match &config.database {
        None => Location::Sqlite(sqlite_file),
        Some(database) => {
            let password_file = database.password_file.as_deref().map(Utf8Path::new);
            Location::parse(&database.url, password_file, &sqlite_file)?
        }
    })
}
