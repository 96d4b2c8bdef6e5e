//! One NBD client: what it asks becomes jobs, and what they end with becomes replies.

use crate::{
    door::DoorId,
    socket::{Got, Happened, Socket},
};
use bytes::{Bytes, BytesMut};
use nbd_server::{
    BlockStatusReply, ErrorCode, Event, Exports, Extent, Handshake, HandshakeProgress, ReadChunks, ReadReply,
    Request, StatusReply, Transmission, ZeroesReply,
};
use region_wire::Outbox;
use std::{collections::BTreeMap, io, sync::Arc, time::Duration};
use upstairs::{Data, Holds, Job, JobError, JobId, Run};

/// Bytes that are read at once, but of a payload that is larger.
const READ: usize = 64 << 10;

/// Requests that one client has under way at most.
const REQUESTS_MAX: usize = 512;

/// Nothing more is taken from a client while it has so many bytes under way, which is the largest request: with that, it has twice as many
/// at most. Counted are bytes that are written, that are read, and that wait to be sent.
const BYTES_MAX: usize = 32 << 20;

/// What is said to whoever asks when his door is being closed.
const LEAVING: &str = "the volume is not exported here any more";

/// An NBD client.
#[derive(Debug)]
pub(crate) struct Client {
    socket: Socket,
    /// When it came, and by which door.
    pub(crate) since: Duration,
    pub(crate) door: DoorId,
    /// Its door is being closed: what it asks now is not done.
    is_leaving: bool,
    state: State,
    block_size: u64,
    input: BytesMut,
    /// Whether there may be requests in the input that were not taken, for want of room.
    has_untaken: bool,
    /// What replaces the input when so many bytes are there. Only while a large payload is on its way.
    large: Option<(Vec<u8>, usize)>,
    outbox: Outbox,
    pub(crate) is_readable: bool,
    /// The other end has said its last.
    is_closed: bool,
    is_writable: bool,
    is_ending: bool,
    /// And how many bytes each of them writes or reads.
    asked: BTreeMap<JobId, (Asked, usize)>,
    /// Bytes of them that are written or read.
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
    Status(StatusReply),
    Zeroes(ZeroesReply),
    Look(BlockStatusReply, Vec<Extent>),
}

impl Client {
    pub(crate) fn new(
        socket: Socket,
        exports: &Arc<Exports>,
        block_size: u64,
        since: Duration,
        door: DoorId,
    ) -> Client {
        let mut output = BytesMut::new();
        let handshake = Handshake::start(Arc::clone(exports), &mut output);
        let mut outbox = Outbox::new();
        outbox.put(&output);
        Client {
            socket,
            since,
            door,
            is_leaving: false,
            state: State::Handshake(handshake),
            block_size,
            input: BytesMut::new(),
            has_untaken: false,
            large: None,
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

    /// Whether it may have more to ask, and there is room for it.
    pub(crate) fn may_ask(&self) -> bool {
        (self.has_room() || self.is_taking()) && (self.has_untaken || (self.is_readable && !self.is_ending))
    }

    fn has_room(&self) -> bool {
        self.asked.len() < REQUESTS_MAX && self.bytes + self.outbox.len() < BYTES_MAX
    }

    /// From now on it is told that it ends, whatever it asks.
    pub(crate) fn leave(&mut self) {
        self.is_leaving = true;
    }

    /// Whether it has no export yet.
    pub(crate) fn is_shaking_hands(&self) -> bool {
        matches!(self.state, State::Handshake(_))
    }

    /// Whether a large payload of it is on its way: what was begun to be taken is taken.
    pub(crate) fn is_taking(&self) -> bool {
        self.large.is_some()
    }

    /// Whether nothing that it has asked is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.outbox.is_empty()
    }

    /// Bytes that are kept for it, or will be.
    pub(crate) fn held(&self) -> usize {
        let large = self.large.as_ref().map_or(0, |(_, wanted)| *wanted);
        self.bytes + large + self.input.len() + self.outbox.len()
    }

    /// Whether nothing more will come of it.
    pub(crate) fn is_over(&self) -> bool {
        self.is_ending && !self.has_untaken && self.asked.is_empty() && self.outbox.is_empty()
    }

    /// Takes what is there, or reads once, and says what was asked. If there is no room for it, nothing, and it is taken later.
    pub(crate) fn receive(&mut self, next_job: &mut u64, has_room: bool) -> io::Result<Vec<(JobId, Job)>> {
        if std::mem::take(&mut self.has_untaken) {
            return self.parse(next_job, has_room);
        }
        let got = if let Some((large, _)) = &mut self.large {
            self.socket.read_into(large)?
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
        match self.large.take() {
            Some((large, wanted)) if large.len() < wanted => {
                self.large = Some((large, wanted));
                return Ok(Vec::new());
            }
            Some((large, _)) => self.input = BytesMut::from(Bytes::from(large)),
            None => {}
        }
        self.parse(next_job, has_room)
    }

    fn parse(&mut self, next_job: &mut u64, is_room_elsewhere: bool) -> io::Result<Vec<(JobId, Job)>> {
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
                State::Transmission(transmission) if !self.has_room() || !is_room_elsewhere => {
                    self.state = State::Transmission(transmission);
                    self.has_untaken = true;
                    return Ok(jobs);
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
            let wanted = self.input.len() + missing;
            let mut large = Vec::with_capacity(wanted);
            large.extend_from_slice(&self.input);
            self.input.clear();
            self.large = Some((large, wanted));
        }
    }

    fn begin(&mut self, request: Request, next_job: &mut u64) -> Option<(JobId, Job)> {
        let size = self.block_size;
        let blocks = |offset: u64, length: u32| (offset / size, u64::from(length) / size);
        let mut bytes = 0;
        let (asked, job) = match request {
            Request::Read { offset, length, reply } => {
                let (first, count) = blocks(offset, length);
                bytes = usize::try_from(length).expect("a request is small");
                let asked = match reply.in_chunks() {
                    Ok(chunks) => Asked::Chunks(chunks),
                    Err(reply) => Asked::Whole(reply, BTreeMap::new()),
                };
                (asked, Job::Read { first, count })
            }
            Request::Write { offset, data, fua, reply } => {
                bytes = data.len();
                (Asked::Status(reply), Job::Write { first: offset / size, bytes: data, is_durable: fua })
            }
            Request::WriteZeroes { offset, length, fua, reply, .. } => {
                let (first, count) = blocks(offset, length);
                (Asked::Zeroes(reply), Job::Zero { first, count, is_durable: fua })
            }
            Request::Trim { offset, length, fua, reply } => {
                let (first, count) = blocks(offset, length);
                (Asked::Status(reply), Job::Zero { first, count, is_durable: fua })
            }
            Request::Flush { reply } => (Asked::Status(reply), Job::Flush),
            Request::Cache { reply, .. } => {
                self.outbox.put(&reply.success());
                return None;
            }
            Request::BlockStatus { offset, length, reply, .. } => {
                let (first, count) = blocks(offset, length);
                (Asked::Look(reply, Vec::new()), Job::Look { first, count })
            }
        };
        if self.is_leaving {
            self.answer(asked, Some((ErrorCode::ShuttingDown, LEAVING.to_owned())));
            return None;
        }
        let id = JobId(*next_job);
        *next_job += 1;
        self.bytes += bytes;
        self.asked.insert(id, (asked, bytes));
        Some((id, job))
    }

    /// A part of what a job has read.
    pub(crate) fn put_read(&mut self, id: JobId, block: u64, data: Data) {
        let offset = block * self.block_size;
        match self.asked.get_mut(&id) {
            Some((Asked::Chunks(chunks), _)) => match data {
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
            Some((Asked::Whole(_, parts), _)) => drop(parts.insert(block, data)),
            _ => {}
        }
    }

    /// What a job has looked at. What nobody ever wrote is a hole; written zeros have no place on a disk either, but are somebody's.
    pub(crate) fn put_look(&mut self, id: JobId, runs: &[Run]) {
        let Some((Asked::Look(_, extents), _)) = self.asked.get_mut(&id) else { return };
        extents.extend(runs.iter().map(|run| Extent {
            length: run.blocks * self.block_size,
            hole: run.holds == Holds::Never,
            zero: run.holds != Holds::Bytes,
        }));
    }

    /// A job has ended.
    pub(crate) fn end(&mut self, id: JobId, result: Result<(), JobError>) {
        let Some((asked, bytes)) = self.asked.remove(&id) else { return };
        self.bytes -= bytes;
        let failed = result.err().map(|error| {
            let code = match error {
                JobError::Fenced { .. } | JobError::Lost { .. } => ErrorCode::ShuttingDown,
                JobError::Unreadable { .. }
                | JobError::WrongSeal { .. }
                | JobError::TooFewMembers { .. }
                | JobError::NotFetched { .. } => ErrorCode::Io,
                JobError::NoRoom { .. } => ErrorCode::NoSpace,
                JobError::ReadOnly => ErrorCode::NotPermitted,
                // No client asks for one.
                JobError::OutOfRange { .. }
                | JobError::Snapshot { .. }
                | JobError::SnapshotFaulted { .. } => ErrorCode::Invalid,
            };
            (code, error.to_string())
        });
        self.answer(asked, failed);
    }

    fn answer(&mut self, asked: Asked, failed: Option<(ErrorCode, String)>) {
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
            (Asked::Status(reply), None) => self.outbox.put(&reply.success()),
            (Asked::Status(reply), Some((code, why))) => self.outbox.put(&reply.error(code, &why)),
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
