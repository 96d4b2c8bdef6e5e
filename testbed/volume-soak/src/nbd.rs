//! NBD as a client speaks it: fixed newstyle, simple replies. (fio, the other client of a run, speaks structured ones.) Owns the order of the
//! bytes; their numbers are those of our own library, which fio and the real clients of its tests check. Knows no book. The benchmark of
//! volumes speaks it, too.

use crate::{
    block::{BLOCK, fill},
    request::{Request, What},
};
use camino::Utf8Path;
use nbd_server::wire::{
    GREETING_MAGIC, OPTION_MAGIC, OPTION_REPLY_MAGIC, REQUEST_HEADER_BYTES, REQUEST_MAGIC,
    SIMPLE_REPLY_MAGIC, command_flag, handshake_flag, info, option, option_reply,
};
use std::io;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixStream,
};

pub use nbd_server::wire::Command;

/// What is said to every server: no zeroes where nobody wants them.
const CLIENT_FLAGS: u32 = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;

/// Bytes of a server's answer to an option, at most: a few numbers and words.
const OPTION_REPLY_MAX: u32 = 64 << 10;

/// An answer to a request; what a read was answered follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// An `errno`, or 0.
    pub error: u32,
    /// The request's.
    pub number: u64,
}

/// Comes to the only export at this socket. The connection, and the export's size in bytes.
///
/// # Errors
/// Nobody is there, or says something else.
pub async fn connect(socket: &Utf8Path) -> io::Result<(UnixStream, u64)> {
    let mut stream = UnixStream::connect(socket).await?;
    let size_bytes = shake_hands(&mut stream).await?;
    Ok((stream, size_bytes))
}

/// Asks for the only export. Returns its size in bytes.
///
/// # Errors
/// The connection is gone, or whoever is there says something else.
pub async fn shake_hands(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<u64> {
    if (stream.read_u64().await?, stream.read_u64().await?) != (GREETING_MAGIC, OPTION_MAGIC) {
        return Err(invalid("whoever is there does not speak NBD"));
    }
    // Its flags, which say no more than that it answers options.
    stream.read_u16().await?;
    let mut hello = CLIENT_FLAGS.to_be_bytes().to_vec();
    hello.extend(OPTION_MAGIC.to_be_bytes());
    hello.extend(option::GO.to_be_bytes());
    // A name of no bytes, and no wishes.
    hello.extend(6_u32.to_be_bytes());
    hello.extend([0; 6]);
    stream.write_all(&hello).await?;
    let mut size = None;
    loop {
        if stream.read_u64().await? != OPTION_REPLY_MAGIC || stream.read_u32().await? != option::GO {
            return Err(invalid("an answer to another option"));
        }
        let (kind, length) = (stream.read_u32().await?, stream.read_u32().await?);
        if length > OPTION_REPLY_MAX {
            return Err(invalid("an endless answer to an option"));
        }
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data).await?;
        match (kind, &data[..]) {
            (option_reply::INFO, [of_first, of_second, told @ ..])
                if [*of_first, *of_second] == info::EXPORT.to_be_bytes() && told.len() == 10 =>
            {
                size = told.first_chunk().map(|size| u64::from_be_bytes(*size));
            }
            (option_reply::INFO, _) => {}
            (option_reply::ACK, _) => return size.ok_or_else(|| invalid("an export without a size")),
            (kind, data) => {
                let words = String::from_utf8_lossy(data);
                return Err(invalid(&format!("the export is refused with {kind:#x}: {words}")));
            }
        }
    }
}

/// A request without flags, and without what follows it: so many bytes from there on.
#[must_use]
pub fn header(command: Command, number: u64, offset: u64, length: u32) -> [u8; REQUEST_HEADER_BYTES] {
    let mut bytes = [0; REQUEST_HEADER_BYTES];
    bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
    bytes[6..8].copy_from_slice(&command.number().to_be_bytes());
    bytes[8..16].copy_from_slice(&number.to_be_bytes());
    bytes[16..24].copy_from_slice(&offset.to_be_bytes());
    bytes[24..].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// The bytes of a request, with its payload.
pub(crate) fn encode(request: &Request, salt: u64) -> Vec<u8> {
    let command = match request.what {
        What::Read => Command::Read,
        What::Write => Command::Write,
        What::Flush => Command::Flush,
        What::Trim => Command::Trim,
        What::Zero => Command::WriteZeroes,
    };
    let mut flags = if request.is_durable { command_flag::FUA } else { 0 };
    if request.what == What::Zero {
        flags |= command_flag::NO_HOLE;
    }
    let (offset, length) = (request.first * BLOCK as u64, request.count * BLOCK as u32);
    let mut bytes = header(command, request.number, offset, length).to_vec();
    bytes[4..6].copy_from_slice(&flags.to_be_bytes());
    if request.what == What::Write {
        let head = bytes.len();
        bytes.resize(head + request.count as usize * BLOCK, 0);
        for (block, into) in (request.first..).zip(bytes[head..].chunks_exact_mut(BLOCK)) {
            fill(into, salt, block, request.number);
        }
    }
    if request.what == What::Flush {
        // A flush is of everything: its offset is none.
        bytes[16..24].fill(0);
    }
    bytes
}

/// The next answer.
///
/// # Errors
/// The connection is gone, or whoever is there says something else.
pub async fn next_reply(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Reply> {
    let magic = stream.read_u32().await?;
    if magic != SIMPLE_REPLY_MAGIC {
        return Err(invalid(&format!("a reply begins with {magic:#010x}")));
    }
    Ok(Reply { error: stream.read_u32().await?, number: stream.read_u64().await? })
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
