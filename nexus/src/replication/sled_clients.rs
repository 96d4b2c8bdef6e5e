//! Connections to sleds, kept between calls. Addresses come from registrations only.

use sled_client::{ClientError, ClientOptions, SledClient};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

/// How long a sled may be silent while it answers a control call. Longer than a long poll of a job.
const CONTROL_IDLE_LIMIT: Duration = Duration::from_secs(20);

/// A PUT's answer comes after the whole body, so the client must not count the silence until then; the sender
/// watches its own progress instead. A day is "never" with a bound.
const BULK_IDLE_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Clients remembered at most; beyond that they are made anew. Far above the sleds of a cluster.
const CLIENTS_MAX: usize = 4096;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Short calls.
    Control,
    /// PUTs of artifacts.
    Bulk,
}

/// Connections to sleds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SledClients {
    token: String,
    source_address: IpAddr,
    clients: Arc<Mutex<BTreeMap<(String, Purpose), SledClient>>>,
}

impl SledClients {
    /// Calls sleds with this token, from this address.
    #[must_use]
    pub fn new(token: String, source_address: IpAddr) -> SledClients {
        SledClients { token, source_address, clients: Arc::default() }
    }

    /// A client of the agent at this URL.
    pub fn get(&self, agent_url: &str, purpose: Purpose) -> Result<SledClient, ClientError> {
        let key = (agent_url.to_owned(), purpose);
        let mut clients = self.clients.lock().expect("no client panics while it is made");
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let options = ClientOptions {
            token: Some(self.token.clone()),
            source_address: Some(self.source_address),
            read_idle_timeout: Some(match purpose {
                Purpose::Control => CONTROL_IDLE_LIMIT,
                Purpose::Bulk => BULK_IDLE_LIMIT,
            }),
        };
        let client = SledClient::new(agent_url, &options)?;
        if clients.len() >= CLIENTS_MAX {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}
