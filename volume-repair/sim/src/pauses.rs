//! Who is stopped for a while, as a process is by a signal. What comes meanwhile waits, and in its order: a connection's bytes do not
//! overtake each other because somebody was stopped.

use crate::{events::Event, world::World};
use std::time::Duration;

impl World {
    /// What is sent on a connection later, or is on its way, is not there before this, also if whoever is stopped goes on before he was to.
    pub(crate) fn keep_behind(&mut self, event: &Event, until: Duration) {
        let (Event::ToSled(connection, _)
        | Event::ClosedAtSled(connection)
        | Event::ToWriter(connection, _)
        | Event::ClosedAtWriter(connection)) = event
        else {
            return;
        };
        let is_to_sled = matches!(event, Event::ToSled(..) | Event::ClosedAtSled(_));
        if let Some(known) = self.connections.get_mut(connection) {
            let (last, held) = match is_to_sled {
                true => (&mut known.to_sled, &mut known.held_to_sled),
                false => (&mut known.to_writer, &mut known.held_to_writer),
            };
            *last = (*last).max(until);
            *held = (*held).max(until);
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
