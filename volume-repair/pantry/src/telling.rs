//! The coordinators are told of repairs of the volumes that are held. Owns where what is to be told is kept, and who tells what volumes have left
//! that are not here any more: those whose coordinator was away when they were detached.
//!
//! ```text
//!   volume on the shelf ──its export's own thread──► outbox of the volume ──► coordinator
//!   not on the shelf, an outbox left ──every ROUND, one after the other──────► coordinator; nobody answers: the next round
//! ```
//!
//! While a volume's outbox is told here another call for the volume is told to come again. A repair whose Pantry was killed in its middle has no
//! end that could be told: it stays in the outbox until its volume is attached here again.

use crate::shelf::Shelf;
use camino::Utf8PathBuf;
use http_edge::auth::{self, TokenFileError};
use ids::VolumeId;
use std::{net::IpAddr, time::Duration};
use tokio::sync::watch;
use volume_export::{NoticesOrder, tell_what_is_left, volumes_with_notices};

/// How often it is looked for what was left. The coordinator that is away is asked as often, and a directory is read.
const ROUND: Duration = Duration::from_secs(10);

/// Who is told of repairs, and where it is kept until they are.
#[derive(Clone, Debug)]
pub struct Telling {
    /// The directory of outboxes: one file for each volume of which something is to be told.
    pub directory: Utf8PathBuf,
    /// A coordinator's sled-facing API.
    pub coordinator: String,
    /// Those of the others, each of which is told as well instead.
    pub others: Vec<String>,
    /// The file with the token by which they know the sled. Read for each volume, so that another token in it counts.
    pub token_file: Option<Utf8PathBuf>,
}

impl Telling {
    /// What an export is told about it.
    pub(crate) fn order(&self, source_address: Option<IpAddr>) -> Result<NoticesOrder, TokenFileError> {
        let token = self.token_file.as_deref().map(auth::read_token_file).transpose()?;
        let (directory, url, others) =
            (self.directory.clone(), self.coordinator.clone(), self.others.clone());
        Ok(NoticesOrder { directory, url, others, token, source_address })
    }
}

/// Tells what volumes have left, until `stop` turns true.
pub(crate) async fn tell_leftovers(
    shelf: Shelf,
    telling: Telling,
    source_address: Option<IpAddr>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(ROUND) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let directory = telling.directory.clone();
        let left = tokio::task::spawn_blocking(move || volumes_with_notices(&directory)).await;
        let left = match left {
            Ok(Ok(left)) => left,
            Ok(Err(error)) => {
                tracing::warn!(directory = %telling.directory, %error, "nobody sees what is left to be told of repairs");
                continue;
            }
            // A bug, which has said so.
            Err(_) => continue,
        };
        for id in left {
            let order = telling.order(source_address);
            if *stop.borrow() || shelf.alone_without(id, move || tell(order, id)).await == Some(false) {
                break;
            }
        }
    }
}

/// Whether it is of use to go on with the next one.
fn tell(order: Result<NoticesOrder, TokenFileError>, id: VolumeId) -> bool {
    let told = match order {
        Ok(order) => tell_what_is_left(order, id),
        Err(error) => {
            tracing::warn!(error = problem::chain(&error), "nobody can be told what is left of repairs");
            return false;
        }
    };
    match told {
        Ok(is_left) => tracing::debug!(volume = %id, is_left, "what a volume had left was told"),
        Err(error) => {
            tracing::warn!(volume = %id, error = problem::chain(&error), "what a volume has left is not told");
        }
    }
    true
}
