//! Volumes: what they are made of, and what is done with them.
//!
//! **Problem.** A volume is described once, by the coordinator or by hand, and used by whoever holds it: a VM, an export, a job.
//!
//! **Theory.** The description is a *construction request*: data, versioned, the same for all holders. One volume is used by one Upstairs
//! for each region set in it.
//!
//! - [`request`]: the construction request, and what of it this program can build.
//!
//! Beside it: `upstairs/` (the writer of a region set), `seals/` (its encryption), `export/` (a volume over NBD), `sim/` (all of it in a simulation).

mod request;

pub use request::{BuildError, Cipher, ConstructionRequest, Encryption, Member, RegionSet, SubVolume};
