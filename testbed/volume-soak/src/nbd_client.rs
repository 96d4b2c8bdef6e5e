//! A client of an export that does one thing after the other: for whoever wants to know what a volume holds, and measures nothing.

use crate::nbd::{Command, connect, header, next_reply};
use anyhow::{Context, Result, ensure};
use camino::Utf8Path;
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// Bytes that are read or written with one request.
const PIECE: usize = 1 << 20;

/// A connection to an export.
#[derive(Debug)]
pub struct NbdClient {
    stream: UnixStream,
    size_bytes: u64,
    /// Of the last request.
    number: u64,
}

impl NbdClient {
    /// Comes to the only export at this socket.
    ///
    /// # Errors
    /// Nobody is there, or refuses.
    pub async fn connect(socket: &Utf8Path) -> Result<NbdClient> {
        let connected = connect(socket).await;
        let (stream, size_bytes) = connected.with_context(|| format!("connecting to {socket}"))?;
        Ok(NbdClient { stream, size_bytes, number: 0 })
    }

    /// Bytes of the volume.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Reads all of it, from its first byte on, piece by piece.
    ///
    /// # Errors
    /// The volume answers with one, or the connection is gone.
    pub async fn read_all(&mut self, mut each: impl FnMut(&[u8])) -> Result<()> {
        let mut bytes = vec![0; PIECE];
        for offset in (0..self.size_bytes).step_by(PIECE) {
            let piece = &mut bytes[..(self.size_bytes - offset).min(PIECE as u64) as usize];
            self.read(offset, piece).await?;
            each(piece);
        }
        Ok(())
    }

    /// Reads as many bytes as there is room for: a mebibyte at most.
    ///
    /// # Errors
    /// As of reading all.
    pub async fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.ask(Command::Read, offset, bytes.len() as u32, &[]).await?;
        self.stream.read_exact(bytes).await.with_context(|| format!("reading at {offset}"))?;
        Ok(())
    }

    /// Writes these bytes; on return two of three members have them.
    ///
    /// # Errors
    /// As of reading all.
    pub async fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        for (piece, offset) in bytes.chunks(PIECE).zip((offset..).step_by(PIECE)) {
            self.ask(Command::Write, offset, piece.len() as u32, piece).await?;
        }
        Ok(())
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// As of reading all.
    pub async fn flush(&mut self) -> Result<()> {
        self.ask(Command::Flush, 0, 0, &[]).await
    }

    async fn ask(&mut self, command: Command, offset: u64, length: u32, payload: &[u8]) -> Result<()> {
        self.number += 1;
        let what = || format!("{command:?} of {length} bytes at {offset}");
        let reply = self.exchange(&header(command, self.number, offset, length), payload).await;
        let reply = reply.with_context(what)?;
        ensure!(
            reply.error == 0 && reply.number == self.number,
            "{} is answered with error {} of request {}",
            what(),
            reply.error,
            reply.number
        );
        Ok(())
    }

    async fn exchange(&mut self, header: &[u8], payload: &[u8]) -> io::Result<crate::nbd::Reply> {
        self.stream.write_all(header).await?;
        self.stream.write_all(payload).await?;
        next_reply(&mut self.stream).await
    }
}
