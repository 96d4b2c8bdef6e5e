//! The connections between writers and sleds: how they come to be, what is delivered on them, what is lost, and how they end.

use crate::{
    events::Event,
    network::{Connection, delay},
    world::{Broken, World},
};
use downstairs::ConnectionId;
use region_wire::{Reply, Request};
use upstairs::PeerId;

impl World {
    pub(crate) fn deliver_to_sled(&mut self, connection: u64, request: Request) -> Result<(), Broken> {
        if self.is_lost(connection) || self.connections[&connection].is_closed {
            return Ok(());
        }
        let sled = self.connections[&connection].sled;
        if matches!(request, Request::Write(..) | Request::Zero(..) | Request::Pass(_)) {
            self.deliver_late(connection)?;
        }
        self.aim(sled, &request);
        self.with_sled(sled, |member| match request {
            Request::Hello(hello) => member.connect(ConnectionId(connection), &hello),
            request => member.receive(ConnectionId(connection), vec![request]),
        })
    }

    /// Right before a newer Upstairs writes on this connection, what is late arrives at the same sled.
    fn deliver_late(&mut self, connection: u64) -> Result<(), Broken> {
        let of = |id: u64| self.connections.get(&id).map(|known| (known.sled, known.writer));
        let is_overtaken = |late: &u64| match (of(*late), of(connection)) {
            (Some((sled, older)), Some((other, newer))) => sled == other && older < newer,
            _ => false,
        };
        let Some(late) = self.late.take_if(|late| is_overtaken(late)) else { return Ok(()) };
        self.take_sent(late).into_iter().try_for_each(|request| self.deliver_to_sled(late, request))
    }

    pub(crate) fn deliver_to_writer(&mut self, connection: u64, reply: Reply) -> Result<(), Broken> {
        let known = &self.connections[&connection];
        let (writer, peer) = (known.writer, known.peer);
        if self.is_lost(connection) || self.writers[writer].connections.get(&peer) != Some(&connection) {
            return Ok(());
        }
        self.with_writer(writer, |upstairs, now| upstairs.received(now, peer, vec![reply]))
    }

    /// Whether a message is lost. Then those behind it are, too: there are no gaps in a connection.
    pub(crate) fn is_lost(&mut self, connection: u64) -> bool {
        let Some(known) = self.connections.get_mut(&connection) else { return true };
        known.is_dark |= self.blocked.contains(&(known.writer, known.sled));
        known.is_dark
    }

    pub(crate) fn connect(&mut self, writer: usize, peer: PeerId, attempt: u64) -> Result<(), Broken> {
        let Some(sled) = self.writers[writer].sled_at(peer) else { return Ok(()) };
        if self.writers[writer].attempts.get(&peer) != Some(&attempt) {
            return Ok(());
        }
        let is_there = self.sleds[sled].member.is_some() && !self.blocked.contains(&(writer, sled));
        if is_there && self.writers[writer].is_alive {
            let id = self.next_connection;
            self.next_connection += 1;
            let connection = Connection {
                writer,
                sled,
                peer,
                is_dark: false,
                is_closed: false,
                to_sled: self.now,
                to_writer: self.now,
                held_to_sled: self.now,
                held_to_writer: self.now,
            };
            self.connections.insert(id, connection);
            self.writers[writer].connections.insert(peer, id);
        }
        self.with_writer(writer, |upstairs, now| upstairs.connected(now, peer, is_there))
    }

    /// Both ends notice, sooner or later.
    pub(crate) fn break_connection(&mut self, id: u64) {
        let (at_sled, at_writer) = (delay(&mut self.random), delay(&mut self.random));
        self.close(id);
        self.at(at_sled, Event::ClosedAtSled(id));
        self.at(at_writer, Event::ClosedAtWriter(id));
    }

    pub(crate) fn close(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.is_closed = true;
        }
    }

    pub(crate) fn send_to_writer(&mut self, id: u64, mut reply: Reply) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        self.sleds[connection.sled].falsify(&mut reply, self.geometry.block_size.bytes());
        let later = self.climate.far(connection.sled, delay(&mut self.random));
        connection.to_writer = connection.to_writer.max(self.now + later);
        let later = connection.to_writer.saturating_sub(self.now);
        self.at(later, Event::ToWriter(id, reply));
    }
}
