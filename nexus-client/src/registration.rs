//! What a sled tells the coordinator.

use ids::{AgentEpoch, ClusterId, CoordinatorId};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::ToSchema;

/// Registration and heartbeat in one: a sled repeats it for as long as it lives. Fields that are not known are ignored,
/// so that agents may be newer than coordinators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SledRegistration {
    /// The sled's name.
    pub name: String,
    /// Which life of the agent this is; lower than the last one seen → 409 `stale_epoch`.
    pub agent_epoch: AgentEpoch,
    /// The address under which the sled serves.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The port of its sled API.
    pub agent_port: u16,
    /// The port of its repo depot.
    pub depot_port: u16,
    /// Grows whenever what the sled holds changes (a copy verified, lost, quarantined; a dataset's health), so
    /// that the coordinator knows when to look again. Starts anew with each agent epoch.
    pub artifacts_revision: u64,
}

/// The coordinator's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SledRegistered {
    /// The cluster that the sled has joined.
    pub cluster_id: ClusterId,
    /// The coordinator that answers.
    pub coordinator_id: CoordinatorId,
    /// Milliseconds until the next heartbeat is expected.
    pub heartbeat_ms: u64,
}
