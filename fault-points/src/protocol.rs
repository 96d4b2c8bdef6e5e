//! Requests and answers on the fault socket: one JSON object on one line each way. Owns the shapes and their limits;
//! what they cause is the board's and the disks' business.
//!
//! ```text
//! → {"request":"hold","point":"replication.before_put","after":2}      ← {"ok":null}
//! → {"request":"wait_held","point":"replication.before_put"}           ← {"ok":null}   once somebody is held there
//! → {"request":"release","point":"replication.before_put"}             ← {"ok":1}      how many were let go
//! → {"request":"disk","disk":"m2-0","fault":{"kind":"slow","ms":50}}   ← {"ok":…}      what the disks' owner says
//! → {"request":"list"}                                                 ← {"ok":[{"point":…,"passes":…,…}]}
//!   anything else                                                      ← {"error":"…"}
//! ```

use serde::{Deserialize, Serialize};

/// Bytes of a request's or answer's line at most. Requests are short, lists of points are not long; a peer that sends
/// more is not speaking this protocol.
pub(crate) const LINE_BYTES_MAX: usize = 1024 * 1024;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Hold everybody who reaches the point from now on, after letting `after` passes go by.
    Hold {
        /// The point's name.
        point: String,
        /// Passes that go through before the first is held.
        #[serde(default)]
        after: u64,
    },
    /// Answer when at least one task is held at the point; an error if no hold is set there.
    WaitHeld {
        /// The point's name.
        point: String,
    },
    /// Take the hold away and let everybody who is held there go on; answers with their number.
    Release {
        /// The point's name.
        point: String,
    },
    /// Fault a disk, or heal it.
    Disk {
        /// The disk's name in the process's config, such as `m2-0`.
        disk: String,
        /// What is wrong with it from now on.
        fault: DiskFault,
    },
    /// Tell every point that was passed or held so far.
    List,
}

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum DiskFault {
    /// Every operation fails with EIO from now on, also on open files.
    Fail,
    /// Every operation takes longer.
    Slow {
        /// Milliseconds added to each.
        ms: u64,
    },
    /// Every write finds no space.
    Full,
    /// Bits are flipped in stored artifacts or blocks, once, silently.
    Corrupt {
        /// How many of them.
        count: u64,
        /// Chooses which; the same seed over the same contents chooses the same.
        seed: u64,
    },
    /// Nothing any more. What was corrupted stays so.
    Heal,
}

/// One point, as `list` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointStatus {
    /// Its name.
    pub point: String,
    /// How often it was reached since the socket was opened.
    pub passes: u64,
    /// Whether a hold is set.
    pub on_hold: bool,
    /// Tasks that are held there now.
    pub held: u64,
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Done; what it yielded.
    Ok(serde_json::Value),
    /// Not done; why, in words.
    Error(String),
}
