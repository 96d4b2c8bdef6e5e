//! Effects of the demo saga, outside the database: `<state_dir>/demo-effects/<saga>/<node>.log`, one line for each
//! execution of an action or an undo, appended by one write:
//!
//! ```text
//! epoch=7 coordinator=f0bc2a6e-… do
//! ```
//!
//! Lines are not made durable: they are to show what ran, also when the process was killed, and a machine that lost its
//! power has nothing left that could run twice.

use camino::{Utf8Path, Utf8PathBuf};
use ids::{CoordinatorId, SagaId};
use nexus_sagas::Fault;
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
};

/// Where the demo's effects are, and in whose name they are made.
#[derive(Clone, Debug)]
pub struct Witness {
    directory: Utf8PathBuf,
    stamp: String,
}

impl Witness {
    /// A witness of one life of a coordinator.
    #[must_use]
    pub fn new(state_dir: &Utf8Path, coordinator: CoordinatorId, epoch: u64) -> Witness {
        Witness {
            directory: state_dir.join("demo-effects"),
            stamp: format!("epoch={epoch} coordinator={coordinator}"),
        }
    }

    /// An action has run.
    ///
    /// # Errors
    /// The line may or may not be there.
    pub async fn done(&self, saga: SagaId, node: &str) -> Result<(), Fault> {
        self.append(saga, node, "do").await
    }

    /// An undo has run.
    ///
    /// # Errors
    /// The line may or may not be there.
    pub async fn undone(&self, saga: SagaId, node: &str) -> Result<(), Fault> {
        self.append(saga, node, "undo").await
    }

    async fn append(&self, saga: SagaId, node: &str, what: &str) -> Result<(), Fault> {
        let directory = self.directory.join(saga.to_string());
        let path = directory.join(format!("{node}.log"));
        let line = format!("{} {what}\n", self.stamp);
        let place = path.clone();
        let written = tokio::task::spawn_blocking(move || append(&directory, &path, &line)).await;
        let words = match written {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Err(Fault::unknown("demo_effect", format!("cannot append to {place}: {words}")))
    }
}

fn append(directory: &Utf8Path, path: &Utf8Path, line: &str) -> io::Result<()> {
    let open = || OpenOptions::new().append(true).create(true).open(path);
    let mut file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(directory)?;
            open()?
        }
        opened => opened?,
    };
    file.write_all(line.as_bytes())
}
