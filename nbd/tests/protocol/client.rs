//! A client's side of the protocol, written from the protocol's document and not from the library: what it sends as bytes, and what it
//! is sent taken apart. Owns no expectations.

/// What it says first: fixed newstyle, no zeroes.
pub(crate) const MODERN: u32 = 3;

pub(crate) const OPT_EXPORT_NAME: u32 = 1;
pub(crate) const OPT_ABORT: u32 = 2;
pub(crate) const OPT_LIST: u32 = 3;
pub(crate) const OPT_STARTTLS: u32 = 5;
pub(crate) const OPT_INFO: u32 = 6;
pub(crate) const OPT_GO: u32 = 7;
pub(crate) const OPT_STRUCTURED_REPLY: u32 = 8;
pub(crate) const OPT_LIST_META_CONTEXT: u32 = 9;
pub(crate) const OPT_SET_META_CONTEXT: u32 = 10;
pub(crate) const OPT_EXTENDED_HEADERS: u32 = 11;

pub(crate) const ACK: u32 = 1;
pub(crate) const SERVER: u32 = 2;
pub(crate) const INFO: u32 = 3;
pub(crate) const META_CONTEXT: u32 = 4;
pub(crate) const ERR_UNSUP: u32 = 0x8000_0001;
pub(crate) const ERR_INVALID: u32 = 0x8000_0003;
pub(crate) const ERR_UNKNOWN: u32 = 0x8000_0006;
pub(crate) const ERR_BLOCK_SIZE_REQD: u32 = 0x8000_0008;
pub(crate) const ERR_TOO_BIG: u32 = 0x8000_0009;

pub(crate) const READ: u16 = 0;
pub(crate) const WRITE: u16 = 1;
pub(crate) const DISC: u16 = 2;
pub(crate) const FLUSH: u16 = 3;
pub(crate) const TRIM: u16 = 4;
pub(crate) const CACHE: u16 = 5;
pub(crate) const WRITE_ZEROES: u16 = 6;
pub(crate) const BLOCK_STATUS: u16 = 7;

pub(crate) const FUA: u16 = 1;
pub(crate) const NO_HOLE: u16 = 2;
pub(crate) const DF: u16 = 4;
pub(crate) const REQ_ONE: u16 = 8;
pub(crate) const FAST_ZERO: u16 = 16;

/// An option, as it is sent.
pub(crate) fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"IHAVEOPT".to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes
}

/// The data of INFO and GO.
pub(crate) fn info_data(name: &str, wanted: &[u16]) -> Vec<u8> {
    let mut bytes = counted(name.as_bytes());
    bytes.extend((wanted.len() as u16).to_be_bytes());
    bytes.extend(wanted.iter().flat_map(|wanted| wanted.to_be_bytes()));
    bytes
}

/// The data of LIST_META_CONTEXT and SET_META_CONTEXT.
pub(crate) fn meta_data(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut bytes = counted(name.as_bytes());
    bytes.extend((queries.len() as u32).to_be_bytes());
    bytes.extend(queries.iter().flat_map(|query| counted(query.as_bytes())));
    bytes
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

/// A request, as it is sent; a write's data follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) flags: u16,
    pub(crate) command: u16,
    pub(crate) cookie: u64,
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

impl Sent {
    pub(crate) fn new(command: u16, offset: u64, length: u32) -> Self {
        Sent { flags: 0, command, cookie: 0xC00C_1E00_0000_0001, offset, length }
    }

    pub(crate) fn with(self, flags: u16) -> Self {
        Sent { flags, ..self }
    }

    pub(crate) fn header(self) -> Vec<u8> {
        let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend(self.command.to_be_bytes());
        bytes.extend(self.cookie.to_be_bytes());
        bytes.extend(self.offset.to_be_bytes());
        bytes.extend(self.length.to_be_bytes());
        bytes
    }

    /// With its payload, if it is a write.
    pub(crate) fn bytes(self) -> Vec<u8> {
        let mut bytes = self.header();
        if self.command == WRITE {
            bytes.extend((0..self.length).map(|n| (n % 251) as u8));
        }
        bytes
    }
}

/// What is left of something that was sent. Reading beyond its end is a failed test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a>(pub(crate) &'a [u8]);

impl<'a> Received<'a> {
    #[track_caller]
    pub(crate) fn take(&mut self, bytes: usize) -> &'a [u8] {
        assert!(bytes <= self.0.len(), "{bytes} bytes are expected, {} are there", self.0.len());
        let (taken, rest) = self.0.split_at(bytes);
        self.0 = rest;
        taken
    }

    #[track_caller]
    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    #[track_caller]
    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    #[track_caller]
    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take(8).try_into().unwrap())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn text(&mut self) -> String {
        String::from_utf8(self.take(self.0.len()).to_vec()).unwrap()
    }
}

/// One answer to an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OptionReply {
    pub(crate) option: u32,
    pub(crate) kind: u32,
    pub(crate) data: Vec<u8>,
}

/// All that is there, as answers to options.
#[track_caller]
pub(crate) fn option_replies(bytes: &[u8]) -> Vec<OptionReply> {
    let (mut rest, mut replies) = (Received(bytes), Vec::new());
    while !rest.is_empty() {
        assert_eq!(rest.u64(), 0x0003_e889_0455_65a9, "the magic of an answer");
        let (option, kind, length) = (rest.u32(), rest.u32(), rest.u32());
        replies.push(OptionReply { option, kind, data: rest.take(length as usize).to_vec() });
    }
    replies
}

/// One message of the transmission. For a simple reply to a read, its data is not part of it: only who asked knows that it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Simple { error: u32, cookie: u64 },
    Chunk { cookie: u64, last: bool, content: Content },
}

/// What a chunk says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    None,
    Data { offset: u64, data: Vec<u8> },
    Hole { offset: u64, length: u32 },
    BlockStatus { context: u32, extents: Vec<(u32, u32)> },
    Error { error: u32, message: String },
    ErrorAt { error: u32, message: String, offset: u64 },
}

impl Message {
    #[track_caller]
    pub(crate) fn take(rest: &mut Received<'_>) -> Self {
        match rest.u32() {
            0x6744_6698 => Message::Simple { error: rest.u32(), cookie: rest.u64() },
            0x668e_33ef => {
                let (flags, kind, cookie, length) = (rest.u16(), rest.u16(), rest.u64(), rest.u32());
                assert!(flags <= 1, "unknown flags {flags:#x}");
                let content = Content::of(kind, Received(rest.take(length as usize)));
                assert!(flags == 1 || content != Content::None, "an empty chunk must be the last");
                Message::Chunk { cookie, last: flags == 1, content }
            }
            magic => panic!("a reply begins with {magic:#x}"),
        }
    }

    /// All that is there.
    #[track_caller]
    pub(crate) fn all(bytes: &[u8]) -> Vec<Self> {
        let (mut rest, mut messages) = (Received(bytes), Vec::new());
        while !rest.is_empty() {
            messages.push(Message::take(&mut rest));
        }
        messages
    }

    /// The error of a reply that is one.
    pub(crate) fn error(&self) -> Option<u32> {
        match self {
            Message::Simple { error, .. } => (*error != 0).then_some(*error),
            Message::Chunk { content: Content::Error { error, .. }, last: true, .. } => Some(*error),
            Message::Chunk { .. } => None,
        }
    }
}

impl Content {
    #[track_caller]
    fn of(kind: u16, mut payload: Received<'_>) -> Self {
        let content = match kind {
            0 => Content::None,
            1 => {
                let offset = payload.u64();
                let data = payload.take(payload.0.len()).to_vec();
                assert!(!data.is_empty(), "a chunk of data is empty");
                Content::Data { offset, data }
            }
            2 => {
                let (offset, length) = (payload.u64(), payload.u32());
                assert!(length > 0, "a hole is empty");
                Content::Hole { offset, length }
            }
            5 => {
                let (context, mut extents) = (payload.u32(), Vec::new());
                while !payload.is_empty() {
                    extents.push((payload.u32(), payload.u32()));
                }
                assert!(!extents.is_empty() && extents.iter().all(|(length, _)| *length > 0), "{extents:?}");
                Content::BlockStatus { context, extents }
            }
            0x8001 | 0x8002 => {
                let (error, length) = (payload.u32(), payload.u16());
                assert!(error != 0 && length <= 4096, "error {error}, message of {length} bytes");
                let message = Received(payload.take(usize::from(length))).text();
                if kind == 0x8001 {
                    Content::Error { error, message }
                } else {
                    Content::ErrorAt { error, message, offset: payload.u64() }
                }
            }
            kind => panic!("a chunk has the unknown kind {kind:#x}"),
        };
        assert!(payload.is_empty(), "{} bytes too many in {content:?}", payload.0.len());
        content
    }
}
