//! Waiting for events: looking for a moment before sleeping, where the last ones came that soon.
//!
//! To be woken costs as much as all else that is done for a small request. QEMU's event loops do the same, for the same reason.
//!
//! ```text
//!              the event was there within a moment
//!   sleeping ──────────────────────────────────────► looking, then sleeping
//!       ▲                                                       │
//!       └───────────────── it was not ──────────────────────────┘
//! ```

use mio::{Events, Poll};
use std::{
    io, thread,
    time::{Duration, Instant},
};

/// How long is looked. Twice what a member takes to answer on the same machine.
const MOMENT: Duration = Duration::from_micros(50);

/// What the last wait has taught.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    looks: bool,
}

impl Watch {
    /// Waits until there are events, or so long.
    pub(crate) fn wait(&mut self, poll: &mut Poll, events: &mut Events, limit: Duration) -> io::Result<()> {
        if limit.is_zero() {
            return poll_once(poll, events, limit);
        }
        let began = Instant::now();
        while self.looks && began.elapsed() < MOMENT {
            poll_once(poll, events, Duration::ZERO)?;
            if !events.is_empty() {
                return Ok(());
            }
            // Whoever is to cause the event may need this processor.
            thread::yield_now();
        }
        poll_once(poll, events, limit)?;
        self.looks = began.elapsed() < MOMENT;
        Ok(())
    }
}

fn poll_once(poll: &mut Poll, events: &mut Events, limit: Duration) -> io::Result<()> {
    match poll.poll(events, Some(limit)) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Token, Waker};

    #[test]
    fn what_has_happened_is_told_whether_it_looks_or_sleeps() {
        let mut poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(7)).unwrap();
        let mut events = Events::with_capacity(8);
        for looks in [false, true] {
            let mut watch = Watch { looks };
            waker.wake().unwrap();
            watch.wait(&mut poll, &mut events, Duration::from_secs(60)).unwrap();
            assert_eq!(events.iter().map(mio::event::Event::token).collect::<Vec<_>>(), [Token(7)]);
        }
    }

    #[test]
    fn a_long_wait_ends_the_looking() {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        let mut watch = Watch { looks: true };
        watch.wait(&mut poll, &mut events, Duration::from_millis(20)).unwrap();
        assert!(events.is_empty() && !watch.looks);
    }
}
