//! How soon the system is to run a thread: later than others, while it works for what no client waits for.
//!
//! ```text
//!   as usual ──Later::from_now_on──► where several threads want one processor, this one has a third of what another one has ──dropped──► as usual
//! ```
//!
//! A disk's server is asked for clients' requests and for a repair's copies. On a host that is busy with both, the system would divide its
//! processors among them alike: a client's request then waits while copies are moved. So, beside clients, copies are moved by threads that let others go first.
//! Measured, also what other values than this one would give: `docs/RESULTS.md`, the share of clients.
//!
//! Linux lets each thread have a nice value of its own (`setpriority(2)`, differences between C library and kernel), and lets everybody raise it;
//! but only who may, `CAP_SYS_NICE` or `RLIMIT_NICE`, lowers it again. Whether this process may is tried once, by a thread that ends; where it
//! may not, all threads stay as they are.

use rustix::{
    io,
    process::{getpriority_process, setpriority_process},
};
use std::{marker::PhantomData, sync::OnceLock, thread};

/// Steps of nice, each of which is a fifth less of a processor that others want, too.
const STEPS: i32 = 5;

/// While it is there, the thread that has made it lets others go first.
#[derive(Debug)]
pub(crate) struct Later {
    usual: i32,
    /// It is about this thread.
    not_sent: PhantomData<*const ()>,
}

impl Later {
    /// None where it could not be taken back.
    pub(crate) fn from_now_on() -> Option<Later> {
        static MAY_BE_TAKEN_BACK: OnceLock<bool> = OnceLock::new();
        if *MAY_BE_TAKEN_BACK.get_or_init(may_be_taken_back) { Later::begin(STEPS).ok() } else { None }
    }

    fn begin(steps: i32) -> io::Result<Later> {
        // The calling thread, for Linux.
        let usual = getpriority_process(None)?;
        setpriority_process(None, usual + steps)?;
        Ok(Later { usual, not_sent: PhantomData })
    }

    fn take_back(&self) -> io::Result<()> {
        setpriority_process(None, self.usual)
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        if let Err(error) = self.take_back() {
            tracing::warn!(%error, "a thread stays less urgent than others");
        }
    }
}

fn may_be_taken_back() -> bool {
    let tried = || {
        Later::begin(1).and_then(|later| {
            let taken_back = later.take_back();
            std::mem::forget(later);
            taken_back
        })
    };
    let started = thread::Builder::new().name("try nice".to_owned()).spawn(tried);
    let may = started.is_ok_and(|thread| matches!(thread.join(), Ok(Ok(()))));
    if !may {
        tracing::info!(
            "copies are moved as urgently as clients' requests: this process may not change how nice it is"
        );
    }
    may
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nice() -> i32 {
        getpriority_process(None).expect("it can be asked")
    }

    #[test]
    fn a_thread_is_later_while_it_is_said_and_no_other_one_is() {
        let usual = nice();
        let is_later = Later::from_now_on();
        // Who may not take it back does not begin.
        assert_eq!(is_later.is_some(), may_be_taken_back());
        let expected = if is_later.is_some() { (usual + STEPS).min(19) } else { usual };
        assert_eq!(nice(), expected);
        drop(is_later);
        assert_eq!(nice(), usual);
    }

    #[test]
    fn another_thread_stays_as_it_was() {
        let (tell, told) = std::sync::mpsc::channel();
        let (go, may_go) = std::sync::mpsc::channel::<()>();
        let other = thread::spawn(move || {
            tell.send(nice()).expect("somebody listens");
            may_go.recv().expect("it is told to go on");
            nice()
        });
        let before = told.recv().expect("it tells");
        let is_later = Later::from_now_on();
        go.send(()).expect("it listens");
        assert_eq!(other.join().expect("it ends"), before);
        drop(is_later);
    }
}
