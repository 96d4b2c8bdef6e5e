//! A client that says what it is told to, byte by byte: fixed newstyle, simple replies. Written from the protocol's document and not from
//! our library.

use crate::site::{BLOCK, BLOCKS, LIMIT};
use camino::Utf8Path;
use rustix::net::sockopt::set_socket_send_buffer_size;
use std::{
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
};

pub(crate) const READ: u16 = 0;
pub(crate) const WRITE: u16 = 1;
pub(crate) const FLUSH: u16 = 3;

pub(crate) const EPERM: u32 = 1;
pub(crate) const EINVAL: u32 = 22;
pub(crate) const ENOSPC: u32 = 28;
pub(crate) const ESHUTDOWN: u32 = 108;

/// A connection behind its handshake.
#[derive(Debug)]
pub(crate) struct Client(UnixStream);

/// The head of a request.
pub(crate) fn request(command: u16, cookie: u64, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend([0, 0]);
    bytes.extend(command.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend((length as u32).to_be_bytes());
    bytes
}

/// A write, with its payload.
pub(crate) fn write(cookie: u64, block: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = request(WRITE, cookie, block * BLOCK as u64, payload.len());
    bytes.extend(payload);
    bytes
}

impl Client {
    /// A connection that has not said anything.
    pub(crate) fn silent(path: &Utf8Path) -> UnixStream {
        let socket = UnixStream::connect(path).unwrap();
        // A test that waits for what never comes is to fail, and not to wait for ever.
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.set_write_timeout(Some(LIMIT)).unwrap();
        socket
    }

    pub(crate) fn connect(path: &Utf8Path) -> Client {
        Client::connect_saying(path, &[])
    }

    /// One that says this right behind the last of its handshake, and waits for no answer to that.
    pub(crate) fn connect_saying(path: &Utf8Path, more: &[u8]) -> Client {
        let refused = |(kind, words)| panic!("refused with {kind:#x}: {words}");
        Client::connect_by_name(path, "", more).unwrap_or_else(refused)
    }

    /// One that calls the export by this name; otherwise, how it is refused.
    pub(crate) fn connect_by_name(path: &Utf8Path, name: &str, more: &[u8]) -> Result<Client, (u32, String)> {
        let mut socket = Client::silent(path);
        let mut greeting = [0; 18];
        socket.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        // Fixed newstyle, no zeroes; then GO, the export's name, and no wishes.
        let mut hello = 3_u32.to_be_bytes().to_vec();
        hello.extend(b"IHAVEOPT");
        hello.extend(7_u32.to_be_bytes());
        hello.extend((6 + name.len() as u32).to_be_bytes());
        hello.extend((name.len() as u32).to_be_bytes());
        hello.extend(name.as_bytes());
        hello.extend([0; 2]);
        hello.extend(more);
        socket.write_all(&hello).unwrap();
        loop {
            let mut head = [0; 20];
            socket.read_exact(&mut head).unwrap();
            let [kind, length] = [12, 16].map(|at| u32::from_be_bytes(head[at..at + 4].try_into().unwrap()));
            let mut data = vec![0; length as usize];
            socket.read_exact(&mut data).unwrap();
            match kind {
                1 => return Ok(Client(socket)),
                3 if data[..2] == [0, 0] => {
                    assert_eq!(data[2..10], (BLOCKS * BLOCK as u64).to_be_bytes());
                }
                3 => {}
                _ => return Err((kind, String::from_utf8_lossy(&data).into_owned())),
            }
        }
    }

    /// From now on its socket holds little of what it has said.
    pub(crate) fn keep_little_on_the_way(&self) {
        set_socket_send_buffer_size(&self.0, 64 << 10).unwrap();
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// As much of it as is taken without waiting.
    pub(crate) fn say_what_is_taken(&mut self, bytes: &[u8]) -> usize {
        self.0.set_nonblocking(true).unwrap();
        let mut said = 0;
        while said < bytes.len() {
            match self.0.write(&bytes[said..]) {
                Ok(more) => said += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.0.set_nonblocking(false).unwrap();
        said
    }

    /// It has nothing more to say.
    pub(crate) fn finish(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// The error and the cookie of the next reply.
    pub(crate) fn reply(&mut self) -> (u32, u64) {
        let mut reply = [0; 16];
        self.0.read_exact(&mut reply).unwrap();
        assert_eq!(reply[..4], 0x6744_6698_u32.to_be_bytes());
        let error = u32::from_be_bytes(reply[4..8].try_into().unwrap());
        (error, u64::from_be_bytes(reply[8..].try_into().unwrap()))
    }

    /// What a read was answered with.
    pub(crate) fn payload(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Reads, alone.
    pub(crate) fn read(&mut self, block: u64, length: usize) -> Vec<u8> {
        self.say(&request(READ, 99, block * BLOCK as u64, length));
        assert_eq!(self.reply(), (0, 99));
        self.payload(length)
    }

    /// Writes, alone.
    pub(crate) fn write(&mut self, block: u64, payload: &[u8]) {
        self.say(&write(98, block, payload));
        assert_eq!(self.reply(), (0, 98));
    }

    /// The other end closes, and says nothing before it.
    pub(crate) fn is_closed(&mut self) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => {}
            // What was not read of what it has said makes the end a reset.
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        assert!(rest.is_empty(), "{} bytes are said", rest.len());
    }
}
