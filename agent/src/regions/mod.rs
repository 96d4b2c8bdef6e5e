//! The sled's regions: what coordinators ask to be on its disks, remembered so that every call may be made again.
//!
//! **Problem.** A coordinator that asks for a region may die before it hears the answer, and another one goes on in its place, while calls
//! of the first are still on their way. The agent may die at any instruction, and a disk may vanish in between.
//!
//! **Theory.** Each region has a record in the agent's state directory, apart from its disk: what it was asked to be, which life of the id
//! it is, and the highest right of a coordinator that was seen. A record is durable before what it says is begun, and again when it is
//! done; what a call does follows from the record and the call alone.
//!
//! ```text
//!                 PUT                                        DELETE                     dataset gone
//!   (no record) ─────► creating ──dataset, file made──► created ─────► destroying ───────────────────► destroyed ──┐
//!       │               ▲  ▲ └───────────DELETE──────────────────────────▲  └─ in use, disk away: tried again      │
//!       │               │  │                                    ▲────────┘ has snapshots by then                    │
//!       │ DELETE        │  └────────────────────── PUT of a greater incarnation ◄──────────────────────────────────┘
//!       └─────► tombstone ──PUT of a greater executor epoch
//! ```
//!
//! | a crash in | leaves | who goes on |
//! |---|---|---|
//! | creating | nothing, a dataset, or a dataset with the region's file | the same PUT again; a DELETE removes it |
//! | created | the region | |
//! | destroying | the region, or a part of its dataset that does not count any more | the agent, by itself |
//! | destroyed | nothing. The record stays, so that a late PUT makes no region that nobody knows | |
//! | tombstone | nothing, as before it: the PUT of what was destroyed before it was made may still be on its way | |
//!
//! A call that is refused has been heard of, too: of a region that has a record, its right counts from then on, and whoever is older is
//! refused.
//!
//! A read-only region is *created* when its file is there; what it holds, and whether that is proven, is its file's to say, and its Downstairs is
//! asked. What that one is to do for it is ordered again as long as it is not done: so it goes on after the end of either process.
//!
//! A region that has snapshots is not destroyed: who reads them may know nothing of who destroys it, so they are deleted first, each by its
//! own call. That is seen before the destruction is recorded, and again before anything is removed: a region that is in use waits as *destroying*, and
//! whoever uses it may take one meanwhile. Then it is *created* again, and destroyed by the next call alone. Snapshots that were deleted are
//! remembered in its record, before its Downstairs is asked: a PUT of one that was on its way takes no other one under its id.
//!
//! What a record says was made and its disk does not have is told as `failed`, and never made again in silence: an empty region that its
//! volume takes for a full one would be lost data.
//!
//! - [`types`]: records and requests. [`plan`]: what a call does; pure. [`error`]: refusals. [`store`]: records on disk.
//! - [`handle`]: the calls. [`seen`]: what disks say of regions. [`clones`]: read-only regions, and what else their Downstairs is asked.

mod clones;
pub mod error;
pub mod handle;
mod plan;
mod seen;
pub mod store;
pub mod types;

pub use error::RegionError;
pub use handle::Regions;
