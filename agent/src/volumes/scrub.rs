//! `volume scrub`, `volume drop-parent`: what lies under a volume is copied into it, until it needs no parent.
//!
//! ```text
//!   may the export give it up? ──no──► nothing has changed
//!        └─yes──► the file has no parent any more ──► the export is told ──► it has none
//!                                                      └─refused after all──► the file is as it was
//! ```

use super::{
    control::{self, Which, done, told},
    description::{self, DescriptionError},
    parts_view,
};
use clap::ValueEnum;
use std::error::Error;
use volume_export::{ExportAt, Refusal, RefusalCode, Request, ScrubOrder, ask};
use volume_layers::VolumeStatus;
use volume_repair::{ConstructionRequest, Holder};

/// What is done with a scrub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScrubAct {
    /// Begin, or go on.
    Start,
    /// Copy nothing more, until it is started again.
    Stop,
    /// Show how far it is.
    Status,
}

/// Why a volume keeps its parent.
#[derive(Debug, thiserror::Error)]
pub(super) enum DropError {
    /// The file says so.
    #[error("nothing lies under the volume that {volume} describes")]
    NoParent {
        /// The volume's file.
        volume: camino::Utf8PathBuf,
    },
    /// No request can be newer.
    #[error("the version of the volume's file is the highest that there is")]
    NoVersion,
    /// The export was not opened by a request.
    #[error("what is exported there cannot be changed")]
    Missing,
}

impl DropError {
    /// A name for programs, which does not change.
    #[must_use]
    pub(super) fn code(&self) -> &'static str {
        match self {
            DropError::NoParent { .. } => "volume_no_parent",
            DropError::NoVersion => "request_version_taken",
            DropError::Missing => "missing",
        }
    }
}

pub(super) fn scrub(which: &Which, act: ScrubAct) -> Result<(), Box<dyn Error>> {
    let socket = which.socket();
    let order = match act {
        ScrubAct::Start => Some(ScrubOrder::Start),
        ScrubAct::Stop => Some(ScrubOrder::Stop),
        ScrubAct::Status => None,
    };
    if let Some(order) = order {
        done(ask(&socket, &Request::Scrub { order })?)?;
    }
    let status = control::status(&socket)?;
    let line = match &status.volume {
        VolumeStatus::Layers(layers) => parts_view::scrub(layers),
        VolumeStatus::Upstairs(_) => None,
    };
    say!("{}", line.unwrap_or_else(|| "no scrub was begun".to_owned()));
    Ok(())
}

pub(super) fn drop_parent(which: &Which) -> Result<(), Box<dyn Error>> {
    let (volume, socket) = (&which.volume, which.socket());
    let before = description::read(volume)?;
    if before.read_only_parent.is_none() {
        return Err(DropError::NoParent { volume: volume.clone() }.into());
    }
    let config_version = before.config_version.checked_add(1).ok_or(DropError::NoVersion)?;
    let request = ConstructionRequest { config_version, read_only_parent: None, ..before.clone() };
    // Whoever exports it next is not to have less than there is: the file is changed only if that may be.
    let export = ExportAt::new(&socket);
    told(&socket, export.check(&request), DropError::Missing)?;
    let replaced = description::replace(volume, &request);
    replaced.map_err(|error: DescriptionError| Box::new(error) as Box<dyn Error>)?;
    match told(&socket, export.apply(&request), DropError::Missing) {
        Ok(_) => {
            say!("nothing lies under the volume any more: {volume} has no parent");
            Ok(())
        }
        Err(error) => {
            let refusal = error.downcast_ref::<Refusal>();
            // Without an answer it may have been done.
            if refusal.is_some_and(|refusal| refusal.code != RefusalCode::NoAnswer) {
                description::replace(volume, &before)?;
            }
            Err(error)
        }
    }
}
