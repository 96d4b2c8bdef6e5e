//! The sled-facing API: registration and heartbeats; what Upstairs tell of repairs is [`repairs`].

mod repairs;

use crate::{
    http::{Context, problems},
    replication::observed::{Refusal, Refused},
};
use axum::{Extension, extract::State};
use http_edge::{
    ApiError, ApiJson, ApiPath, PeerAddress,
    document::{self, Access},
};
use ids::{SledId, VolumeId};
use nexus_client::registration::{SledRegistered, SledRegistration};
use nexus_database::sleds::{RegisterOutcome, Registration, SledAddress};
use nexus_tasks::Reason;
use problem::{Code, Problem};
use std::net::SocketAddr;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Milliseconds between two heartbeats of a sled. A quarter of the limit after which it counts as offline.
const HEARTBEAT_MS: u64 = 1000;

/// The highest epoch of an agent that is believed. Epochs count starts: one start a second for 136 years. One near the
/// largest number would lock the sled out for good, because its agent could never count past it.
const AGENT_EPOCH_MAX: u64 = 1 << 32;

/// Bytes of a sled's name at most: it is a column in tables.
const NAME_BYTES_MAX: usize = 63;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Bobsled coordinator, sled-facing API",
        description = "What sleds tell the coordinator. Needs a sled's token."
    ),
    // Only the schemas of bodies are found; these are of paths.
    components(schemas(SledId, VolumeId))
)]
struct Document;

/// The calls of this API.
pub fn router() -> OpenApiRouter<Context> {
    let mut router =
        OpenApiRouter::with_openapi(Document::openapi()).routes(routes!(register)).merge(repairs::router());
    document::complete(router.get_openapi_mut(), Access::Token);
    router
}

/// Registers a sled, or says that it still lives.
#[utoipa::path(
    put, path = "/sleds/{id}", operation_id = "sled_register",
    params(("id" = SledId, Path)), request_body = SledRegistration,
    responses((status = 200, body = SledRegistered), (status = 409, body = Problem))
)]
async fn register(
    State(context): State<Context>,
    Extension(peer): Extension<PeerAddress>,
    ApiPath(id): ApiPath<SledId>,
    ApiJson(new): ApiJson<SledRegistration>,
) -> Result<ApiJson<SledRegistered>, ApiError> {
    check(&new)?;
    let refuse = |why, detail| refuse(&context, id, &new, peer, why, detail);
    if let Some(detail) = calls_from_elsewhere(id, &new, peer) {
        return Err(refuse(Refused::OtherAddress, detail));
    }
    let url = |port| url(&new, port);
    let registration = Registration {
        id,
        name: new.name.clone(),
        agent_epoch: new.agent_epoch,
        address: SledAddress { agent_url: url(new.agent_port), depot_url: url(new.depot_port) },
    };
    let outcome =
        context.database.sled_register(&registration).await.map_err(|error| problems::of_database(&error))?;
    let changed = match outcome {
        RegisterOutcome::Unchanged(_) => false,
        RegisterOutcome::Changed(row) => {
            tracing::info!(sled = %id, name = row.name, epoch = %row.agent_epoch, "sled registered");
            true
        }
        RegisterOutcome::StaleEpoch { current } => {
            let detail =
                format!("agent epoch {} of sled {id} is over: {current} has registered", new.agent_epoch);
            return Err(refuse(Refused::StaleEpoch { current }, detail));
        }
        RegisterOutcome::Cloned { agent_url } => {
            let detail =
                format!("sled {id} serves at {agent_url} in this same life; two agents share its identity");
            return Err(refuse(Refused::Cloned, detail));
        }
        RegisterOutcome::Expunged => {
            return Err(problems::of_expunged(id));
        }
    };
    context.observed.registration_accepted(id, peer.0.to_canonical());
    if context.observed.heard_from(id, new.agent_epoch, new.artifacts_revision) || changed {
        context.replication.activate(Reason::Event("heartbeat"));
    }
    Ok(ApiJson(SledRegistered {
        cluster_id: context.cluster_id,
        coordinator_id: context.coordinator.id,
        heartbeat_ms: HEARTBEAT_MS,
    }))
}

fn check(new: &SledRegistration) -> Result<(), ApiError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if new.name.is_empty() || new.name.len() > NAME_BYTES_MAX || !new.name.chars().all(plain) {
        let detail =
            format!("the name {:?} must be 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' or '.'", new.name);
        return Err(ApiError::new(Code::BadRequest, detail));
    }
    if new.address.is_unspecified() || new.address.is_multicast() {
        return Err(ApiError::new(Code::BadRequest, format!("nobody can be reached at {}", new.address)));
    }
    if new.agent_port == 0 || new.depot_port == 0 {
        return Err(ApiError::new(Code::BadRequest, "a port is 0"));
    }
    if new.agent_epoch.0 > AGENT_EPOCH_MAX {
        let detail = format!(
            "agent epoch {} is beyond {AGENT_EPOCH_MAX}: it counts the starts of an agent",
            new.agent_epoch
        );
        return Err(ApiError::new(Code::BadRequest, detail));
    }
    Ok(())
}

fn url(new: &SledRegistration, port: u16) -> String {
    format!("http://{}", SocketAddr::new(new.address, port))
}

/// Refuses a registration, and notes that: to operators, a sled that is refused is not one that is silent.
fn refuse(
    context: &Context,
    id: SledId,
    new: &SledRegistration,
    PeerAddress(peer): PeerAddress,
    why: Refused,
    detail: String,
) -> ApiError {
    let code = match why {
        Refused::StaleEpoch { .. } => Code::StaleEpoch,
        Refused::Cloned | Refused::OtherAddress => Code::SledIdentity,
    };
    let refusal = Refusal {
        sled: id,
        name: new.name.clone(),
        agent_url: url(new, new.agent_port),
        peer: peer.to_canonical(),
        why,
        detail: detail.clone(),
    };
    let problem = Problem::new(code, detail).with_hint(refusal.hint());
    context.observed.registration_refused(refusal);
    problem.into()
}

/// A sled serves where it calls from: agents bind their outgoing connections to their own address. Whoever has a sled's
/// token could otherwise name any address, and the coordinator would send its own token there. What is wrong, if it is.
fn calls_from_elsewhere(
    id: SledId,
    new: &SledRegistration,
    PeerAddress(peer): PeerAddress,
) -> Option<String> {
    let is_same = new.address.to_canonical() == peer.to_canonical();
    (!is_same).then(|| format!("sled {id} says that it serves at {}, and calls from {peer}", new.address))
}
