//! Telling the coordinators that this sled lives: registration and heartbeat in one call, repeated for as long as the
//! agent runs, one loop for each coordinator, so that one that is away costs the others nothing.
//!
//! ```text
//!   Unregistered ── answered ──► Registered ── no answer, refused ──► Unregistered
//!        └────────── every second, or as the coordinator says ──────────┘
//!                    at once when the health of an M.2 changes
//! ```
//! That an M.2 fails, fills up or returns is not kept until the next heartbeat is due: until the coordinator knows, it
//! counts copies that are not there, and shows an operator a sled that is well. Everything else that changes the revision
//! (each copy that arrives) waits for the heartbeat, or a sled that is being filled would do nothing but tell.

use api_client::{ClientError, ClientOptions};
use ids::SledId;
use nexus_client::{
    SledFacingClient,
    registration::{SledRegistered, SledRegistration},
};
use std::time::Duration;
use tokio::{sync::watch, time::Instant};

/// The first wait while there is no answer. Sleds and coordinators that start together find each other at once.
const RETRY_MIN: Duration = Duration::from_millis(100);

/// The longest: a returning coordinator hears of the sled within a second.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// The bounds in which a coordinator may choose the time between heartbeats.
const HEARTBEAT_MS: std::ops::RangeInclusive<u64> = 100..=60_000;

/// The shortest time between two heartbeats, however often the health of disks changes.
const URGENT_INTERVAL: Duration = Duration::from_millis(100);

/// What is told.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The sled.
    pub id: SledId,
    /// Everything but the revision, which changes.
    pub registration: SledRegistration,
    /// The revision of what the sled holds.
    pub revision: watch::Receiver<u64>,
    /// Grows when the health of an M.2 changes, after the revision has.
    pub health: watch::Receiver<u64>,
}

/// Tells one coordinator until `stop` turns true.
pub async fn run(
    coordinator: String,
    options: ClientOptions,
    mut subject: Subject,
    mut stop: watch::Receiver<bool>,
) {
    let client = match SledFacingClient::new(&coordinator, &options) {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(
                coordinator,
                error = &error as &dyn std::error::Error,
                "cannot speak to this coordinator"
            );
            return;
        }
    };
    let mut registered = false;
    let mut retry = RETRY_MIN;
    loop {
        subject.health.mark_unchanged();
        let told = tell(&client, &subject).await;
        let told_at = Instant::now();
        let wait = match &told {
            Ok(answer) => {
                if !registered {
                    tracing::info!(coordinator, cluster = %answer.cluster_id, "registered");
                }
                retry = RETRY_MIN;
                Duration::from_millis(answer.heartbeat_ms.clamp(*HEARTBEAT_MS.start(), *HEARTBEAT_MS.end()))
            }
            Err(error) => {
                if registered || error.problem().is_some() {
                    tracing::warn!(coordinator, error = error as &dyn std::error::Error, "not registered");
                }
                let wait = retry;
                retry = (retry * 2).min(RETRY_MAX);
                wait
            }
        };
        registered = told.is_ok();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = health_changes(&mut subject.health, told_at) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Waits until the health of a disk has changed since it was told, and the time for another heartbeat has come.
async fn health_changes(health: &mut watch::Receiver<u64>, told_at: Instant) {
    if health.changed().await.is_err() {
        // The store is gone: there is nothing more to tell.
        std::future::pending::<()>().await;
    }
    tokio::time::sleep_until(told_at + URGENT_INTERVAL).await;
}

async fn tell(client: &SledFacingClient, subject: &Subject) -> Result<SledRegistered, ClientError> {
    let registration =
        SledRegistration { artifacts_revision: *subject.revision.borrow(), ..subject.registration.clone() };
    let call = client.register(subject.id, &registration);
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(result) => result,
        Err(_) => Err(ClientError::Silent { url: client.base_url().to_owned(), limit: CALL_LIMIT }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, extract::State, routing::put};
    use http_edge::{ApiJson, Server, ServerOptions};
    use ids::{AgentEpoch, ClusterId, CoordinatorId};
    use std::net::Ipv4Addr;
    use tokio::sync::mpsc;

    /// A coordinator that wants to hear from sleds once a minute, and the revisions that it hears of.
    async fn coordinator(stop: watch::Receiver<bool>) -> (String, mpsc::UnboundedReceiver<u64>) {
        type Heard = mpsc::UnboundedSender<u64>;
        let (heard, hears) = mpsc::unbounded_channel();
        let answer = async |State(heard): State<Heard>, ApiJson(told): ApiJson<SledRegistration>| {
            heard.send(told.artifacts_revision).unwrap();
            ApiJson(SledRegistered {
                cluster_id: ClusterId::generate(),
                coordinator_id: CoordinatorId::generate(),
                heartbeat_ms: 60_000,
            })
        };
        let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let url = format!("http://{}", server.local_address());
        let router = Router::new().route("/sleds/{id}", put(answer)).with_state(heard);
        tokio::spawn(server.run(router, ServerOptions::default(), stop));
        (url, hears)
    }

    #[tokio::test]
    async fn a_change_of_health_is_told_at_once_and_other_changes_wait_for_the_heartbeat() {
        let (end, stop) = watch::channel(false);
        let (url, mut hears) = coordinator(stop.clone()).await;
        let ((revision, revisions), (health, healths)) = (watch::channel(7), watch::channel(0));
        let subject = Subject {
            id: SledId::generate(),
            registration: SledRegistration {
                name: "sled-a".to_owned(),
                agent_epoch: AgentEpoch(1),
                address: Ipv4Addr::LOCALHOST.into(),
                agent_port: 1,
                depot_port: 2,
                artifacts_revision: 0,
            },
            revision: revisions,
            health: healths,
        };
        let options = ClientOptions { token: None, source_address: None, read_idle_timeout: None };
        let telling = tokio::spawn(run(url, options, subject, stop));
        let mut next = async || tokio::time::timeout(Duration::from_secs(10), hears.recv()).await;
        assert_eq!(next().await.unwrap(), Some(7));
        revision.send_replace(8);
        revision.send_replace(9);
        health.send_replace(1);
        assert_eq!(next().await.unwrap(), Some(9), "8 was not worth a heartbeat of its own");
        revision.send_replace(10);
        health.send_replace(2);
        assert_eq!(next().await.unwrap(), Some(10));
        end.send_replace(true);
        telling.await.unwrap();
    }
}
