//! The socket by which the agent asks. Who may open it may do everything: it lies in a directory that is its user's alone.

use crate::{
    api, exports,
    shelf::Shelf,
    telling::{self, Telling},
};
use camino::{Utf8Path, Utf8PathBuf};
use http_edge::{Edge, Metrics, Readiness};
use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
};
use tokio::{net::UnixListener, sync::watch};

/// A Pantry that listens.
pub struct Pantry {
    listener: UnixListener,
    socket: Utf8PathBuf,
    shelf: Shelf,
    source_address: Option<IpAddr>,
    telling: Option<Telling>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Its directory is not to be kept from others.
    #[error("the directory {path} cannot be kept from others")]
    Directory {
        /// Which.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its socket is not to be had.
    #[error("cannot listen on {path}")]
    Listen {
        /// Where.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Pantry {
    /// Listens. Whoever calls has the directory's lock, so a socket that is there was left by a process that has ended. Members of
    /// volumes, and coordinators that are told of repairs, are come to from `source_address`; without one the system chooses.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn listen(
        directory: &Utf8Path,
        socket: &Utf8Path,
        source_address: Option<IpAddr>,
        telling: Option<Telling>,
    ) -> Result<Pantry, ServeError> {
        let kept = |path: &Utf8Path| {
            let path = path.to_owned();
            move |source| ServeError::Directory { path, source }
        };
        for path in [Some(directory), socket.parent()].into_iter().flatten() {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(kept(path))?;
        }
        let listen = |source| ServeError::Listen { path: socket.to_owned(), source };
        match fs::symlink_metadata(socket) {
            Ok(there) if there.file_type().is_socket() => fs::remove_file(socket).map_err(listen)?,
            // What is no socket is somebody's file, and stays.
            _ => {}
        }
        remove_left(directory);
        let listener = UnixListener::bind(socket).map_err(listen)?;
        Ok(Pantry {
            listener,
            socket: socket.to_owned(),
            shelf: Shelf::new(directory.to_owned(), source_address, telling.clone()),
            source_address,
            telling,
        })
    }

    /// Serves until `stop` turns true; then all volumes are detached, as if somebody had asked for it.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let readiness = Readiness::waiting_for(&[]);
        let edge = Edge {
            api: "pantry",
            tokens: None,
            allowed: &[],
            readiness,
            metrics: Metrics::new("pantry", env!("CARGO_PKG_VERSION")),
        };
        let router = edge.around(api::router(self.shelf.clone()), &utoipa::openapi::OpenApi::default());
        let mut stopping = stop.clone();
        let stopped = async move {
            // An error is that nobody will ever ask.
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        let serve = axum::serve(self.listener, router).with_graceful_shutdown(stopped);
        let shelf = self.shelf;
        if let Some(telling) = self.telling {
            let leftovers =
                telling::tell_leftovers(shelf.clone(), telling, self.source_address, stop.clone());
            tokio::spawn(leftovers);
        }
        let detach = async {
            let _ = stop.wait_for(|stop| *stop).await;
            // Calls that wait for jobs end with them.
            shelf.detach_all().await;
        };
        let (served, ()) = tokio::join!(serve.into_future(), detach);
        if let Err(error) = served {
            tracing::error!(%error, "the socket has ended");
        }
        // What came while it ended.
        shelf.detach_all().await;
        // Whoever comes later is told at once that nobody is there.
        let _ = fs::remove_file(&self.socket);
    }
}

/// What a killed Pantry has left: nobody holds the volumes of these sockets any more, and most of them never come back.
fn remove_left(directory: &Utf8Path) {
    let Ok(entries) = directory.read_dir_utf8() else { return };
    for entry in entries.flatten() {
        let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        if is_socket
            && exports::is_sockets_name(entry.file_name())
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::warn!(%error, path = %entry.path(), "what a killed Pantry has left stays");
        }
    }
}
