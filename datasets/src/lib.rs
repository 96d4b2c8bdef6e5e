//! A disk's datasets: one directory per region, with a size that is kept.
//!
//! **Problem.** Regions of many volumes share a disk. Each needs a directory of its own, what was promised to it must be there when
//! it is needed, and whoever made it may have died in the middle, or be told twice. Disks vanish, fill up, become read-only, and hang.
//!
//! **Theory.** One port, [`Datasets`], with two implementations that keep one contract (`tests/contract`). Every call says what shall
//! be, looks at what is, and does the rest; a name that counts appears and vanishes in one step. Nothing is remembered but on the disk.
//! Names are made of ids only ([`ids::RegionId`], [`ids::SnapshotId`]), so nothing from outside reaches a path or a command line
//! unchecked; what else lies there is told and left alone.
//!
//! ```text
//!   whoever keeps regions ──► Datasets (port)
//!                                ├── Directories   any file system     room in books      snapshots by FICLONE, where that is
//!                                └── Zfs           zfs, zpool          quota, reservation snapshots, read through clones
//!                                       │
//!                           attempts: a limit for each step, places for those that hang
//! ```
//!
//! | | [`Directories`] | [`Zfs`] |
//! |---|---|---|
//! | a write beyond the quota | succeeds while the disk has room: a region's format keeps its size itself | fails (`EDQUOT`) |
//! | reserved | kept in books: what is promised is never more than there is, less 2 % for the file system | kept by ZFS |
//! | a snapshot | shares blocks on XFS and btrfs; elsewhere `snapshots_unsupported`: the region's format has its own | always |
//! | what a crash leaves | a name that does not count; removed by whoever has the lock next | the same |
//!
//! **What is reserved is promised; a quota is where a dataset is stopped, and promises nothing.** A disk whose datasets may together take more than it has can
//! be filled by one of them, and then the others do not get what was reserved for them: on directories because nobody stops a write, on `zfs-fuse` 0.7
//! because it refuses writes at a pool without other room (seen: 3.6 MiB written of 100 MiB reserved). OpenZFS was not tried. So reserve what the quota is, or see to it
//! by other means that what lies between the two is only taken where there is room. An agent does that: a region may take four times what is reserved, for its snapshots, and
//! none is taken, and no other region is made, where all that snapshots may come to need is not there (`agent/src/disks/room.rs`).
//!
//! **Snapshots here are nobody's yet.** The five calls about them (`snapshot`, `snapshots`, `destroy_snapshot`, `open_snapshot`,
//! `close_snapshot`) are used by the contract suite alone: a region's snapshots are its format's own (`region/src/snapshots.rs`), the same on every
//! disk, and taken by whoever writes it. They are here for what such ones cannot do, such as to keep a whole dataset while its files are moved.
//!
//! `zfs-fuse` 0.7 is for tests. Killed, it keeps what was synced through the descriptor that has written it; what was written through
//! another one, closed before the sync, it was seen to lose.
//!
//! - [`types`], [`error`], [`status`]: words, refusals, and what they say about a disk.
//! - [`ports`]: the port.
//! - [`attempts`], [`command`], [`holders`], [`mounts`]: what may hang; programs; who has files open; what is mounted.
//! - [`directories`], [`zfs`]: the two.
mod attempts;
mod command;
mod directories;
mod error;
mod holders;
mod mounts;
mod ports;
mod status;
mod types;
mod zfs;

pub use attempts::Attempts;
pub use command::{CommandFailed, Ended};
pub use directories::{Directories, region_files};
pub use error::DatasetError;
pub use holders::Holder;
pub use mounts::is_mounted;
pub use ports::Datasets;
pub use types::{
    Dataset, DiskReport, DiskSpace, FileSystem, Health, Listing, Mounts, Pool, QUOTA_BYTES_MAX,
    QUOTA_BYTES_MIN, Quotas, STRANGERS_MAX, Size, Snapshot, Stranger,
};
pub use zfs::Zfs;
