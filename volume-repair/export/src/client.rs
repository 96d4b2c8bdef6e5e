//! One NBD client: what it asks becomes jobs, and what they end with becomes replies.

use crate::socket::{Got, Happened, Socket};
use bytes::{Bytes, BytesMut};
use nbd_server::{
    BlockStatusReply, ErrorCode, Event, Exports, Extent, Handshake, HandshakeProgress, ReadChunks, ReadReply,
    Request, StatusReply, Transmission, ZeroesReply,
};
use region_wire::Outbox;
use std::{collections::BTreeMap, io, sync::Arc};
use upstairs::{Data, Holds, Job, JobError, JobId, Run};

/// Bytes that are read at once, but of a payload that is larger.
const READ: usize = 64 << 10;

/// Requests that one client has under way at most.
const REQUESTS_MAX: usize = 512;

/// Bytes of writes that one client has under way at most: two of the largest requests.
const BYTES_MAX: usize = 64 << 20;

/// Nothing more is read from a client while so many bytes wait to be sent to it.
const WAITING_MAX: usize = 16 << 20;

/// An NBD client.
#[derive(Debug)]
pub(crate) struct Client {
    socket: Socket,
    state: State,
    block_size: u64,
    input: BytesMut,
    /// What replaces the input when it is full. Has room only while a large payload is on its way.
    large: Vec<u8>,
    outbox: Outbox,
    pub(crate) is_readable: bool,
    /// The other end has said its last.
    is_closed: bool,
    is_writable: bool,
    is_ending: bool,
    asked: BTreeMap<JobId, Asked>,
    bytes: usize,
    scratch: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Handshake(Handshake),
    Transmission(Transmission),
    Ended,
}

/// A request that is under way.
#[derive(Debug)]
enum Asked {
    Chunks(ReadChunks),
    /// All of it in one piece, in order.
    Whole(ReadReply, BTreeMap<u64, Data>),
    Status(StatusReply, usize),
    Zeroes(ZeroesReply),
    Look(BlockStatusReply, Vec<Extent>),
}

impl Client {
    pub(crate) fn new(socket: Socket, exports: &Arc<Exports>, block_size: u64) -> Client {
        let mut output = BytesMut::new();
        let handshake = Handshake::start(Arc::clone(exports), &mut output);
        let mut outbox = Outbox::new();
        outbox.put(&output);
        Client {
            socket,
            state: State::Handshake(handshake),
            block_size,
            input: BytesMut::new(),
            large: Vec::new(),
            outbox,
            is_readable: true,
            is_closed: false,
            is_writable: true,
            is_ending: false,
            asked: BTreeMap::new(),
            bytes: 0,
            scratch: Vec::with_capacity(READ),
        }
    }

    pub(crate) fn note(&mut self, event: Happened) {
        self.is_readable |= event.is_readable;
        self.is_closed |= event.is_closed;
        self.is_writable |= event.is_writable;
    }

    /// Whether more may be read from it.
    pub(crate) fn may_ask(&self) -> bool {
        self.is_readable
            && !self.is_ending
            && self.asked.len() < REQUESTS_MAX
            && self.bytes < BYTES_MAX
            && self.outbox.len() < WAITING_MAX
    }

    /// Whether nothing more will come of it.
    pub(crate) fn is_over(&self) -> bool {
        self.is_ending && self.asked.is_empty() && self.outbox.is_empty()
    }

    /// Reads once, and says what was asked.
    pub(crate) fn receive(&mut self, next_job: &mut u64) -> io::Result<Vec<(JobId, Job)>> {
        let got = if self.large.capacity() > 0 {
            self.socket.read_into(&mut self.large)?
        } else {
            self.scratch.clear();
            let got = self.socket.read_into(&mut self.scratch)?;
            self.input.extend_from_slice(&self.scratch);
            got
        };
        match got {
            Got::Some => {}
            Got::Rest => self.is_readable = self.is_closed,
            Got::Nothing => self.is_readable = false,
            Got::End => {
                self.is_ending = true;
                self.is_readable = false;
            }
        }
        if self.large.capacity() > 0 {
            if self.large.len() < self.large.capacity() {
                return Ok(Vec::new());
            }
            self.input = BytesMut::from(Bytes::from(std::mem::take(&mut self.large)));
        }
        self.parse(next_job)
    }

    fn parse(&mut self, next_job: &mut u64) -> io::Result<Vec<(JobId, Job)>> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let mut jobs = Vec::new();
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Handshake(handshake) => {
                    let mut output = BytesMut::new();
                    let progress = handshake.advance(&mut self.input, &mut output).map_err(invalid)?;
                    self.outbox.put(&output);
                    match progress {
                        HandshakeProgress::NeedMore { handshake, .. } => {
                            self.state = State::Handshake(handshake);
                            return Ok(jobs);
                        }
                        HandshakeProgress::Answered(handshake) => self.state = State::Handshake(handshake),
                        HandshakeProgress::Chosen(chosen) => self.state = State::Transmission(chosen),
                        HandshakeProgress::Aborted => self.is_ending = true,
                    }
                }
                State::Transmission(mut transmission) => {
                    let event = transmission.next_event(&mut self.input).map_err(invalid)?;
                    self.state = State::Transmission(transmission);
                    match event {
                        Event::NeedMore { bytes } => {
                            self.make_room(bytes);
                            return Ok(jobs);
                        }
                        Event::Request(request) => jobs.extend(self.begin(request, next_job)),
                        Event::Refused { reply, .. } => self.outbox.put(&reply),
                        Event::Disconnect => {
                            self.is_ending = true;
                            return Ok(jobs);
                        }
                    }
                }
                State::Ended => return Ok(jobs),
            }
        }
    }

    /// A large payload is read into a place of its own, and never moved. Small ones keep no more memory than they need.
    fn make_room(&mut self, missing: usize) {
        if missing > READ {
            self.large = Vec::with_capacity(self.input.len() + missing);
            self.large.extend_from_slice(&self.input);
            self.input.clear();
        }
    }

    fn begin(&mut self, request: Request, next_job: &mut u64) -> Option<(JobId, Job)> {
        let size = self.block_size;
        let blocks = |offset: u64, length: u32| (offset / size, u64::from(length) / size);
        let (asked, job) = match request {
            Request::Read { offset, length, reply } => {
                let (first, count) = blocks(offset, length);
                let asked = match reply.in_chunks() {
                    Ok(chunks) => Asked::Chunks(chunks),
                    Err(reply) => Asked::Whole(reply, BTreeMap::new()),
                };
                (asked, Job::Read { first, count })
            }
            Request::Write { offset, data, fua, reply } => {
                self.bytes += data.len();
                let asked = Asked::Status(reply, data.len());
                (asked, Job::Write { first: offset / size, bytes: data, is_durable: fua })
            }
            Request::WriteZeroes { offset, length, fua, reply, .. } => {
                let (first, count) = blocks(offset, length);
                (Asked::Zeroes(reply), Job::Zero { first, count, is_durable: fua })
            }
            Request::Trim { offset, length, fua, reply } => {
                let (first, count) = blocks(offset, length);
                (Asked::Status(reply, 0), Job::Zero { first, count, is_durable: fua })
            }
            Request::Flush { reply } => (Asked::Status(reply, 0), Job::Flush),
            Request::Cache { reply, .. } => {
                self.outbox.put(&reply.success());
                return None;
            }
            Request::BlockStatus { offset, length, reply, .. } => {
                let (first, count) = blocks(offset, length);
                (Asked::Look(reply, Vec::new()), Job::Look { first, count })
            }
        };
        let id = JobId(*next_job);
        *next_job += 1;
        self.asked.insert(id, asked);
        Some((id, job))
    }

    /// A part of what a job has read.
    pub(crate) fn put_read(&mut self, id: JobId, block: u64, data: Data) {
        let offset = block * self.block_size;
        match self.asked.get_mut(&id) {
            Some(Asked::Chunks(chunks)) => match data {
                Data::Bytes(bytes) => {
                    let length = u32::try_from(bytes.len()).expect("a piece is small");
                    self.outbox.put(&chunks.data(offset, length));
                    self.outbox.put_bulk(&bytes);
                }
                Data::Zeros(count) | Data::Never(count) => {
                    let length = u32::try_from(count * self.block_size).expect("a piece is small");
                    self.outbox.put(&chunks.hole(offset, length));
                }
            },
            Some(Asked::Whole(_, parts)) => drop(parts.insert(block, data)),
            _ => {}
        }
    }

    /// What a job has looked at. What nobody ever wrote is a hole; written zeros have no place on a disk either, but are somebody's.
    pub(crate) fn put_look(&mut self, id: JobId, runs: &[Run]) {
        let Some(Asked::Look(_, extents)) = self.asked.get_mut(&id) else { return };
        extents.extend(runs.iter().map(|run| Extent {
            length: run.blocks * self.block_size,
            hole: run.holds == Holds::Never,
            zero: run.holds != Holds::Bytes,
        }));
    }

    /// A job has ended.
    pub(crate) fn end(&mut self, id: JobId, result: Result<(), JobError>) {
        let Some(asked) = self.asked.remove(&id) else { return };
        let failed = result.err().map(|error| {
            let code = match error {
                JobError::Fenced { .. } | JobError::Lost { .. } => ErrorCode::ShuttingDown,
                JobError::Unreadable { .. }
                | JobError::WrongSeal { .. }
                | JobError::TooFewMembers { .. }
                | JobError::NotFetched { .. } => ErrorCode::Io,
                JobError::NoRoom { .. } => ErrorCode::NoSpace,
                JobError::ReadOnly => ErrorCode::NotPermitted,
                JobError::OutOfRange { .. } => ErrorCode::Invalid,
            };
            (code, error.to_string())
        });
        match (asked, failed) {
            (Asked::Chunks(chunks), None) => self.outbox.put(&chunks.done()),
            (Asked::Chunks(chunks), Some((code, why))) => self.outbox.put(&chunks.error(code, &why)),
            (Asked::Whole(reply, parts), None) => {
                self.outbox.put(&reply.whole());
                for data in parts.into_values() {
                    match data {
                        Data::Bytes(bytes) => self.outbox.put_bulk(&bytes),
                        Data::Zeros(count) | Data::Never(count) => {
                            let length = usize::try_from(count * self.block_size).expect("a piece is small");
                            self.outbox.put_bulk(&Bytes::from(vec![0; length]));
                        }
                    }
                }
            }
            (Asked::Whole(reply, _), Some((code, why))) => self.outbox.put(&reply.error(code, &why)),
            (Asked::Status(reply, bytes), None) => {
                self.bytes -= bytes;
                self.outbox.put(&reply.success());
            }
            (Asked::Status(reply, bytes), Some((code, why))) => {
                self.bytes -= bytes;
                self.outbox.put(&reply.error(code, &why));
            }
            (Asked::Look(reply, extents), None) => self.outbox.put(&reply.extents(extents)),
            (Asked::Look(reply, _), Some((code, why))) => self.outbox.put(&reply.error(code, &why)),
            (Asked::Zeroes(reply), None) => self.outbox.put(&reply.success()),
            (Asked::Zeroes(reply), Some((code, why))) => self.outbox.put(&reply.error(code, &why)),
        }
    }

    pub(crate) fn send(&mut self) -> io::Result<()> {
        if self.is_writable {
            self.is_writable = self.socket.send(&mut self.outbox)?;
        }
        Ok(())
    }

    pub(crate) fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }
}
