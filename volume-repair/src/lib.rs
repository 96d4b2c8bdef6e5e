//! Volumes: what they are made of, and what is done with them.
//!
//! **Problem.** A volume is described once, by the coordinator or by hand, and used by whoever holds it: a VM, an export, a job.
//!
//! **Theory.** The description is a *construction request*: data, versioned, the same for all holders. One volume is used by one Upstairs
//! for each region set in it.
//!
//! ```text
//!   construction request ──build──► composition: parts, and what lies under them ──opened──► a volume, which jobs are asked of
//!         (JSON)         refused?                                                  refused?
//! ```
//!
//! - [`request`]: the construction request.
//! - [`build`]: what of it can be used, and what for.
//! - [`change`]: a newer one, applied to the volume that runs. [`newcomers`]: the members that it names for the first time.
//! - [`holder`]: who holds a volume, as whoever applies a newer request sees it.
//!
//! Beside it: `upstairs/` (the writer of a region set), `layers/` (several parts, and what lies under them, as one volume), `seals/` (encryption),
//! `export/` (a volume over NBD), `sim/` (region sets in a simulation).

mod build;
mod change;
#[cfg(test)]
mod examples;
mod holder;
mod newcomers;
mod request;

pub use build::{BuildError, PARENTS_MAX, PARTS_MAX};
pub use change::{Applied, ChangeError, Executor, members_code};
pub use holder::{Holder, Nobody, NotApplied};
pub use newcomers::Newcomer;
pub use request::{Cipher, ConstructionRequest, Encryption, FilePart, Member, RegionSet, SubVolume, UrlPart};
