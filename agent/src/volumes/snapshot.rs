//! `volume snapshot`, `volume delete-snapshot`: what was written until now is kept as it is, while clients go on.

use super::control::{Which, done};
use ids::SnapshotId;
use std::error::Error;
use volume_export::{Answer, Request, ask};

/// Takes one, of this name or a new one.
pub(super) fn take(which: &Which, id: Option<SnapshotId>) -> Result<(), Box<dyn Error>> {
    let id = id.unwrap_or_else(SnapshotId::generate);
    match ask(&which.socket(), &Request::Snapshot { id })? {
        Answer::Snapshotted(regions) => {
            say!("snapshot {id}");
            regions.iter().for_each(|region| say!("  in region {region}"));
            Ok(())
        }
        Answer::Refused(refusal) => Err(refusal.into()),
        _ => Err("the export answers something else than it was asked".into()),
    }
}

pub(super) fn delete(which: &Which, id: SnapshotId) -> Result<(), Box<dyn Error>> {
    done(ask(&which.socket(), &Request::DeleteSnapshot { id })?)?;
    say!("deleted");
    Ok(())
}
