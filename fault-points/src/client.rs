//! The client's end of the fault socket, for tests and the testbed. Owns one connection per request; decides nothing.

use crate::{
    address::SocketAddress,
    protocol::{Answer, DiskFault, LINE_BYTES_MAX, PointStatus, Request},
};
use camino::{Utf8Path, Utf8PathBuf};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io;
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

/// Speaks to one process's fault socket.
#[derive(Clone, Debug)]
pub struct FaultClient {
    socket: Utf8PathBuf,
}

/// A request that was not answered, or was refused.
#[derive(Debug, Error)]
pub enum FaultClientError {
    /// Nobody listens: the process is down, or its config lacks `[testing] faults = true`.
    #[error("no process answers at the fault socket {socket}")]
    Connect {
        /// The socket.
        socket: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke: the process died, mostly.
    #[error("the process at the fault socket {socket} went away before it answered")]
    Exchange {
        /// The socket.
        socket: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The process understood and refused, or did not understand.
    #[error("the process at the fault socket {socket} refused: {reason}")]
    Refused {
        /// The socket.
        socket: Utf8PathBuf,
        /// In its own words.
        reason: String,
    },
    /// The answer is not one.
    #[error("the answer on the fault socket {socket} is not understood")]
    Decode {
        /// The socket.
        socket: Utf8PathBuf,
        /// Where decoding stopped.
        #[source]
        source: serde_json::Error,
    },
}

impl FaultClient {
    /// A client of the process whose fault socket is at `socket`. Nothing is opened yet.
    #[must_use]
    pub fn new(socket: impl Into<Utf8PathBuf>) -> FaultClient {
        FaultClient { socket: socket.into() }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Utf8Path {
        &self.socket
    }

    /// Holds everybody who reaches `point` from now on, after letting `after` passes go by.
    pub async fn hold(&self, point: &str, after: u64) -> Result<(), FaultClientError> {
        self.ask(&Request::Hold { point: point.to_owned(), after }).await
    }

    /// Returns when somebody is held at `point`. Has no time limit of its own: bound it with the test's.
    pub async fn wait_held(&self, point: &str) -> Result<(), FaultClientError> {
        self.ask(&Request::WaitHeld { point: point.to_owned() }).await
    }

    /// Takes the hold away; answers with how many tasks went on.
    pub async fn release(&self, point: &str) -> Result<u64, FaultClientError> {
        self.ask(&Request::Release { point: point.to_owned() }).await
    }

    /// Faults or heals a disk; answers with what the disks' owner says it did.
    pub async fn disk(&self, disk: &str, fault: DiskFault) -> Result<Value, FaultClientError> {
        self.ask(&Request::Disk { disk: disk.to_owned(), fault }).await
    }

    /// Every point that was passed or held so far, by name.
    pub async fn list(&self) -> Result<Vec<PointStatus>, FaultClientError> {
        self.ask(&Request::List).await
    }

    async fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T, FaultClientError> {
        let socket = || self.socket.clone();
        let stream =
            self.connect().await.map_err(|source| FaultClientError::Connect { socket: socket(), source })?;
        let line = exchange(stream, request)
            .await
            .map_err(|source| FaultClientError::Exchange { socket: socket(), source })?;
        let decode = |source| FaultClientError::Decode { socket: socket(), source };
        match serde_json::from_slice(&line).map_err(decode)? {
            Answer::Ok(value) => serde_json::from_value(value).map_err(decode),
            Answer::Error(reason) => Err(FaultClientError::Refused { socket: socket(), reason }),
        }
    }

    async fn connect(&self) -> io::Result<UnixStream> {
        let address = SocketAddress::of(&self.socket)?;
        UnixStream::connect(address.path()).await
    }
}

async fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(request).expect("a request is plain JSON");
    bytes.push(b'\n');
    stream.write_all(&bytes).await?;
    let mut line = Vec::new();
    let mut read = BufReader::new(stream).take(LINE_BYTES_MAX as u64);
    if read.read_until(b'\n', &mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}
