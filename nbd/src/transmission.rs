//! The transmission: requests, one after the other, off the front of the input. Owns the order of a request's parts and the
//! bound on its payload; which requests are refused is `refusal.rs`, how they are answered is `reply.rs`.
//!
//! ```text
//!        ┌──────────► header (28 bytes) ──── wrong magic, payload over the bound ──► Err, for ever
//!        │               │      └─────────── NBD_CMD_DISC ─────────────────────────► Disconnect, for ever
//!        │     ┌─────────┼────────────────────────┐
//!        │   a write   a write that is refused   anything else
//!        │     ▼         ▼                        │
//!        │  payload   payload is skipped          │
//!        │     │         │                        │
//!        └──Request───Refused────────Request or Refused
//! ```
//!
//! A payload is not copied: it is split off the input. So it keeps the memory of the input that it was read into, all of it,
//! until it is dropped.

use crate::{
    export::Export,
    head::Cookie,
    protocol_error::ProtocolError,
    read_reply::ReadReply,
    refusal::{self, Refusal},
    reply::{BlockStatusReply, Form, StatusReply, ZeroesReply, error_reply},
    wire::{
        COMMAND_DISCONNECT, Command, REQUEST_HEADER_BYTES, REQUEST_MAGIC, SKIPPED_BYTES_AT_ONCE, command_flag,
    },
};
use bytes::{Buf, Bytes, BytesMut};
use std::sync::Arc;

/// What the handshake has settled.
#[derive(Clone, Debug)]
pub(crate) struct Negotiated {
    pub(crate) export: Arc<Export>,
    pub(crate) transmission_flags: u16,
    pub(crate) form: Form,
    /// `base:allocation` was selected for this export.
    pub(crate) block_status: bool,
    pub(crate) payload_bytes_max: u32,
}

/// A request before its payload, as it was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestHeader {
    pub(crate) flags: u16,
    pub(crate) command: u16,
    pub(crate) cookie: Cookie,
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

/// A connection that has chosen an export.
#[derive(Debug)]
pub struct Transmission {
    negotiated: Negotiated,
    awaited: Awaited,
}

/// What comes next from the client.
#[derive(Clone, Debug)]
enum Awaited {
    Header,
    /// All of a request's payload, if it has one.
    Payload {
        header: RequestHeader,
        command: Command,
    },
    /// The rest of a payload that nobody wants, then the answer.
    Skipped {
        header: RequestHeader,
        refusal: Refusal,
        remaining: usize,
    },
    /// Nothing: the client is done.
    Disconnected,
    /// Nothing: the client broke the protocol.
    Broken(ProtocolError),
}

/// What a client's bytes say.
#[derive(Debug)]
pub enum Event {
    /// Nothing more can be said before `bytes` more bytes are in the input. For a payload that is all that is left of it,
    /// so that one read can fetch it.
    NeedMore {
        /// How many at least.
        bytes: usize,
    },
    /// Something to do. Its range is not empty, within the export, and made of whole blocks.
    Request(Request),
    /// Something that is refused: send the reply, and go on.
    Refused {
        /// Why.
        refusal: Refusal,
        /// What the client is to be told.
        reply: Bytes,
    },
    /// The client is done: answer what is in flight, then close.
    Disconnect,
}

/// Something to do. Each has its reply, which can be given once; a request whose reply is dropped leaves its client waiting.
#[derive(Debug)]
pub enum Request {
    /// Read.
    Read {
        /// Its range: offset in bytes.
        offset: u64,
        /// Its range: bytes; within the maximum block size.
        length: u32,
        /// To be answered by this.
        reply: ReadReply,
    },
    /// Write.
    Write {
        /// Where: offset in bytes.
        offset: u64,
        /// What; within the maximum block size.
        data: Bytes,
        /// Answer when it is durable.
        fua: bool,
        /// To be answered by this.
        reply: StatusReply,
    },
    /// Write zeroes. The range may be larger than any payload.
    WriteZeroes {
        /// Its range: offset in bytes.
        offset: u64,
        /// Its range: bytes.
        length: u32,
        /// Answer when it is durable.
        fua: bool,
        /// Later writes to the range must not fail for want of space.
        no_hole: bool,
        /// Only if this is faster than a write of zeroes; otherwise [`ZeroesReply::not_fast`].
        fast: bool,
        /// To be answered by this.
        reply: ZeroesReply,
    },
    /// The range is not needed any more. It may be larger than any payload.
    Trim {
        /// Its range: offset in bytes.
        offset: u64,
        /// Its range: bytes.
        length: u32,
        /// Answer when it is durable.
        fua: bool,
        /// To be answered by this.
        reply: StatusReply,
    },
    /// Make durable what was answered before.
    Flush {
        /// To be answered by this.
        reply: StatusReply,
    },
    /// The range will be needed soon. It may be larger than any payload.
    Cache {
        /// Its range: offset in bytes.
        offset: u64,
        /// Its range: bytes.
        length: u32,
        /// To be answered by this.
        reply: StatusReply,
    },
    /// What is the state of the range? It may be larger than any payload.
    BlockStatus {
        /// Its range: offset in bytes.
        offset: u64,
        /// Its range: bytes.
        length: u32,
        /// Only the first extent is wanted.
        only_first: bool,
        /// To be answered by this.
        reply: BlockStatusReply,
    },
}

impl Transmission {
    pub(crate) fn begin(negotiated: Negotiated) -> Self {
        Transmission { negotiated, awaited: Awaited::Header }
    }

    /// The export that was chosen.
    pub fn export(&self) -> &Arc<Export> {
        &self.negotiated.export
    }

    /// Were structured replies negotiated?
    pub fn has_structured_replies(&self) -> bool {
        self.negotiated.form == Form::Structured
    }

    /// Takes the next request off the front of `input`.
    ///
    /// # Errors
    /// The client broke the protocol beyond repair: close the connection. Later calls say the same.
    pub fn next_event(&mut self, input: &mut BytesMut) -> Result<Event, ProtocolError> {
        loop {
            match &mut self.awaited {
                Awaited::Header => {
                    let Some(bytes) = input.first_chunk() else {
                        return Ok(Event::NeedMore { bytes: REQUEST_HEADER_BYTES - input.len() });
                    };
                    let header = parse_header(bytes).and_then(|header| self.admit(header));
                    match header {
                        Ok(awaited) => self.awaited = awaited,
                        Err(error) => {
                            self.awaited = Awaited::Broken(error);
                            continue;
                        }
                    }
                    input.advance(REQUEST_HEADER_BYTES);
                }
                Awaited::Payload { header, command } => {
                    let (header, command) = (*header, *command);
                    let length = payload_bytes(&header);
                    if input.len() < length {
                        return Ok(Event::NeedMore { bytes: length - input.len() });
                    }
                    self.awaited = Awaited::Header;
                    // Split off only where there is a payload: splitting shares the input's memory.
                    let data = if length == 0 { Bytes::new() } else { input.split_to(length).freeze() };
                    return Ok(Event::Request(self.request(command, &header, data)));
                }
                Awaited::Skipped { header, refusal, remaining } => {
                    let skipped = input.len().min(*remaining);
                    input.advance(skipped);
                    *remaining -= skipped;
                    if *remaining > 0 {
                        return Ok(Event::NeedMore { bytes: (*remaining).min(SKIPPED_BYTES_AT_ONCE) });
                    }
                    let (header, refusal) = (*header, *refusal);
                    self.awaited = Awaited::Header;
                    let form = self.negotiated.form;
                    let reply = error_reply(header.cookie, form, refusal.code(), &refusal.to_string());
                    return Ok(Event::Refused { refusal, reply });
                }
                Awaited::Disconnected => return Ok(Event::Disconnect),
                Awaited::Broken(error) => return Err(error.clone()),
            }
        }
    }

    /// What follows a header.
    fn admit(&self, header: RequestHeader) -> Result<Awaited, ProtocolError> {
        // Whatever its other fields say: there is nobody to be told that they are wrong.
        if header.command == COMMAND_DISCONNECT {
            return Ok(Awaited::Disconnected);
        }
        let bytes_max = self.negotiated.payload_bytes_max;
        if header.command == Command::Write.number() && header.length > bytes_max {
            return Err(ProtocolError::PayloadTooLarge { bytes: header.length, bytes_max });
        }
        Ok(match refusal::check(&header, &self.negotiated) {
            Ok(command) => Awaited::Payload { header, command },
            Err(refusal) => Awaited::Skipped { header, refusal, remaining: payload_bytes(&header) },
        })
    }

    /// The request of a header that was admitted.
    fn request(&self, command: Command, header: &RequestHeader, data: Bytes) -> Request {
        let RequestHeader { flags, cookie, offset, length, .. } = *header;
        let has = |flag: u16| flags & flag != 0;
        let (fua, form) = (has(command_flag::FUA), self.negotiated.form);
        let reply = StatusReply { cookie, form };
        match command {
            Command::Read => {
                let one_piece = has(command_flag::DONT_FRAGMENT);
                Request::Read {
                    offset,
                    length,
                    reply: ReadReply::new(cookie, form, offset, length, one_piece),
                }
            }
            Command::Write => Request::Write { offset, data, fua, reply },
            Command::WriteZeroes => {
                let (no_hole, fast) = (has(command_flag::NO_HOLE), has(command_flag::FAST_ZERO));
                let reply = ZeroesReply { reply, fast };
                Request::WriteZeroes { offset, length, fua, no_hole, fast, reply }
            }
            Command::Trim => Request::Trim { offset, length, fua, reply },
            Command::Flush => Request::Flush { reply },
            Command::Cache => Request::Cache { offset, length, reply },
            Command::BlockStatus => {
                let only_first = has(command_flag::REQUEST_ONE);
                let reply = BlockStatusReply::new(cookie, length, only_first);
                Request::BlockStatus { offset, length, only_first, reply }
            }
        }
    }
}

/// Bytes that follow the header.
fn payload_bytes(header: &RequestHeader) -> usize {
    if header.command == Command::Write.number() { header.length as usize } else { 0 }
}

fn parse_header(bytes: &[u8; REQUEST_HEADER_BYTES]) -> Result<RequestHeader, ProtocolError> {
    let mut fields = &bytes[..];
    let found = fields.get_u32();
    if found != REQUEST_MAGIC {
        return Err(ProtocolError::RequestMagic { found });
    }
    Ok(RequestHeader {
        flags: fields.get_u16(),
        command: fields.get_u16(),
        cookie: Cookie(fields.get_u64()),
        offset: fields.get_u64(),
        length: fields.get_u32(),
    })
}
