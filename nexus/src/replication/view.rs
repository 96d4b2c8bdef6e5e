//! What operators see of replication: projections of the wanted set and of what was observed. They decide nothing.

use crate::replication::{
    Observed,
    observed::{ActiveTransfer, Contact, SledObservation},
};
use ids::{ArtifactHash, Generation};
use nexus_client::{
    releases::ArtifactHolder,
    replication::{
        CellTransfer, Replication, ReplicationArtifact, ReplicationCell, ReplicationSled,
        ReplicationSledState,
    },
    sleds::{Sled, SledLiveness, SledPolicy},
};
use nexus_database::{
    sleds::{Policy, SledRow},
    wanted::{Wanted, WantedArtifact},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// Per sled, per artifact: where replication stands. `only` narrows it to one repository's artifacts.
#[must_use]
pub fn replication(
    wanted: &Wanted,
    sleds: &[SledRow],
    observed: &Observed,
    only: Option<&BTreeSet<ArtifactHash>>,
) -> Replication {
    let shown: BTreeMap<ArtifactHash, &WantedArtifact> = wanted
        .artifacts
        .iter()
        .filter(|(hash, _)| only.is_none_or(|only| only.contains(hash)))
        .map(|(hash, artifact)| (*hash, artifact))
        .collect();
    let mut columns: Vec<ReplicationSled> = sleds
        .iter()
        .filter(|sled| sled.policy != Policy::Expunged)
        .map(|sled| column(sled, observed, wanted.generation, &shown))
        .collect();
    columns.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    let mut artifacts: Vec<ReplicationArtifact> =
        shown.iter().map(|(hash, artifact)| row(*hash, artifact, &columns)).collect();
    artifacts.sort_by(|a, b| (&a.name, &a.version, a.hash).cmp(&(&b.name, &b.version, b.hash)));
    let complete_everywhere =
        |hash: &ArtifactHash| columns.iter().all(|sled| is_complete(sled, hash)) && !columns.is_empty();
    let artifacts_complete = artifacts.iter().filter(|row| complete_everywhere(&row.hash)).count() as u64;
    Replication {
        generation: wanted.generation,
        fully_replicated: artifacts_complete == artifacts.len() as u64 && !columns.is_empty(),
        artifacts_complete,
        artifacts,
        sleds: columns,
    }
}

/// Whether a sled follows the config and holds a verified copy on each healthy M.2.
#[must_use]
pub fn is_complete(sled: &ReplicationSled, hash: &ArtifactHash) -> bool {
    sled.state == ReplicationSledState::Active
        && sled.cells.get(hash).is_some_and(|cell| cell.copies > 0 && cell.copies >= sled.datasets_healthy)
}

/// One sled.
#[must_use]
pub fn sled(row: &SledRow, observed: &Observed, wanted: &Wanted) -> Sled {
    let observation = observed.sled(row.id);
    // Nothing is wanted of an expunged sled, and nobody asks it any more.
    let takes_part = row.policy != Policy::Expunged;
    let shown: BTreeMap<_, _> =
        wanted.artifacts.iter().filter(|_| takes_part).map(|(hash, artifact)| (*hash, artifact)).collect();
    let column = column(row, observed, wanted.generation, &shown);
    let complete = shown.keys().filter(|hash| is_complete(&column, hash)).count() as u64;
    let online = observation.is_online();
    let address = row.address.clone();
    Sled {
        id: row.id,
        name: row.name.clone(),
        policy: match row.policy {
            Policy::InService => SledPolicy::InService,
            Policy::NoProvision => SledPolicy::NoProvision,
            Policy::Expunged => SledPolicy::Expunged,
        },
        liveness: if online { SledLiveness::Online } else { SledLiveness::Offline },
        last_seen_at: observation.heard_at,
        created_at: row.created_at,
        agent_epoch: row.agent_epoch,
        agent_url: address.as_ref().map(|address| address.agent_url.clone()).unwrap_or_default(),
        depot_url: address.map(|address| address.depot_url).unwrap_or_default(),
        artifacts_wanted: shown.len() as u64,
        artifacts_complete: complete,
        reason: column
            .reason
            .or_else(|| (!online).then(|| "no heartbeat within the limit".to_owned()))
            .filter(|_| takes_part),
    }
}

/// The sleds that hold an artifact, with the depots that serve it.
#[must_use]
pub fn holders(hash: &ArtifactHash, sleds: &[SledRow], observed: &Observed) -> Vec<ArtifactHolder> {
    let now = Instant::now();
    let holder = |sled: &SledRow| {
        let observation = observed.sled(sled.id);
        let copies = *observation.holdings.as_ref()?.copies.get(hash)?;
        let address = sled.address.as_ref()?;
        (copies > 0 && observation.contact(now) == Contact::Active).then(|| ArtifactHolder {
            sled_id: sled.id,
            sled_name: sled.name.clone(),
            copies,
            depot_url: address.depot_url.clone(),
        })
    };
    sleds.iter().filter_map(holder).collect()
}

fn row(hash: ArtifactHash, artifact: &WantedArtifact, columns: &[ReplicationSled]) -> ReplicationArtifact {
    let staged = !artifact.staged.is_empty();
    let held = columns.iter().any(|sled| sled.cells.get(&hash).is_some_and(|cell| cell.copies > 0));
    let unasked = columns.iter().any(|sled| sled.state == ReplicationSledState::Unknown);
    let served = columns.iter().any(|sled| {
        sled.state == ReplicationSledState::Active
            && sled.cells.get(&hash).is_some_and(|cell| cell.copies > 0)
    });
    let blocked = match (staged || served, held, unasked) {
        (true, _, _) | (false, false, true) => None,
        (false, true, _) => Some("holders_unavailable".to_owned()),
        (false, false, false) => Some("no_source".to_owned()),
    };
    ReplicationArtifact {
        hash,
        name: artifact.name.clone(),
        version: artifact.version.clone(),
        size: artifact.size,
        staged,
        blocked,
    }
}

fn column(
    sled: &SledRow,
    observed: &Observed,
    wanted: Generation,
    shown: &BTreeMap<ArtifactHash, &WantedArtifact>,
) -> ReplicationSled {
    let observation = observed.sled(sled.id);
    let (transfers, failures) = observed.towards(sled.id);
    let (state, reason) = state_of(&observation, wanted);
    let copies = observation.holdings.as_ref().map(|holdings| &holdings.copies);
    let cell = |hash: &ArtifactHash| {
        let cell = ReplicationCell {
            copies: copies.and_then(|copies| copies.get(hash)).copied().unwrap_or(0),
            transfer: transfers.get(hash).map(cell_transfer),
            last_error: failures.get(hash).cloned(),
        };
        let empty = cell.copies == 0 && cell.transfer.is_none() && cell.last_error.is_none();
        (!empty).then_some((*hash, cell))
    };
    ReplicationSled {
        id: sled.id,
        name: sled.name.clone(),
        state,
        reason,
        config_generation: observation.config_generation,
        observed_at: observation.observed_at,
        datasets_healthy: observation.holdings.as_ref().map_or(0, |holdings| holdings.datasets_writable),
        cells: shown.keys().filter_map(cell).collect(),
    }
}

fn state_of(observation: &SledObservation, wanted: Generation) -> (ReplicationSledState, Option<String>) {
    match observation.contact(Instant::now()) {
        Contact::Active if observation.config_generation == Some(wanted) => {
            (ReplicationSledState::Active, None)
        }
        Contact::Active => {
            (ReplicationSledState::Unknown, Some("it has not been told the newest set yet".to_owned()))
        }
        Contact::Unknown => (ReplicationSledState::Unknown, Some("it has not been asked yet".to_owned())),
        Contact::Unreachable(reason) => (ReplicationSledState::Unreachable, Some(reason)),
        Contact::Refusing(reason) => (ReplicationSledState::Refusing, Some(reason)),
    }
}

fn cell_transfer(active: &ActiveTransfer) -> CellTransfer {
    CellTransfer { kind: active.kind(), bytes_done: active.bytes_done, started_at: active.started_at }
}
