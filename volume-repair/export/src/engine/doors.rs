//! Doors that are opened and closed while the volume is in use.

use super::Export;
use crate::{
    closing::{Closing, Step},
    door::{self, CLOSE_MAX, ClosedDoor, DoorError, DoorId, DoorOrder, OpenDoor},
    listener::Listener,
    offer::ExportError,
};
use std::sync::mpsc::SyncSender;
use upstairs::Job;

impl Export {
    pub(super) fn open_door(
        &mut self,
        listener: Listener,
        order: &DoorOrder,
    ) -> Result<OpenDoor, ExportError> {
        let exports = door::exports(self.clients.exports(), order)?;
        let address = listener.address().clone();
        let id = self.clients.open(listener, exports, order.clients_max, self.poll.registry())?;
        tracing::info!(door = %id, %address, read_only = order.is_read_only, "clients may come by another door");
        Ok(OpenDoor { id, address })
    }

    /// Begins to close one, or says why not.
    pub(super) fn close_door(
        &mut self,
        id: DoorId,
        is_forced: bool,
        answer: SyncSender<Result<ClosedDoor, DoorError>>,
    ) {
        let clients = self.clients.in_use(id);
        let refused = match self.clients.open_door(id) {
            None => Some(DoorError::NotThere(id)),
            Some(_) if clients > 0 && !is_forced => Some(DoorError::InUse { id, clients }),
            Some(_) => None,
        };
        if let Some(error) = refused {
            // An answer that nobody waits for any more goes nowhere.
            let _ = answer.try_send(Err(error));
            return;
        }
        let is_to_flush = self.clients.open_door(id).is_some_and(|door| !door.is_read_only());
        self.clients.drain(id);
        tracing::info!(door = %id, clients, "a door is being closed");
        let step = Step::Draining { is_to_flush };
        self.closing.push(Closing { door: id, clients, end: self.now() + CLOSE_MAX, step, answer });
    }

    /// Goes on with those that are being closed, as far as that goes now. Whether there is something to send.
    pub(super) fn look_at_closing(&mut self) -> bool {
        let mut is_to_send = false;
        for place in 0..self.closing.len() {
            let Closing { door, step, .. } = self.closing[place];
            let Step::Draining { is_to_flush } = step else { continue };
            if !self.clients.is_drained(door) {
                continue;
            }
            if !is_to_flush {
                self.closing[place].step = Step::Done { is_flushed: true };
                continue;
            }
            let job = self.next_own_job();
            // Before it is submitted: it may end at once.
            self.closing[place].step = Step::Flushing(job);
            self.submit_own(job, Job::Flush);
            is_to_send = true;
        }
        let now = self.now();
        for closing in std::mem::take(&mut self.closing) {
            let Some(is_flushed) = closing.is_over(now) else {
                self.closing.push(closing);
                continue;
            };
            let Closing { door, clients, answer, .. } = closing;
            self.clients.cut(door);
            tracing::info!(%door, clients, is_flushed, "a door is gone");
            let _ = answer.try_send(Ok(ClosedDoor { clients, is_flushed }));
        }
        is_to_send
    }
}
