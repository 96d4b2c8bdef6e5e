//! Who is stopped for a while, as a process is by a signal. What comes meanwhile waits, and in its order: a connection's bytes do not
//! overtake each other because somebody was stopped.

use crate::{events::Event, world::World};
use std::time::Duration;

impl World {
    /// What is sent on a connection later, or is on its way, is not there before this, also if whoever is stopped goes on before he was to.
    pub(crate) fn keep_behind(&mut self, event: &Event, until: Duration) {
        match event {
            Event::ToSled(connection, _) | Event::ClosedAtSled(connection) => {
                self.hold_to_sled(*connection, until);
            }
            Event::ToWriter(connection, _) | Event::ClosedAtWriter(connection) => {
                self.hold_to_writer(*connection, until);
            }
            _ => {}
        }
    }

    /// What is sent to a sled on this connection, and is not there yet, is not before this.
    pub(crate) fn hold_to_sled(&mut self, connection: u64, until: Duration) {
        if let Some(known) = self.connections.get_mut(&connection) {
            known.to_sled = known.to_sled.max(until);
            known.held_to_sled = known.held_to_sled.max(until);
        }
    }

    /// The same, to its writer.
    pub(crate) fn hold_to_writer(&mut self, connection: u64, until: Duration) {
        if let Some(known) = self.connections.get_mut(&connection) {
            known.to_writer = known.to_writer.max(until);
            known.held_to_writer = known.held_to_writer.max(until);
        }
    }

    /// Whoever is stopped does nothing until then.
    pub(crate) fn paused_until(&self, event: &Event) -> Option<Duration> {
        let of_writer = |writer: usize| self.writers.get(writer).map(|writer| writer.paused_until);
        match event {
            Event::ToSled(connection, _) | Event::ClosedAtSled(connection) => {
                let known = self.connections.get(connection)?;
                Some(self.sleds[known.sled].paused_until.max(known.held_to_sled))
            }
            Event::Worked(sled, _, _) | Event::TickSled(sled) => Some(self.sleds[*sled].paused_until),
            Event::ToWriter(connection, _) | Event::ClosedAtWriter(connection) => {
                let known = self.connections.get(connection)?;
                of_writer(known.writer).map(|until| until.max(known.held_to_writer))
            }
            Event::Connected(writer, _, _) | Event::TickWriter(writer) | Event::Ask(writer) => {
                of_writer(*writer)
            }
            Event::Start(_)
            | Event::Fault
            | Event::TakeOver
            | Event::Unblock(..)
            | Event::Cut(..)
            | Event::Pause(..)
            | Event::KillWriter(_)
            | Event::Restart(_)
            | Event::MakeRoom(_)
            | Event::RotNewest(_)
            | Event::Plan(_)
            | Event::Apply => None,
        }
    }
}
