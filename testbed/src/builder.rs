//! Bringing a cluster up. Owns the order of the steps and what happens when one fails; afterwards the [`Cluster`] takes
//! over.
//!
//! ```text
//!   under the record's lock:                                             a crash after it leaves
//!     refuse if something of that name runs; end what a crash left
//!     claim a number                                                     a claim that no longer holds
//!     write the tokens, and the record: starting, owner = this process   files that the next `up` replaces
//!     start the keeper                                                   a keeper that finds nothing to end
//!     start PostgreSQL if it is wanted; directories, configs             the keeper ends what was started
//!     start every process, write the record again                        the keeper ends what was started
//!   then:
//!     wait until every process serves, note the sleds' ids               the keeper ends all
//!     record: running
//! ```

use crate::{
    addresses::{
        AGENT_PORT, ClusterNumber, DEPOT_PORT, INTERNAL_PORT, OPERATOR_PORT, SLEDS_MAX, SUPERVISED_PORT,
    },
    binaries,
    claim::{ClaimOrder, Claims},
    cluster::{Cluster, OwnedCluster},
    config,
    keeper::{KeeperCommand, KeeperOrders},
    launch,
    layout::ClusterDirectory,
    names::{DEFAULT_CLUSTER_NAME, DISKS_MAX, coordinator_name, sled_name},
    process::ProcessIdentity,
    record::{ClusterRecord, DatabaseKind, ExtraConfig, Node, Phase, Role, Tokens},
    teardown::{AT_ONCE, end_processes, remove_tree},
};
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use std::{fs, net::SocketAddr};
use test_postgres::Standing;
use uuid::Uuid;

/// Sleds of a cluster that was not told otherwise.
pub const SLEDS_DEFAULT: usize = 4;

/// Data disks of each sled of a cluster for people that was not told otherwise.
pub const DISKS_DEFAULT: usize = 2;

/// Sleds that must hold a release before `?wait=replicated` is answered, if there are that many.
const MIN_REPLICATION_DEFAULT: u32 = 3;

/// Says what cluster is wanted.
#[derive(Clone, Debug)]
pub struct ClusterBuilder {
    parent: Utf8PathBuf,
    name: String,
    sleds: Option<usize>,
    disks: Option<usize>,
    min_replication: u32,
    extra: ExtraConfig,
    bin_dir: Option<Utf8PathBuf>,
    keeper: Option<KeeperCommand>,
    database: Option<DatabaseKind>,
    order: ClaimOrder,
    remove_state: bool,
}

impl ClusterBuilder {
    /// A cluster whose directory lies in `parent`. Unless said otherwise it has the default name and 4 sleds (or, going
    /// on with an earlier one's directory, as many as that had), is numbered out of the way of people's clusters, and
    /// runs the binaries that lie beside the running test.
    #[must_use]
    pub fn new(parent: impl AsRef<Utf8Path>) -> ClusterBuilder {
        ClusterBuilder {
            parent: parent.as_ref().to_owned(),
            name: DEFAULT_CLUSTER_NAME.to_owned(),
            sleds: None,
            disks: None,
            min_replication: MIN_REPLICATION_DEFAULT,
            extra: ExtraConfig::default(),
            bin_dir: None,
            keeper: None,
            database: None,
            order: ClaimOrder::HighestFirst,
            remove_state: false,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// How many sleds it has.
    #[must_use]
    pub fn sleds(mut self, sleds: usize) -> Self {
        self.sleds = Some(sleds);
        self
    }

    /// How many data disks each sled has: none, or as many as an earlier cluster in its directory had, unless this says otherwise.
    #[must_use]
    pub fn disks(mut self, disks: usize) -> Self {
        self.disks = Some(disks);
        self
    }

    /// Sleds that must hold a release before `?wait=replicated` is answered; no more than there are is asked for.
    #[must_use]
    pub fn min_replication(mut self, sleds: u32) -> Self {
        self.min_replication = sleds;
        self
    }

    /// Whether tests may hold and fault its processes. They may unless this says otherwise.
    #[must_use]
    pub fn faults(mut self, faults: bool) -> Self {
        let testing = toml::Table::from_iter([("faults".to_owned(), faults.into())]);
        self.extra.nexus.insert("testing".to_owned(), testing.clone().into());
        self.extra.agent.insert("testing".to_owned(), testing.into());
        self
    }

    /// Lays TOML over every coordinator's config, such as a `[release]` table.
    #[must_use]
    pub fn nexus_config(mut self, extra: toml::Table) -> Self {
        self.extra.nexus.extend(extra);
        self
    }

    /// Lays TOML over every agent's config.
    #[must_use]
    pub fn agent_config(mut self, extra: toml::Table) -> Self {
        self.extra.agent.extend(extra);
        self
    }

    /// Bytes that each M.2 may hold.
    #[must_use]
    pub fn m2_quota_bytes(mut self, bytes: u64) -> Self {
        self.extra.m2_quota_bytes = Some(bytes);
        self
    }

    /// Where the binaries are.
    #[must_use]
    pub fn bin_dir(mut self, bin_dir: impl Into<Utf8PathBuf>) -> Self {
        self.bin_dir = Some(bin_dir.into());
        self
    }

    /// What ends the cluster if this process dies without doing so. Tests get one if `xtask` is beside the binaries.
    #[must_use]
    pub fn keeper(mut self, keeper: KeeperCommand) -> Self {
        self.keeper = Some(keeper);
        self
    }

    /// What the coordinators keep their state in: `SQLite`, or what an earlier cluster in its directory had.
    #[must_use]
    pub fn database(mut self, database: DatabaseKind) -> Self {
        self.database = Some(database);
        self
    }

    /// A database of a PostgreSQL server that somebody else runs, instead of one of the cluster's own. Tests share a
    /// server.
    #[must_use]
    pub fn external_database(self, url: &str, password_file: &Utf8Path) -> Self {
        let keys = [("url", url), ("password_file", password_file.as_str())];
        let database: toml::Table =
            keys.map(|(key, value)| (key.to_owned(), value.into())).into_iter().collect();
        self.nexus_config(toml::Table::from_iter([("database".to_owned(), database.into())]))
    }

    /// Which number it gets.
    #[must_use]
    pub fn order(mut self, order: ClaimOrder) -> Self {
        self.order = order;
        self
    }

    /// Starts from nothing, and leaves nothing behind when it ends.
    #[must_use]
    pub fn remove_state(mut self, remove: bool) -> Self {
        self.remove_state = remove;
        self
    }

    /// Whether [`start`](Self::start) would remove the directories of an earlier cluster.
    pub fn starts_anew(&self) -> Result<bool> {
        Ok(self.remove_state && ClusterDirectory::new(&self.parent, &self.name)?.read_record()?.is_some())
    }

    /// How many sleds [`start`](Self::start) would bring up; refused where it would refuse. For before a long
    /// preparation, and to say it.
    pub fn planned_sleds(&self) -> Result<usize> {
        let record = ClusterDirectory::new(&self.parent, &self.name)?.read_record()?;
        if let Some(record) = &record {
            refuse_running(record)?;
        }
        self.sled_count(record.as_ref().filter(|_| !self.remove_state))
    }

    /// How many data disks each sled would have; refused where [`start`](Self::start) would refuse. `default` is what a new cluster has
    /// that was not told.
    pub fn planned_disks(&self, default: usize) -> Result<usize> {
        let record = ClusterDirectory::new(&self.parent, &self.name)?.read_record()?;
        let had = record.as_ref().filter(|_| !self.remove_state);
        if had.is_none() && self.disks.is_none() {
            return Ok(default);
        }
        self.disk_count(had)
    }

    /// What [`start`](Self::start) would keep the coordinators' state in; refused where it would refuse.
    pub fn planned_database(&self) -> Result<DatabaseKind> {
        let record = ClusterDirectory::new(&self.parent, &self.name)?.read_record()?;
        self.database_kind(record.as_ref().filter(|_| !self.remove_state))
    }

    /// Starts the cluster; when this returns every process serves. It is this process's own: it ends with the answer's
    /// `Drop`, and, if there is a keeper, with this process.
    pub async fn start(self) -> Result<OwnedCluster> {
        let directory = ClusterDirectory::new(&self.parent, &self.name)?;
        fs::create_dir_all(&self.parent).with_context(|| format!("creating {}", self.parent))?;
        let claims = Claims::of_this_user()?;
        let bin_dir = match &self.bin_dir {
            Some(bin_dir) => bin_dir.clone(),
            None => binaries::beside_this_test()?,
        };
        binaries::check(&bin_dir)?;
        let keeper = self.keeper.clone().or_else(|| {
            let xtask = bin_dir.join("xtask");
            xtask.is_file().then(|| KeeperCommand::of_xtask(xtask))
        });
        let record = directory.update(|existing| {
            let existing = self.make_way(&directory, &claims, existing)?;
            let record = self.launch(&directory, &claims, existing, bin_dir, keeper.as_ref())?;
            Ok((Some(record.clone()), record))
        })?;
        let owned = OwnedCluster::new(Cluster::at(directory.clone(), claims), self.remove_state);
        for node in &record.nodes {
            launch::wait_ready(&directory, node).await?;
            owned.wait_disks_served(node).await?;
        }
        owned.note_sled_ids().await?;
        directory.update(|record| {
            let mut record = record.context("the cluster was removed while it started")?;
            if record.phase == Phase::Stopped {
                bail!("the cluster was stopped while it started");
            }
            record.phase = Phase::Running;
            Ok((Some(record), ()))
        })?;
        Ok(owned)
    }

    /// Refuses if the cluster runs; ends and, where it would have been, removes what a crash left.
    fn make_way(
        &self,
        directory: &ClusterDirectory,
        claims: &Claims,
        existing: Option<ClusterRecord>,
    ) -> Result<Option<ClusterRecord>> {
        let Some(mut record) = existing else {
            if directory.root().exists() {
                bail!(
                    "{} is there and is no cluster's; remove it by hand, or choose another --name",
                    directory.root()
                );
            }
            return Ok(None);
        };
        refuse_running(&record)?;
        end_processes(directory, &mut record, AT_ONCE)?;
        claims.release(directory, record.number)?;
        if self.remove_state {
            remove_tree(directory)?;
            return Ok(None);
        }
        Ok(Some(record))
    }

    /// Everything from the claim to the started processes. Whatever fails, nothing is left running.
    fn launch(
        &self,
        directory: &ClusterDirectory,
        claims: &Claims,
        existing: Option<ClusterRecord>,
        bin_dir: Utf8PathBuf,
        keeper: Option<&KeeperCommand>,
    ) -> Result<ClusterRecord> {
        let sleds = self.sled_count(existing.as_ref())?;
        let disks = self.disk_count(existing.as_ref())?;
        let database = self.database_kind(existing.as_ref())?;
        let preferred = existing.as_ref().map(|record| record.number);
        let number =
            claims.claim(directory, preferred, self.order, |number| listens(number, sleds, disks))?;
        let mut record = match existing {
            Some(record) => ClusterRecord { number, bin_dir, ..record },
            None => ClusterRecord::new(directory.name(), number, new_tokens(), bin_dir),
        };
        record.database = database;
        let outcome = self.fill(directory, &mut record, (sleds, disks), keeper);
        if let Err(error) = outcome {
            end_processes(directory, &mut record, AT_ONCE)?;
            claims.release(directory, number)?;
            record.phase = Phase::Stopped;
            record.owner = None;
            directory.write_locked(&record)?;
            return Err(error);
        }
        Ok(record)
    }

    fn fill(
        &self,
        directory: &ClusterDirectory,
        record: &mut ClusterRecord,
        (sleds, disks): (usize, usize),
        keeper: Option<&KeeperCommand>,
    ) -> Result<()> {
        let owner = ProcessIdentity::current()?;
        record.phase = Phase::Starting;
        record.owner = Some(owner.clone());
        record.started_at = jiff::Timestamp::now();
        record.min_replication = self.min_replication.min(u32::try_from(sleds).unwrap_or(u32::MAX)).max(1);
        record.extra = self.extra.clone();
        place_nodes(record, sleds)?;
        for node in record.nodes.iter_mut().filter(|node| node.role == Role::Sled) {
            node.add_disks(disks);
        }
        config::write_tokens(directory, &record.tokens)?;
        directory.write_locked(record)?;
        if let Some(keeper) = keeper {
            keeper.start(&KeeperOrders {
                parent: directory.root().parent().unwrap_or(Utf8Path::new("/")).to_owned(),
                name: directory.name().to_owned(),
                owner,
                remove_state: self.remove_state,
            })?;
        }
        if record.database == DatabaseKind::Postgres {
            Standing::at(&directory.postgres()).start()?;
        }
        for node in &record.nodes {
            config::write_node(directory, record, node)?;
        }
        let names: Vec<String> = record.nodes.iter().map(|node| node.name.clone()).collect();
        for who in names {
            launch::start(directory, record, &who)?;
        }
        Ok(())
    }

    fn database_kind(&self, existing: Option<&ClusterRecord>) -> Result<DatabaseKind> {
        let had = existing.map(|record| record.database);
        let database = self.database.or(had).unwrap_or_default();
        if had.is_some_and(|had| had != database) {
            bail!(
                "cluster {} has another database than the one that is asked for; start anew after \
                 `cargo xtask testbed reset --name {0}`",
                self.name
            );
        }
        Ok(database)
    }

    fn disk_count(&self, existing: Option<&ClusterRecord>) -> Result<usize> {
        let had = existing.map(ClusterRecord::disks_per_sled);
        let disks = self.disks.or(had).unwrap_or_default();
        if disks > DISKS_MAX {
            bail!("{disks} data disks are too many: a sled has at most {DISKS_MAX}");
        }
        if let Some(had) = had.filter(|&had| had > disks) {
            bail!(
                "cluster {} was stopped with {had} data disks for each sled and cannot go on with {disks}; start anew after \
                 `cargo xtask testbed reset --name {0}`",
                self.name
            );
        }
        Ok(disks)
    }

    fn sled_count(&self, existing: Option<&ClusterRecord>) -> Result<usize> {
        let had = existing.map(|record| record.with_role(Role::Sled).count());
        let sleds = self.sleds.or(had).unwrap_or(SLEDS_DEFAULT);
        if sleds > SLEDS_MAX {
            bail!("{sleds} sleds are too many: a cluster has at most {SLEDS_MAX}");
        }
        if let Some(had) = had.filter(|&had| had > sleds) {
            bail!(
                "cluster {} was stopped with {had} sleds and cannot go on with {sleds}; start anew after \
                 `cargo xtask testbed reset --name {0}`",
                self.name
            );
        }
        Ok(sleds)
    }
}

/// Refuses a cluster that runs. One whose owner has died is no longer run by anybody: it is what a crash left.
fn refuse_running(record: &ClusterRecord) -> Result<()> {
    let crashed = record.owner.as_ref().map(ProcessIdentity::lives).transpose()? == Some(false);
    if record.phase == Phase::Stopped || crashed || !record.anything_lives()? {
        return Ok(());
    }
    let owner = record.owner.as_ref().map(|owner| format!(", owned by pid {}", owner.pid));
    bail!(
        "cluster {} is running already (number {}{}): look with `cargo xtask testbed status --name {0}`, \
         end it with `cargo xtask testbed down --name {0}`",
        record.name,
        record.number,
        owner.unwrap_or_default()
    );
}

/// Gives every node the address of the cluster's number, and adds sleds up to the wanted count.
fn place_nodes(record: &mut ClusterRecord, sleds: usize) -> Result<()> {
    let number = record.number;
    if record.with_role(Role::Coordinator).next().is_none() {
        let address = number.coordinator_address(0)?;
        record.nodes.push(Node::new(coordinator_name(0), Role::Coordinator, address));
    }
    for index in record.with_role(Role::Sled).count()..sleds {
        record.nodes.push(Node::new(sled_name(index), Role::Sled, number.sled_address(index)?));
    }
    let mut next = [0, 0];
    for node in &mut record.nodes {
        let index = match node.role {
            Role::Coordinator => &mut next[0],
            Role::Sled => &mut next[1],
        };
        node.address = match node.role {
            Role::Coordinator => number.coordinator_address(*index)?,
            Role::Sled => number.sled_address(*index)?,
        };
        *index += 1;
    }
    Ok(())
}

/// The sockets that a cluster of that number listens on.
fn listens(number: ClusterNumber, sleds: usize, disks: usize) -> Result<Vec<SocketAddr>> {
    let mut sockets = Vec::new();
    let coordinator = number.coordinator_address(0)?;
    sockets.extend([OPERATOR_PORT, INTERNAL_PORT].map(|port| SocketAddr::new(coordinator, port)));
    for index in 0..sleds {
        let sled = number.sled_address(index)?;
        sockets.extend([AGENT_PORT, DEPOT_PORT].map(|port| SocketAddr::new(sled, port)));
        let supervised = (SUPERVISED_PORT..).take(disks);
        sockets.extend(supervised.map(|port| SocketAddr::new(sled, port)));
    }
    Ok(sockets)
}

/// Tokens that nobody can guess.
fn new_tokens() -> Tokens {
    let token = || format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    Tokens { operator: token(), sled: token(), coordinator: token() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_on_with_more_sleds_adds_them_and_a_new_number_moves_all() {
        let mut record =
            ClusterRecord::new("default", ClusterNumber::new(1).unwrap(), new_tokens(), Utf8PathBuf::new());
        place_nodes(&mut record, 2).unwrap();
        record.number = ClusterNumber::new(3).unwrap();
        place_nodes(&mut record, 3).unwrap();
        let placed: Vec<(String, String)> =
            record.nodes.iter().map(|node| (node.name.clone(), node.address.to_string())).collect();
        let expected = [
            ("nexus-1", "127.0.3.251"),
            ("sled-a", "127.0.3.1"),
            ("sled-b", "127.0.3.2"),
            ("sled-c", "127.0.3.3"),
        ];
        assert_eq!(placed, expected.map(|(name, address)| (name.to_owned(), address.to_owned())));
    }

    #[test]
    fn the_sockets_of_what_serves_disks_are_a_clusters_too() {
        let listens = |disks| listens(ClusterNumber::new(3).unwrap(), 2, disks).unwrap();
        assert_eq!((listens(0).len(), listens(2).len()), (6, 10));
        assert!(listens(2).contains(&"127.0.3.2:12401".parse().unwrap()));
    }

    #[test]
    fn fewer_sleds_than_there_were_are_refused() {
        let mut record =
            ClusterRecord::new("default", ClusterNumber::new(1).unwrap(), new_tokens(), Utf8PathBuf::new());
        place_nodes(&mut record, 3).unwrap();
        let builder = ClusterBuilder::new("/nowhere");
        assert_eq!(builder.sled_count(Some(&record)).unwrap(), 3);
        assert_eq!(builder.sled_count(None).unwrap(), SLEDS_DEFAULT);
        let refusal = builder.clone().sleds(2).sled_count(Some(&record)).unwrap_err().to_string();
        assert!(refusal.contains("reset"), "{refusal}");
        assert!(builder.clone().sleds(251).sled_count(None).is_err());
        record.nodes[1].add_disks(2);
        assert_eq!((builder.disk_count(Some(&record)).unwrap(), builder.disk_count(None).unwrap()), (2, 0));
        assert_eq!(builder.clone().disks(3).disk_count(Some(&record)).unwrap(), 3);
        let refusal = builder.clone().disks(1).disk_count(Some(&record)).unwrap_err().to_string();
        assert!(refusal.contains("reset"), "{refusal}");
        assert!(builder.disks(17).disk_count(None).is_err());
    }
}
