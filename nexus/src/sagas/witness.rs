//! Effects of the demo saga, outside the database: `<state_dir>/demo-effects/<saga>/<node>.log`, one line for each
//! execution of an action or an undo, appended by one write:
//!
//! ```text
//! epoch=7 coordinator=f0bc2a6e-… do
//! ```
//!
//! Lines are not made durable: they are to show what ran, also when the process was killed, and a machine that lost its
//! power has nothing left that could run twice.
//!
//! A disk without room takes no line, or a part of one, which is cut off again. That is no fault of the saga: it waits until
//! there is room, see [`NO_SPACE`].

use camino::{Utf8Path, Utf8PathBuf};
use futures::{FutureExt, future::BoxFuture};
use ids::{CoordinatorId, SagaId};
use nexus_sagas::Fault;
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    sync::Arc,
};

/// The code of the fault of a line for which there is no room; certainly nothing of it is there.
pub const NO_SPACE: &str = "demo_no_space";

/// Where lines go.
pub trait Place: fmt::Debug + Send + Sync {
    /// Appends a line to what is there of that node.
    ///
    /// # Errors
    /// As an action answers: whether the line is there is known, or not.
    fn append(&self, saga: SagaId, node: &str, line: String) -> BoxFuture<'static, Result<(), Fault>>;
}

/// Where the demo's effects are, and in whose name they are made.
#[derive(Clone, Debug)]
pub struct Witness {
    place: Arc<dyn Place>,
    stamp: String,
}

impl Witness {
    /// A witness of one life of a coordinator, in files below its state.
    #[must_use]
    pub fn new(state_dir: &Utf8Path, coordinator: CoordinatorId, epoch: u64) -> Witness {
        Witness::at(Arc::new(Files { directory: state_dir.join("demo-effects") }), coordinator, epoch)
    }

    /// A witness of one life of a coordinator, anywhere.
    #[must_use]
    pub fn at(place: Arc<dyn Place>, coordinator: CoordinatorId, epoch: u64) -> Witness {
        Witness { place, stamp: format!("epoch={epoch} coordinator={coordinator}") }
    }

    /// An action has run.
    ///
    /// # Errors
    /// `Transient` if the line is certainly not there; of code [`NO_SPACE`], as long as there is no room for it.
    pub async fn done(&self, saga: SagaId, node: &str) -> Result<(), Fault> {
        self.append(saga, node, "do").await
    }

    /// An undo has run.
    ///
    /// # Errors
    /// As those of [`Witness::done`].
    pub async fn undone(&self, saga: SagaId, node: &str) -> Result<(), Fault> {
        self.append(saga, node, "undo").await
    }

    async fn append(&self, saga: SagaId, node: &str, what: &str) -> Result<(), Fault> {
        self.place.append(saga, node, format!("{} {what}\n", self.stamp)).await
    }
}

/// A file for each node, in a folder for each saga.
#[derive(Debug)]
struct Files {
    directory: Utf8PathBuf,
}

/// Why a line is not there, or may not be.
#[derive(Debug)]
enum NotWritten {
    /// It is not.
    Nothing(io::Error),
    /// Nobody knows.
    Perhaps(io::Error),
}

impl Place for Files {
    fn append(&self, saga: SagaId, node: &str, line: String) -> BoxFuture<'static, Result<(), Fault>> {
        let directory = self.directory.join(saga.to_string());
        let path = directory.join(format!("{node}.log"));
        async move {
            let place = path.clone();
            let written = tokio::task::spawn_blocking(move || append(&directory, &path, &line)).await;
            let words = |error: &dyn fmt::Display| format!("cannot append to {place}: {error}");
            match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(NotWritten::Nothing(error))) if is_full(&error) => {
                    Err(Fault::transient(NO_SPACE, words(&error)))
                }
                Ok(Err(NotWritten::Nothing(error))) => Err(Fault::transient("demo_effect", words(&error))),
                Ok(Err(NotWritten::Perhaps(error))) => Err(Fault::unknown("demo_effect", words(&error))),
                Err(error) => Err(Fault::unknown("demo_effect", words(&error))),
            }
        }
        .boxed()
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn append(directory: &Utf8Path, path: &Utf8Path, line: &str) -> Result<(), NotWritten> {
    let mut file = open(directory, path).map_err(NotWritten::Nothing)?;
    match file.write(line.as_bytes()) {
        Ok(bytes) if bytes == line.len() => Ok(()),
        Ok(bytes) => Err(cut_off(&file, bytes)),
        Err(error) if is_full(&error) => Err(NotWritten::Nothing(error)),
        Err(error) => Err(NotWritten::Perhaps(error)),
    }
}

fn open(directory: &Utf8Path, path: &Utf8Path) -> io::Result<File> {
    let open = || OpenOptions::new().append(true).create(true).open(path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(directory)?;
            open()
        }
        opened => opened,
    }
}

/// Half a line is none: the disk was full within it.
fn cut_off(file: &File, bytes: usize) -> NotWritten {
    let length = file.metadata().map(|metadata| metadata.len());
    let cut = length.and_then(|length| file.set_len(length.saturating_sub(bytes as u64)));
    match cut {
        Ok(()) => NotWritten::Nothing(io::ErrorKind::StorageFull.into()),
        Err(error) => NotWritten::Perhaps(error),
    }
}
