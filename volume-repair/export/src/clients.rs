//! The NBD clients of an export: who comes, who may ask how much, and who is told what. Owns the doors by which they come.

use crate::{
    client::Client,
    door::{DOORS_MAX, Door, DoorId, DoorStatus},
    listener::{Address, Listener},
    offer::ExportError,
    socket::{Happened, Socket},
};
use mio::{Registry, Token};
use nbd_server::Exports;
use std::{collections::BTreeMap, io, sync::Arc, time::Duration};
use upstairs::{Data, Job, JobError, JobId, Run};

/// While so many bytes are kept for all clients together, only those ask for whom nothing is kept, and with twice as many nobody.
const HELD_MAX: usize = 64 << 20;

/// NBD clients at a time by the first door.
const CLIENTS_MAX: usize = 64;

/// The first door: it is there as long as the export.
const FIRST: usize = 0;

/// Who is not done with shaking hands after so long does not keep the place of another client.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// All of them.
#[derive(Debug)]
pub(crate) struct Clients {
    block_size: u64,
    /// Each door and each client has a token of its own, from this one on.
    first: Token,
    doors: BTreeMap<usize, Door>,
    clients: BTreeMap<usize, Client>,
    next: usize,
    /// Whose jobs they are.
    jobs: BTreeMap<JobId, usize>,
    /// When there was one last, as far as anybody has looked.
    used: Duration,
}

impl Clients {
    /// None yet. `listener` is the first door's.
    pub(crate) fn new(
        mut listener: Listener,
        exports: Exports,
        block_size: u64,
        first: Token,
        registry: &Registry,
    ) -> io::Result<Clients> {
        listener.register(registry, first)?;
        let door = Door {
            id: DoorId(FIRST as u64),
            listener: Some(listener),
            exports: Arc::new(exports),
            clients_max: CLIENTS_MAX,
            is_to_accept: false,
            refused: 0,
        };
        let (doors, next) = (BTreeMap::from([(FIRST, door)]), FIRST + 1);
        let (clients, jobs, used) = (BTreeMap::new(), BTreeMap::new(), Duration::ZERO);
        Ok(Clients { block_size, first, doors, clients, next, jobs, used })
    }

    fn first_door(&self) -> &Door {
        self.doors.get(&FIRST).expect("the first door is never closed")
    }

    /// Where clients come from the start.
    pub(crate) fn address(&self) -> &Address {
        self.first_door().listener.as_ref().expect("the first door is never closed").address()
    }

    /// What is offered to whoever comes there.
    pub(crate) fn exports(&self) -> &Exports {
        &self.first_door().exports
    }

    /// Lets clients come by another door, too.
    pub(crate) fn open(
        &mut self,
        mut listener: Listener,
        exports: Exports,
        clients_max: usize,
        registry: &Registry,
    ) -> Result<DoorId, ExportError> {
        if self.doors.len() >= DOORS_MAX {
            return Err(ExportError::Doors(self.doors.len()));
        }
        let place = self.next;
        self.next += 1;
        listener.register(registry, Token(self.first.0 + place)).map_err(ExportError::System)?;
        let id = DoorId(place as u64);
        let (listener, exports) = (Some(listener), Arc::new(exports));
        let door = Door { id, listener, exports, clients_max, is_to_accept: false, refused: 0 };
        self.doors.insert(place, door);
        Ok(id)
    }

    /// A door that was opened, and is not being closed.
    pub(crate) fn open_door(&self, id: DoorId) -> Option<&Door> {
        let door = usize::try_from(id.0).ok().filter(|place| *place != FIRST);
        door.and_then(|place| self.doors.get(&place)).filter(|door| door.listener.is_some())
    }

    /// Clients of a door that have shaken hands.
    pub(crate) fn in_use(&self, door: DoorId) -> u64 {
        let uses = |client: &&Client| client.door == door && !client.is_shaking_hands();
        self.clients.values().filter(uses).count() as u64
    }

    /// Nobody comes by this door any more, and whoever is in is told so when it asks.
    pub(crate) fn drain(&mut self, id: DoorId) {
        for door in self.doors.values_mut().filter(|door| door.id == id) {
            door.listener = None;
        }
        self.clients.retain(|_, client| client.door != id || !client.is_shaking_hands());
        self.clients.values_mut().filter(|client| client.door == id).for_each(Client::leave);
    }

    /// Whether all that clients of this door have asked is answered.
    pub(crate) fn is_drained(&self, id: DoorId) -> bool {
        self.clients.values().filter(|client| client.door == id).all(Client::is_idle)
    }

    /// There is no such door any more, and nobody in it.
    pub(crate) fn cut(&mut self, id: DoorId) {
        self.clients.retain(|_, client| client.door != id);
        self.doors.retain(|_, door| door.id != id);
    }

    /// The doors that were opened, and are not being closed.
    pub(crate) fn doors(&self) -> Vec<DoorStatus> {
        let open = self.doors.iter().filter(|(place, door)| **place != FIRST && door.listener.is_some());
        open.map(|(_, door)| door.status(self.in_use(door.id))).collect()
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

    /// Whoever is there now was there last.
    pub(crate) fn note_use(&mut self, now: Duration) {
        if !self.clients.is_empty() {
            self.used = now;
        }
    }

    /// For how long there has been none.
    pub(crate) fn unused(&self, now: Duration) -> Duration {
        if self.clients.is_empty() { now.saturating_sub(self.used) } else { Duration::ZERO }
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

    /// Something has happened to the door or the client of this token.
    pub(crate) fn note(&mut self, token: Token, happened: Happened, now: Duration, registry: &Registry) {
        let place = token.0 - self.first.0;
        if self.doors.contains_key(&place) {
            self.accept(place, now, registry);
        } else if let Some(client) = self.clients.get_mut(&place) {
            client.note(happened);
        }
    }

    /// Accepts those that could not be accepted when they came.
    pub(crate) fn accept_late(&mut self, now: Duration, registry: &Registry) {
        let late: Vec<usize> =
            self.doors.iter().filter(|(_, door)| door.is_to_accept).map(|(place, _)| *place).collect();
        late.into_iter().for_each(|place| self.accept(place, now, registry));
    }

    /// Accepts all that wait at a door.
    fn accept(&mut self, place: usize, now: Duration, registry: &Registry) {
        while let Some((socket, id, exports)) = self.accept_one(place) {
            self.add(Client::new(socket, &exports, self.block_size, now, id), registry);
        }
    }

    /// The next one that is let in.
    fn accept_one(&mut self, place: usize) -> Option<(Socket, DoorId, Arc<Exports>)> {
        loop {
            let door = self.doors.get_mut(&place)?;
            let is_in = |client: &&Client| client.door == door.id;
            match door.listener.as_ref()?.accept() {
                Ok(socket) if self.clients.values().filter(is_in).count() < door.clients_max => {
                    return Some((socket, door.id, Arc::clone(&door.exports)));
                }
                Ok(_) => {
                    door.refused += 1;
                    tracing::warn!(door = place, max = door.clients_max, "too many clients: one is refused");
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    door.is_to_accept = false;
                    return None;
                }
                Err(error) => {
                    if !door.is_to_accept {
                        tracing::warn!(%error, "clients cannot be accepted, and are as soon as possible");
                    }
                    door.is_to_accept = true;
                    return None;
                }
            }
        }
    }

    fn add(&mut self, mut client: Client, registry: &Registry) {
        let id = self.next;
        self.next += 1;
        self.used = self.used.max(client.since);
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
