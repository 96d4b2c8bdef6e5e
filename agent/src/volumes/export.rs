//! `volume export`: is the volume's one writer, and serves it over NBD.

use super::{Notices, description, keys, signals::wait_for_signal};
use crate::tokens;
use camino::Utf8Path;
use daemon::log::{self, LogFormat, LogSettings};
use std::{error::Error, net::IpAddr, num::NonZeroU64, sync::mpsc, thread};
use uuid::Uuid;
use volume_export::{Address, Control, Export, NoticesOrder, Offer, Patience, Refusal};

/// What an export is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    pub(super) volume: &'a Utf8Path,
    /// None if it is activated later, or needs none.
    pub(super) epoch: Option<u32>,
    pub(super) is_unactivated: bool,
    pub(super) control: &'a Utf8Path,
    pub(super) accepts_possible_loss: bool,
    /// How long clients wait for members and for room.
    pub(super) patience: Patience,
    /// Bytes in a second that members are filled with at most.
    pub(super) repair_rate: Option<NonZeroU64>,
    /// None if it is not encrypted.
    pub(super) key_file: Option<&'a Utf8Path>,
    /// Whether what lies under it is copied in.
    pub(super) is_to_scrub: bool,
    /// From where it comes to members, servers and the coordinator; without one the system chooses.
    pub(super) from: Option<IpAddr>,
    /// Who is told of repairs, if somebody is.
    pub(super) notices: &'a Notices,
}

pub(super) fn export(order: Order<'_>, listen: Address) -> Result<(), Box<dyn Error>> {
    log::start(&LogSettings { format: LogFormat::Text, filter: None })?;
    let mut request = description::read(order.volume)?;
    let key = order.key_file.map(keys::read).transpose()?;
    // A wrong key is told here, before any member hears of the epoch.
    let mut composition = match order.epoch {
        Some(epoch) => {
            request.epoch = epoch;
            request.build(Uuid::new_v4(), key.as_ref())?
        }
        None if order.is_unactivated => request.build_unactivated(Uuid::new_v4(), key.as_ref())?,
        // Nobody has said with which right. Without region sets that are written it needs none.
        None => {
            request.epoch = 0;
            request.build(Uuid::new_v4(), key.as_ref())?
        }
    };
    drop(key);
    if order.accepts_possible_loss {
        composition.accept_possible_loss();
    }
    composition.set_patience(order.patience);
    order.repair_rate.into_iter().for_each(|rate| composition.set_repair_rate(rate));
    let id = request.id;
    let notices = notices_order(order.notices, order.from)?;
    let mut export = Export::new(
        Offer { composition, request: Some(request), name: String::new(), source_address: order.from },
        listen,
    )?;
    if let Some(notices) = notices {
        export.tell_of_repairs(notices)?;
    }
    if order.is_to_scrub {
        export.start_scrub().map_err(Refusal::from)?;
    }
    let handle = export.handle();
    let _control = Control::start(order.control, handle.clone())?;
    match order.epoch {
        Some(epoch) => {
            handle.activate();
            say!("serving volume {id} with epoch {epoch}");
        }
        None if order.is_unactivated => say!("serving volume {id}, not activated"),
        None => {
            handle.activate();
            say!("serving volume {id}, read-only");
        }
    }
    let (failed, failure) = mpsc::channel();
    // It goes on waiting if the export is ended by its control socket.
    thread::spawn(move || {
        if let Err(error) = wait_for_signal() {
            // Nobody listens if the export has ended.
            let _ = failed.send(error.to_string());
        }
        handle.stop();
    });
    export.run()?;
    failure.try_recv().map_or(Ok(()), |error| Err(error.into()))
}

fn notices_order(
    notices: &Notices,
    source_address: Option<IpAddr>,
) -> Result<Option<NoticesOrder>, tokens::TokenError> {
    let (Some(directory), Some(url)) = (notices.directory.clone(), notices.url.clone()) else {
        return Ok(None);
    };
    let token = notices.token_file.as_deref().map(tokens::read_one).transpose()?;
    Ok(Some(NoticesOrder { directory, url, others: Vec::new(), token, source_address }))
}
