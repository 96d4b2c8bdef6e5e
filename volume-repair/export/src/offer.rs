//! What is to be served, and why nothing is.

use crate::{listener::Address, sources::SourceError};
use nbd_server::{Access, BlockSize, Exports, Features};
use std::{io, net::IpAddr};
use volume_layers::{Composition, Volume};
use volume_repair::ConstructionRequest;

/// What is served.
#[derive(Debug)]
pub struct Offer {
    /// What the volume is made of.
    pub composition: Composition,
    /// The request that says so; without one its members stay as they are.
    pub request: Option<ConstructionRequest>,
    /// What clients call it; may be empty.
    pub name: String,
    /// The address that connections to members leave from; without one the system chooses.
    pub source_address: Option<IpAddr>,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Where clients are to come is not to be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: Address,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The system refuses.
    #[error("the volume cannot be served")]
    System(#[source] io::Error),
    /// A file or a URL that it is made of is not to be had, or of no use.
    #[error("a part of the volume is not there")]
    Source(#[source] SourceError),
    /// Clients come by as many ways as there may be.
    #[error("the volume has {0} doors, which is as many as it may have")]
    Doors(usize),
    /// There can be no such export.
    #[error("the volume cannot be told to clients")]
    Export(#[source] nbd_server::ExportError),
}

impl ExportError {
    /// A name for programs, which does not change.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            ExportError::Listen { .. } => "volume_not_listening",
            ExportError::System(_) => "volume_not_served",
            ExportError::Source(error) => error.code(),
            ExportError::Doors(_) => "volume_doors_full",
            ExportError::Export(_) => "volume_not_told",
        }
    }
}

/// The volume as clients see it: all of it, under its name.
pub(crate) fn exports(
    volume: &Volume,
    block_size: u64,
    name: &str,
) -> Result<Exports, nbd_server::ExportError> {
    let size = volume.blocks().saturating_mul(block_size);
    let block_size = u32::try_from(block_size).expect("a block is small");
    let mut export = nbd_server::Export::new(name, size, BlockSize::of(block_size));
    export.features = Features::all();
    if volume.is_read_only() {
        export.access = Access::ReadOnly;
    }
    let mut exports = Exports::new(nbd_server::PAYLOAD_BYTES_MAX_USUAL)?;
    exports.add(export)?;
    if !name.is_empty() {
        exports.set_default(name)?;
    }
    Ok(exports)
}
