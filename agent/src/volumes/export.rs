//! `volume export`: is the volume's one writer, and serves it over NBD.

use super::{keys, signals::wait_for_signal};
use camino::Utf8Path;
use daemon::log::{self, LogFormat, LogSettings};
use std::{error::Error, fs, thread};
use uuid::Uuid;
use volume_export::{Address, Export, Volume};
use volume_repair::ConstructionRequest;

pub(super) fn export(
    volume: &Utf8Path,
    epoch: u32,
    listen: Address,
    key_file: Option<&Utf8Path>,
) -> Result<(), Box<dyn Error>> {
    log::start(&LogSettings { format: LogFormat::Text, filter: None })?;
    let mut request: ConstructionRequest = serde_json::from_slice(&fs::read(volume)?)?;
    request.epoch = epoch;
    let key = key_file.map(keys::read).transpose()?;
    // A wrong key is told here, before any member hears of the epoch.
    let (config, members) = request.build(Uuid::new_v4(), key.as_ref())?;
    drop(key);
    let export = Export::new(Volume { config, members, name: String::new() }, listen)?;
    let handle = export.handle();
    handle.activate();
    println!("serving volume {} with epoch {epoch}", request.id);
    let stopper = thread::spawn(move || {
        let signal = wait_for_signal();
        handle.stop();
        signal.map_err(|error| error.to_string())
    });
    export.run()?;
    stopper.join().map_err(|_| "the thread that waits for signals has panicked")??;
    Ok(())
}
