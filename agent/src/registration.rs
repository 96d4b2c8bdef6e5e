//! Telling the coordinators that this sled lives: registration and heartbeat in one call, repeated for as long as the
//! agent runs, one loop for each coordinator, so that one that is away costs the others nothing.
//!
//! ```text
//!   Unregistered ── answered ──► Registered ── no answer, refused ──► Unregistered
//!        └────────── every second, or as the coordinator says ──────────┘
//! ```

use api_client::{ClientError, ClientOptions};
use ids::SledId;
use nexus_client::{
    SledFacingClient,
    registration::{SledRegistered, SledRegistration},
};
use std::time::Duration;
use tokio::sync::watch;

/// The first wait while there is no answer. Sleds and coordinators that start together find each other at once.
const RETRY_MIN: Duration = Duration::from_millis(100);

/// The longest: a returning coordinator hears of the sled within a second.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// The bounds in which a coordinator may choose the time between heartbeats.
const HEARTBEAT_MS: std::ops::RangeInclusive<u64> = 100..=60_000;

/// What is told.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The sled.
    pub id: SledId,
    /// Everything but the revision, which changes.
    pub registration: SledRegistration,
    /// The revision of what the sled holds.
    pub revision: watch::Receiver<u64>,
}

/// Tells one coordinator until `stop` turns true.
pub async fn run(
    coordinator: String,
    options: ClientOptions,
    subject: Subject,
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
        let told = tell(&client, &subject).await;
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
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
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
