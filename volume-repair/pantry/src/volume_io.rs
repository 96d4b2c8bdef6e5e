//! How a job reaches its volume: as an NBD client at the volume's own socket, with a few large requests under way. So a job is served like
//! every client, in turn with the others, and there is one way into the volume. Owns the bytes; docs/NBD.md says what is spoken.

use bytes::{Buf, BufMut};
use nbd_server::wire::{
    Command, GREETING_MAGIC, OPTION_MAGIC, OPTION_REPLY_MAGIC, REQUEST_HEADER_BYTES, REQUEST_MAGIC,
    SIMPLE_REPLY_MAGIC, handshake_flag, info, option, option_reply,
};
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

/// Bytes of one request at most, and how many are under way: 8 MiB of each job, as much as fills the members' connections.
pub(crate) const REQUEST_BYTES: usize = 1 << 20;
const WINDOW: usize = 8;

/// Bytes of an answer to an option at most: a few numbers and words.
const OPTION_REPLY_MAX: u32 = 64 << 10;

/// Bytes of the server's greeting: its two words, and its flags.
const GREETING_BYTES: usize = 18;

/// Bytes of the head of an answer to an option, and of a simple reply.
const OPTION_REPLY_HEAD_BYTES: usize = 20;
const REPLY_HEAD_BYTES: usize = 16;

/// Why the volume has not done it.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// Its socket is not to be had, or has ended.
    #[error("the volume's socket has ended")]
    Link(#[source] io::Error),
    /// It has said no.
    #[error("the volume has refused a request, with error {0}")]
    Refused(u32),
}

impl From<io::Error> for IoError {
    fn from(error: io::Error) -> IoError {
        IoError::Link(error)
    }
}

/// What ends a connection from another thread.
#[derive(Clone, Debug)]
pub(crate) struct Cut(Arc<UnixStream>);

impl Cut {
    pub(crate) fn cut(&self) {
        // One that has ended is what is wanted.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// A connection to a volume.
#[derive(Debug)]
pub(crate) struct VolumeIo {
    stream: Arc<UnixStream>,
    pub(crate) size: u64,
    /// Of requests that were asked and not answered: how many bytes follow the answer.
    under_way: BTreeMap<u64, usize>,
    number: u64,
}

impl VolumeIo {
    /// Shakes hands with whoever listens there. How large the volume is is known before it is active.
    pub(crate) fn connect(path: &Path) -> Result<VolumeIo, IoError> {
        let stream = Arc::new(UnixStream::connect(path)?);
        let mut volume = VolumeIo { stream, size: 0, under_way: BTreeMap::new(), number: 0 };
        volume.size = volume.shake_hands()?;
        Ok(volume)
    }

    /// Every answer that is waited for for so long is an error.
    pub(crate) fn set_patience(&self, patience: Duration) -> Result<(), IoError> {
        Ok(self.stream.set_read_timeout(Some(patience))?)
    }

    pub(crate) fn cut(&self) -> Cut {
        Cut(Arc::clone(&self.stream))
    }

    fn shake_hands(&mut self) -> Result<u64, IoError> {
        let mut greeting = [0; GREETING_BYTES];
        self.receive(&mut greeting)?;
        let mut greeting = &greeting[..];
        if (greeting.get_u64(), greeting.get_u64()) != (GREETING_MAGIC, OPTION_MAGIC) {
            return Err(strange("whoever is there does not speak NBD").into());
        }
        let mut hello = Vec::new();
        // The same bits as the server's.
        hello.put_u32(handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES);
        hello.put_u64(OPTION_MAGIC);
        hello.put_u32(option::GO);
        // A name of no bytes, and no wishes.
        hello.put_u32(6);
        hello.put_bytes(0, 6);
        self.send(&hello)?;
        let mut size = None;
        loop {
            let mut head = [0; OPTION_REPLY_HEAD_BYTES];
            self.receive(&mut head)?;
            let mut head = &head[..];
            if head.get_u64() != OPTION_REPLY_MAGIC || head.get_u32() != option::GO {
                return Err(strange("an answer to another option").into());
            }
            let (kind, length) = (head.get_u32(), head.get_u32());
            if length > OPTION_REPLY_MAX {
                return Err(strange("an endless answer to an option").into());
            }
            let mut data = vec![0; length as usize];
            self.receive(&mut data)?;
            match (kind, &data[..]) {
                (option_reply::INFO, mut told) => {
                    if told.len() == 12 && told.get_u16() == info::EXPORT {
                        size = Some(told.get_u64());
                    }
                }
                (option_reply::ACK, _) => return Ok(size.ok_or_else(|| strange("an export without a size"))?),
                _ => return Err(strange("the volume is not offered").into()),
            }
        }
    }

    /// Requests that were asked and not answered.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Whether one more may be asked.
    pub(crate) fn has_room(&self) -> bool {
        self.under_way.len() < WINDOW
    }

    /// Writes whole blocks; done when it is answered.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), IoError> {
        let length = data.len();
        if data.iter().all(|byte| *byte == 0) {
            // What is zeros takes no room.
            return self.ask(Command::WriteZeroes, offset, length, &[]);
        }
        self.ask(Command::Write, offset, length, data)
    }

    /// Waits until no more than so many are under way.
    pub(crate) fn settle(&mut self, left: usize) -> Result<(), IoError> {
        while self.under_way.len() > left {
            self.take(&mut [])?;
        }
        Ok(())
    }

    /// Waits until there is room for one more.
    pub(crate) fn make_room(&mut self) -> Result<(), IoError> {
        self.settle(WINDOW - 1)
    }

    /// All that was answered is durable on return.
    pub(crate) fn flush(&mut self) -> Result<(), IoError> {
        self.settle(0)?;
        self.ask(Command::Flush, 0, 0, &[])?;
        self.settle(0)
    }

    /// Asks for bytes; [`VolumeIo::take`] has them, in the order in which they come.
    pub(crate) fn ask_to_read(&mut self, offset: u64, length: usize) -> Result<(), IoError> {
        self.ask(Command::Read, offset, length, &[])
    }

    /// Waits for an answer, and puts what was read at the beginning of `into`. How many bytes that are.
    pub(crate) fn take(&mut self, into: &mut [u8]) -> Result<usize, IoError> {
        let mut head = [0; REPLY_HEAD_BYTES];
        self.receive(&mut head)?;
        let mut head = &head[..];
        let (magic, error, number) = (head.get_u32(), head.get_u32(), head.get_u64());
        let Some(length) = self.under_way.remove(&number).filter(|_| magic == SIMPLE_REPLY_MAGIC) else {
            return Err(strange("an answer to nothing").into());
        };
        if error != 0 {
            return Err(IoError::Refused(error));
        }
        self.receive(&mut into[..length])?;
        Ok(length)
    }

    fn ask(&mut self, command: Command, offset: u64, length: usize, data: &[u8]) -> Result<(), IoError> {
        let mut head = Vec::with_capacity(REQUEST_HEADER_BYTES);
        head.put_u32(REQUEST_MAGIC);
        head.put_u16(0);
        head.put_u16(command.number());
        head.put_u64(self.number);
        head.put_u64(offset);
        head.put_u32(u32::try_from(length).expect("a request is small"));
        self.under_way.insert(self.number, if command == Command::Read { length } else { 0 });
        self.number += 1;
        self.send(&head)?;
        self.send(data)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), IoError> {
        Ok((&*self.stream).write_all(bytes)?)
    }

    fn receive(&mut self, into: &mut [u8]) -> Result<(), IoError> {
        Ok((&*self.stream).read_exact(into)?)
    }
}

fn strange(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
