//! The NBD clients of an export: who comes, who may ask how much, and who is told what. Owns where they come.

use crate::{
    client::Client,
    listener::{Address, Listener},
    socket::{Happened, Socket},
};
use mio::{Registry, Token};
use nbd_server::Exports;
use std::{collections::BTreeMap, io, sync::Arc, time::Duration};
use upstairs::{Data, Job, JobError, JobId, Run};

/// While so many bytes are kept for all clients together, only those ask for whom nothing is kept, and with twice as many nobody.
const HELD_MAX: usize = 64 << 20;

/// NBD clients at a time.
const CLIENTS_MAX: usize = 64;

/// Who is not done with shaking hands after so long does not keep the place of another client.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// All of them.
#[derive(Debug)]
pub(crate) struct Clients {
    listener: Listener,
    exports: Arc<Exports>,
    block_size: u64,
    /// Each has a token of its own, from this one on.
    first: Token,
    /// Somebody may be waiting to be accepted, who was not for lack of files, most likely. Nobody tells of him again.
    is_to_accept: bool,
    clients: BTreeMap<usize, Client>,
    next: usize,
    /// Whose jobs they are.
    jobs: BTreeMap<JobId, usize>,
}

impl Clients {
    pub(crate) fn new(listener: Listener, exports: Exports, block_size: u64, first: Token) -> Clients {
        Clients {
            listener,
            exports: Arc::new(exports),
            block_size,
            first,
            is_to_accept: false,
            clients: BTreeMap::new(),
            next: 0,
            jobs: BTreeMap::new(),
        }
    }

    pub(crate) fn address(&self) -> &Address {
        self.listener.address()
    }

    /// What is offered to whoever comes.
    pub(crate) fn exports(&self) -> &Exports {
        &self.exports
    }

    /// Those that come from now on are offered this.
    pub(crate) fn offer(&mut self, exports: Exports) {
        self.exports = Arc::new(exports);
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    pub(crate) fn ids(&self) -> Vec<usize> {
        self.clients.keys().copied().collect()
    }

    /// Whether nothing is under way for any of them, and each was told all.
    pub(crate) fn are_idle(&self) -> bool {
        self.jobs.is_empty() && self.clients.values().all(Client::is_idle)
    }

    /// Bytes that are kept for all of them.
    pub(crate) fn held(&self) -> usize {
        self.clients.values().map(Client::held).sum()
    }

    /// Whether one of them may ask more, and has said something that was not read.
    pub(crate) fn may_ask(&self, has_room: bool) -> bool {
        let held = self.held();
        self.clients.values().any(|client| may_ask(client, held, has_room))
    }

    /// Something has happened to the client of this token.
    pub(crate) fn note(&mut self, token: Token, happened: Happened) {
        if let Some(client) = self.clients.get_mut(&(token.0 - self.first.0)) {
            client.note(happened);
        }
    }

    /// Accepts those that could not be accepted when they came.
    pub(crate) fn accept_late(&mut self, now: Duration, registry: &Registry) {
        if self.is_to_accept {
            self.accept(now, registry);
        }
    }

    /// Accepts all that wait.
    pub(crate) fn accept(&mut self, now: Duration, registry: &Registry) {
        loop {
            match self.listener.accept() {
                Ok(socket) if self.clients.len() < CLIENTS_MAX => self.add(socket, now, registry),
                Ok(_) => tracing::warn!(CLIENTS_MAX, "too many clients: one is refused"),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_to_accept = false;
                    return;
                }
                Err(error) => {
                    if !self.is_to_accept {
                        tracing::warn!(%error, "clients cannot be accepted, and are as soon as possible");
                    }
                    self.is_to_accept = true;
                    return;
                }
            }
        }
    }

    fn add(&mut self, socket: Socket, now: Duration, registry: &Registry) {
        let id = self.next;
        self.next += 1;
        let mut client = Client::new(socket, &self.exports, self.block_size, now);
        match client.socket_mut().register(registry, Token(self.first.0 + id)) {
            Ok(()) => drop(self.clients.insert(id, client)),
            Err(error) => tracing::warn!(%error, "a client cannot be served"),
        }
    }

    pub(crate) fn end_slow_handshakes(&mut self, now: Duration) {
        self.clients.retain(|id, client| {
            let is_slow = client.is_shaking_hands() && now.saturating_sub(client.since) >= HANDSHAKE_MAX;
            if is_slow {
                tracing::info!(client = id, ?HANDSHAKE_MAX, "a client has not shaken hands in time");
            }
            !is_slow
        });
    }

    /// What a client asks next; none if it has nothing to say, or may say nothing now. `held` is what is kept for all of them; what is
    /// kept for this one from now on is added.
    pub(crate) fn receive(
        &mut self,
        id: usize,
        next_job: &mut u64,
        has_room: bool,
        held: &mut usize,
    ) -> Option<Vec<(JobId, Job)>> {
        let client = self.clients.get_mut(&id).filter(|client| may_ask(client, *held, has_room))?;
        let before = client.held();
        match client.receive(next_job, has_room) {
            Ok(jobs) => {
                *held = (*held + client.held()).saturating_sub(before);
                self.jobs.extend(jobs.iter().map(|(job, _)| (*job, id)));
                Some(jobs)
            }
            Err(error) => {
                tracing::info!(client = id, %error, "a client is gone");
                self.clients.remove(&id);
                None
            }
        }
    }

    fn of_job(&mut self, job: JobId) -> Option<&mut Client> {
        self.jobs.get(&job).and_then(|client| self.clients.get_mut(client))
    }

    /// Blocks from this one on were read.
    pub(crate) fn put_read(&mut self, job: JobId, block: u64, data: Data) {
        if let Some(client) = self.of_job(job) {
            client.put_read(job, block, data);
        }
    }

    pub(crate) fn put_look(&mut self, job: JobId, runs: &[Run]) {
        if let Some(client) = self.of_job(job) {
            client.put_look(job, runs);
        }
    }

    /// A job has ended so.
    pub(crate) fn end(&mut self, job: JobId, result: Result<(), JobError>) {
        let client = self.jobs.remove(&job);
        if let Some(client) = client.and_then(|client| self.clients.get_mut(&client)) {
            client.end(job, result);
        }
    }

    /// Sends what there is to send; who has nothing more to say is gone.
    pub(crate) fn send(&mut self) {
        self.clients.retain(|id, client| match client.send() {
            Ok(()) => !client.is_over(),
            Err(error) => {
                tracing::info!(client = id, %error, "a client is gone");
                false
            }
        });
    }
}

/// Whether a client may ask more, while so much is kept for all of them, and the volume has room for more or not. For shaking hands there is
/// always room: who comes is told what there is, however long others wait.
fn may_ask(client: &Client, held: usize, has_room: bool) -> bool {
    if client.is_shaking_hands() || !has_room {
        return client.is_shaking_hands() && client.may_ask();
    }
    let is_free = held < HELD_MAX || (client.is_idle() && held < 2 * HELD_MAX);
    client.may_ask() && (is_free || client.is_taking())
}
