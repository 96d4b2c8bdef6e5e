//! A region of this process, as what is filled: its member's answers come back on a channel.

use super::{CloneError, Target, machine::strange};
use crate::{member::ConnectionId, served::Served};
use region::Position;
use region_wire::{Reply, Request};
use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

/// How often it is looked, while a disk takes long, whether it is to stop.
const LOOK: Duration = Duration::from_millis(200);

/// A region that is filled by this.
pub(crate) struct Local<'a> {
    pub(crate) served: Arc<Served>,
    pub(crate) connection: ConnectionId,
    pub(crate) said: Receiver<Reply>,
    /// The position of the snapshot that it has.
    pub(crate) snapshot: Option<Position>,
    pub(crate) is_to_stop: &'a dyn Fn() -> bool,
    /// Told why its disk refuses, while that is tried again.
    pub(crate) waits: &'a dyn Fn(String),
}

impl Target for Local<'_> {
    fn snapshot(&self) -> Option<Position> {
        self.snapshot
    }

    fn ask(&mut self, request: Request) -> Result<Reply, CloneError> {
        self.tell(request)?;
        loop {
            match self.said.recv_timeout(LOOK) {
                // Of a flush of a position, or of what was asked before.
                Ok(Reply::Applied(_)) => {}
                Ok(Reply::Waits { why, .. }) => (self.waits)(why),
                Ok(Reply::Failed(why)) => return Err(CloneError::Target { why, may_pass: true }),
                Ok(wrong @ Reply::Wrong(_)) => return Err(strange(&wrong)),
                Ok(reply) => return Ok(reply),
                Err(RecvTimeoutError::Timeout) if (self.is_to_stop)() => return Err(CloneError::Stopped),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let why = "it was closed".to_owned();
                    return Err(CloneError::Target { why, may_pass: true });
                }
            }
        }
    }

    fn tell(&mut self, request: Request) -> Result<(), CloneError> {
        let connection = self.connection;
        self.served.with(|member| member.receive(connection, vec![request]));
        Ok(())
    }

    fn forget_cache(&mut self) {
        self.served.with(|member| {
            member.region().drop_cache();
            Vec::new()
        });
    }

    fn prove(&mut self, hash: [u8; 32]) -> Result<(), CloneError> {
        let mut proven = None;
        self.served.with(|member| {
            proven = Some(member.prove(hash));
            Vec::new()
        });
        match proven {
            Some(Ok(())) => Ok(()),
            Some(Err(failed)) => Err(CloneError::Target { why: failed.to_string(), may_pass: true }),
            None => Err(CloneError::Target { why: "it was closed".to_owned(), may_pass: true }),
        }
    }
}
