//! A disk's datasets: one directory per region, with a size that is kept.
mod attempts;
mod command;
mod directories;
mod error;
mod holders;
mod ports;
mod status;
mod types;
mod zfs;

pub use command::{CommandFailed, Ended};
pub use directories::Directories;
pub use error::DatasetError;
pub use holders::Holder;
pub use ports::Datasets;
pub use types::{
    Dataset, DiskReport, DiskSpace, FileSystem, Health, Listing, QUOTA_BYTES_MAX, QUOTA_BYTES_MIN, Quotas,
    STRANGERS_MAX, Size, Snapshot, Stranger,
};
pub use zfs::Zfs;
