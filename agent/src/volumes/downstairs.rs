//! `downstairs`: serves the regions of a directory, which it alone does.

use super::signals::wait_for_signal;
use crate::disks::serve;
use camino::Utf8Path;
use daemon::{
    log::{self, LogFormat, LogSettings},
    state_lock::StateLock,
};
use downstairs::{Disk, Server};
use durable_fs::RealDisk;
use std::{error::Error, net::SocketAddr, sync::Arc};

pub(super) fn downstairs(directory: &Utf8Path, address: SocketAddr) -> Result<(), Box<dyn Error>> {
    log::start(&LogSettings { format: LogFormat::Text, filter: None })?;
    // Two that serve the same regions would each believe that they know who may write.
    let _only_one = StateLock::take(directory)?;
    let disk = Disk::new(Arc::new(RealDisk::new(directory))).with_room_for_snapshots();
    let regions = disk.regions()?.len();
    let server = Server::start(disk, address)?;
    let control = serve::control(directory, &server);
    say!("serving {regions} regions of {directory} at {}", server.address());
    wait_for_signal()?;
    drop(control);
    server.stop();
    Ok(())
}
