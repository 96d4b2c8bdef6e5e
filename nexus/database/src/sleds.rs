//! Sleds: who is in the cluster and where they serve.
//!
//! A sled is its id. An agent epoch orders the lives of its agent; a report of an earlier life is refused. An
//! address belongs to the sled that registered it last: when a rebuilt host comes back under a new id, the old row
//! loses the address, so that nobody talks to the new sled thinking that it is the old one.

use crate::{
    Database, DatabaseError,
    error::during,
    rows::{key, now, of_table, optional_text, parsed, signed, text, unsigned},
    sql::{Connection, Row, sql},
};
use ids::{AgentEpoch, SledId};
use jiff::Timestamp;
use std::str::FromStr;

/// What the operator wants of a sled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Takes part in everything.
    InService,
    /// Gets nothing new placed on it; artifacts are still replicated to it.
    NoProvision,
    /// Gone for good: never contacted again.
    Expunged,
}

impl Policy {
    fn as_str(self) -> &'static str {
        match self {
            Policy::InService => "in_service",
            Policy::NoProvision => "no_provision",
            Policy::Expunged => "expunged",
        }
    }
}

impl FromStr for Policy {
    type Err = ();

    fn from_str(text: &str) -> Result<Policy, ()> {
        match text {
            "in_service" => Ok(Policy::InService),
            "no_provision" => Ok(Policy::NoProvision),
            "expunged" => Ok(Policy::Expunged),
            _ => Err(()),
        }
    }
}

/// One sled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SledRow {
    /// Its id.
    pub id: SledId,
    /// Its name.
    pub name: String,
    /// What the operator wants of it.
    pub policy: Policy,
    /// Which life of its agent registered last.
    pub agent_epoch: AgentEpoch,
    /// Where it serves; none if another sled has taken the address since.
    pub address: Option<SledAddress>,
    /// When it registered first.
    pub created_at: Timestamp,
}

/// Where a sled serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SledAddress {
    /// Base URL of its sled API.
    pub agent_url: String,
    /// Base URL of its repo depot.
    pub depot_url: String,
}

/// A sled that registers.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Its id.
    pub id: SledId,
    /// Its name.
    pub name: String,
    /// Which life of its agent this is.
    pub agent_epoch: AgentEpoch,
    /// Where it serves.
    pub address: SledAddress,
}

/// What became of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterOutcome {
    /// Nothing had changed; nothing was written.
    Unchanged(SledRow),
    /// It is new, or has a new life, name or address.
    Changed(SledRow),
    /// A later life of the agent has been seen.
    StaleEpoch {
        /// The later life.
        current: AgentEpoch,
    },
    /// The same life was seen at another address: two agents share one state directory.
    Cloned {
        /// The other address.
        agent_url: String,
    },
    /// The operator has expunged it.
    Expunged,
}

impl Database {
    /// Takes a registration or a heartbeat in.
    pub async fn sled_register(&self, new: &Registration) -> Result<RegisterOutcome, DatabaseError> {
        // The common case is a heartbeat that changes nothing: it must not cost a transaction.
        if let Some(row) = self.sled(new.id).await?
            && let Some(outcome) = judge(&row, new)
        {
            return Ok(outcome);
        }
        let created_at = now();
        self.write("register a sled", |mut tx| {
            Box::pin(async move { register(&mut tx, new, created_at).await })
        })
        .await
    }

    /// Sleds after the given one, by id (which is the order of their joining), at most `limit`.
    pub async fn sleds(&self, after: Option<SledId>, limit: u32) -> Result<Vec<SledRow>, DatabaseError> {
        let rows = sql("SELECT id, name, policy, agent_epoch, agent_url, depot_url, created_at FROM sled
             WHERE id > $1 ORDER BY id LIMIT $2")
        .bind(after.map(|id| key(&id)).unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&self.read)
        .await
        .map_err(during("list sleds"))?;
        rows.iter().map(read_sled).collect()
    }

    /// Every sled that is not expunged.
    pub async fn sleds_in_service(&self) -> Result<Vec<SledRow>, DatabaseError> {
        let rows = sql("SELECT id, name, policy, agent_epoch, agent_url, depot_url, created_at FROM sled
             WHERE policy <> 'expunged' ORDER BY id")
        .fetch_all(&self.read)
        .await
        .map_err(during("list sleds in service"))?;
        rows.iter().map(read_sled).collect()
    }

    /// One sled.
    pub async fn sled(&self, id: SledId) -> Result<Option<SledRow>, DatabaseError> {
        let row = sql(
            "SELECT id, name, policy, agent_epoch, agent_url, depot_url, created_at FROM sled WHERE id = $1",
        )
        .bind(key(&id))
        .fetch_optional(&self.read)
        .await
        .map_err(during("read a sled"))?;
        row.as_ref().map(read_sled).transpose()
    }

    /// Says what is wanted of a sled; `None` if there is no such sled, or if it is expunged, which is for good.
    pub async fn sled_set_policy(
        &self,
        id: SledId,
        policy: Policy,
    ) -> Result<Option<SledRow>, DatabaseError> {
        let operation = "set a sled's policy";
        self.write(operation, |mut tx| {
            Box::pin(async move {
                let row = sql(
                    "UPDATE sled SET policy = $1 WHERE id = $2 AND (policy <> 'expunged' OR $1 = 'expunged')
                 RETURNING id, name, policy, agent_epoch, agent_url, depot_url, created_at",
                )
                .bind(policy.as_str())
                .bind(key(&id))
                .fetch_optional(&mut *tx)
                .await
                .map_err(during(operation))?;
                row.as_ref().map(read_sled).transpose()
            })
        })
        .await
    }
}

async fn register(
    tx: &mut Connection,
    new: &Registration,
    created_at: Timestamp,
) -> Result<RegisterOutcome, DatabaseError> {
    let operation = "register a sled";
    let known =
        sql("SELECT id, name, policy, agent_epoch, agent_url, depot_url, created_at FROM sled WHERE id = $1")
            .bind(key(&new.id))
            .fetch_optional(&mut *tx)
            .await
            .map_err(during(operation))?;
    if let Some(outcome) = known.as_ref().map(read_sled).transpose()?.and_then(|row| judge(&row, new)) {
        return Ok(outcome);
    }
    sql("UPDATE sled SET agent_url = NULL, depot_url = NULL WHERE agent_url = $1 AND id <> $2")
        .bind(&new.address.agent_url)
        .bind(key(&new.id))
        .execute(&mut *tx)
        .await
        .map_err(during(operation))?;
    let row = sql("INSERT INTO sled (id, name, policy, agent_epoch, agent_url, depot_url, created_at)
         VALUES ($1, $2, 'in_service', $3, $4, $5, $6)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, agent_epoch = excluded.agent_epoch,
             agent_url = excluded.agent_url, depot_url = excluded.depot_url
         RETURNING id, name, policy, agent_epoch, agent_url, depot_url, created_at")
    .bind(key(&new.id))
    .bind(&new.name)
    .bind(signed(new.agent_epoch.0))
    .bind(&new.address.agent_url)
    .bind(&new.address.depot_url)
    .bind(key(&created_at))
    .fetch_one(tx)
    .await
    .map_err(during(operation))?;
    Ok(RegisterOutcome::Changed(read_sled(&row)?))
}

/// What a registration means for a sled that is known; `None` if it is to be written.
fn judge(row: &SledRow, new: &Registration) -> Option<RegisterOutcome> {
    if row.policy == Policy::Expunged {
        return Some(RegisterOutcome::Expunged);
    }
    if new.agent_epoch < row.agent_epoch {
        return Some(RegisterOutcome::StaleEpoch { current: row.agent_epoch });
    }
    let address = row.address.as_ref()?;
    if new.agent_epoch == row.agent_epoch && *address != new.address {
        return Some(RegisterOutcome::Cloned { agent_url: address.agent_url.clone() });
    }
    let same = new.agent_epoch == row.agent_epoch && row.name == new.name;
    same.then(|| RegisterOutcome::Unchanged(row.clone()))
}

fn read_sled(row: &Row) -> Result<SledRow, DatabaseError> {
    of_table(row, ("sled", "id"), read_sled_values)
}

fn read_sled_values(row: &Row) -> Result<SledRow, DatabaseError> {
    let agent_url = optional_text(row, "agent_url")?;
    let depot_url = optional_text(row, "depot_url")?;
    Ok(SledRow {
        id: parsed(row, "id")?,
        name: text(row, "name")?,
        policy: parsed(row, "policy")?,
        agent_epoch: AgentEpoch(unsigned(row, "agent_epoch")?),
        address: agent_url.zip(depot_url).map(|(agent_url, depot_url)| SledAddress { agent_url, depot_url }),
        created_at: parsed(row, "created_at")?,
    })
}
