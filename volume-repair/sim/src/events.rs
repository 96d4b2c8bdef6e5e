//! What can happen in the simulation.

use crate::replacing::Plan;
use downstairs::Work;
use region_wire::{Reply, Request};
use std::time::Duration;
use upstairs::PeerId;

/// What happens at some time.
#[derive(Debug)]
pub(crate) enum Event {
    ToSled(u64, Request),
    ToWriter(u64, Reply),
    /// A writer that wants to connect hears how that went.
    Connected(usize, PeerId, u64),
    /// One end of a connection notices that it is closed.
    ClosedAtSled(u64),
    ClosedAtWriter(u64),
    /// The disk has done this, for the process of this life.
    Worked(usize, u64, Work),
    TickSled(usize),
    TickWriter(usize),
    Ask(usize),
    Start(usize),
    /// Something goes wrong.
    Fault,
    /// A new Upstairs is started, by whoever believes that the older one is gone.
    TakeOver,
    Unblock(usize, usize),
    /// The power of a sled fails, and comes back after so long.
    Cut(usize, Duration),
    Pause(usize, Duration),
    /// The newest Upstairs dies, if it is this one.
    KillWriter(usize),
    /// Somebody looks at a sled whose region has failed, and starts its process anew.
    Restart(usize),
    /// The disk of a sled has room again.
    MakeRoom(usize),
    /// Blocks that not all have rot on this sled.
    RotNewest(usize),
    /// Members are to be replaced.
    Plan(Plan),
    /// The Upstairs that has the volume is told which members there are to be.
    Apply,
}
