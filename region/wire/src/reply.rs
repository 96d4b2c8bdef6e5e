//! What a Downstairs answers.

use crate::{
    frame::{Frame, WireError},
    message::{self, Blocks, LOOK_MAX, WRITE_BYTES_MAX},
    outbox::Outbox,
    version::VERSION,
};
use bytes::Bytes;
use region::{
    BlockSize, Geometry, Held, List, Position, Promotion, SEAL, What,
    fields::{Fields, PutFields},
};

/// Bytes of words at most, in a reply that says something in words.
const WORDS_MAX: usize = 1_000;

/// Who is there, and in which state. Of it only what [`Reply::Promoted`] says counts for more than a guess.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version of the protocol that is spoken from now on.
    pub version: u16,
    /// What the region is like.
    pub geometry: Geometry,
    /// Which region of its id it is.
    pub incarnation: u64,
    /// Who may write it.
    pub promoted: Promotion,
}

/// Who is there, and what of: a snapshot, which is only read, and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotWelcome {
    /// The version of the protocol that is spoken from now on.
    pub version: u16,
    /// What the region is like.
    pub geometry: Geometry,
    /// Which region of its id it is.
    pub incarnation: u64,
    /// The last write that the snapshot has. Who has a snapshot of that name and of another position has another one.
    pub applied: Position,
}

/// What a promoted member has; said under the lock that keeps every other writer out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promoted {
    /// The newest list that it was told.
    pub list: List,
    /// The last write that it has.
    pub applied: Position,
    /// The last write that it would have after a power cut.
    pub durable: Position,
    /// Whether a power cut may have taken something that it had applied.
    pub is_suspect: bool,
}

/// Why nobody is welcome who has said this Hello.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotWelcome {
    /// No version of the protocol is spoken by both: it speaks these, from and to.
    #[error("it speaks versions {0} to {1} of the protocol, and this speaks {VERSION}")]
    Version(u16, u16),
    /// It has no such region, in words.
    #[error("{0}")]
    NoRegion(String),
    /// The region is a member of another set, in words.
    #[error("{0}")]
    OtherSet(String),
    /// The region is there, and cannot be opened, in words.
    #[error("{0}")]
    NotOpened(String),
    /// Nobody may write the region, in words: it is a clone of a snapshot.
    #[error("{0}")]
    ReadOnly(String),
}

/// Why something was not done. The connection goes on, but for the first two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// To Hello.
    Hello(NotWelcome),
    /// It has no such snapshot, or not any more, or cannot read it, in words. To Hello, and to whatever is asked of a snapshot later.
    NoSnapshot(String),
    /// Somebody has or had a higher epoch, or the same one in another session.
    Epoch(Promotion),
    /// The epoch is so much higher than the one that it has that somebody has made a mistake, in words.
    EpochTooHigh(String),
    /// The list is older than the one that it has, or not of this writer, or of a position that it does not have.
    List {
        /// Of the request.
        id: u64,
        /// In words.
        why: String,
    },
}

/// What a Downstairs answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To Hello.
    Welcome(Welcome),
    /// To Hello that names a snapshot.
    SnapshotWelcome(SnapshotWelcome),
    /// To Promote: you may write, and nobody else.
    Promoted(Promoted),
    /// To Hello, Promote or SetList, or to anything that is asked of a snapshot: no.
    Refused(Refusal),
    /// To SetList: it is durable.
    ListKept {
        /// Of the request.
        id: u64,
    },
    /// The stream up to this position is applied.
    Applied(Position),
    /// To Flush: the stream up to this position is durable.
    Flushed {
        /// Of the request.
        id: u64,
        /// The position.
        durable: Position,
    },
    /// To Read.
    Read {
        /// Of the request.
        id: u64,
        /// The first block.
        first: u64,
        /// What each of them is.
        whats: Vec<What>,
        /// The bytes of those that hold bytes.
        bytes: Bytes,
    },
    /// To Look.
    Looked {
        /// Of the request.
        id: u64,
        /// What each block is.
        held: Vec<Held>,
    },
    /// To Digest.
    Digested {
        /// Of the request.
        id: u64,
        /// Of all of them.
        digest: u128,
    },
    /// To Hash: the number, or the first block of which the disk does not give back what was written.
    Hashed {
        /// Of the request.
        id: u64,
        /// SHA-256; or a block.
        hash: Result<[u8; 32], u64>,
    },
    /// To Install, Heal, Stage and Commit: so many blocks have taken it.
    Taken {
        /// Of the request.
        id: u64,
        /// Blocks.
        blocks: u64,
    },
    /// To Ping.
    Pong {
        /// Of the request.
        id: u64,
    },
    /// To Snapshot: it is there, durably.
    Snapshotted {
        /// Of the request.
        id: u64,
        /// The last write that it has: another one than was asked for, if it was there already.
        applied: Position,
    },
    /// To Snapshot and DeleteSnapshot: it is not there, or still is.
    SnapshotRefused {
        /// Of the request.
        id: u64,
        /// In words.
        why: String,
    },
    /// To DeleteSnapshot: it is not there any more, nor what it took.
    SnapshotDeleted {
        /// Of the request.
        id: u64,
    },
    /// Somebody else may write now: the last message of this connection.
    Fenced(Promotion),
    /// The disk refuses what was asked last. It is tried again, and nothing behind it is done until it is done.
    Waits {
        /// Whether it has no room, and not an error.
        is_full: bool,
        /// In words.
        why: String,
    },
    /// The region is of no use until somebody looks at it: the last message of this connection.
    Failed(String),
    /// What was asked is not possible; whoever asks it has a mistake. The last message of this connection.
    Wrong(String),
}

mod kind {
    pub(super) const WELCOME: u8 = 101;
    pub(super) const PROMOTED: u8 = 102;
    pub(super) const LIST_KEPT: u8 = 103;
    pub(super) const APPLIED: u8 = 104;
    pub(super) const FLUSHED: u8 = 105;
    pub(super) const READ: u8 = 106;
    pub(super) const LOOKED: u8 = 107;
    pub(super) const DIGESTED: u8 = 108;
    pub(super) const TAKEN: u8 = 109;
    pub(super) const PONG: u8 = 110;
    pub(super) const FENCED: u8 = 111;
    pub(super) const FAILED: u8 = 112;
    pub(super) const WRONG: u8 = 113;
    pub(super) const REFUSED_VERSION: u8 = 114;
    pub(super) const REFUSED_REGION: u8 = 115;
    pub(super) const REFUSED_EPOCH: u8 = 116;
    pub(super) const REFUSED_LIST: u8 = 117;
    pub(super) const WAITS: u8 = 118;
    pub(super) const REFUSED_EPOCH_TOO_HIGH: u8 = 119;
    pub(super) const REFUSED_SET: u8 = 120;
    pub(super) const REFUSED_NOT_OPENED: u8 = 121;
    pub(super) const SNAPSHOTTED: u8 = 122;
    pub(super) const SNAPSHOT_REFUSED: u8 = 123;
    pub(super) const SNAPSHOT_DELETED: u8 = 124;
    pub(super) const REFUSED_SNAPSHOT: u8 = 125;
    pub(super) const SNAPSHOT_WELCOME: u8 = 126;
    pub(super) const HASHED: u8 = 130;
    pub(super) const NOT_HASHED: u8 = 131;
    pub(super) const REFUSED_READ_ONLY: u8 = 132;
}

impl Reply {
    /// Puts it behind what waits to be sent.
    pub fn encode(&self, out: &mut Outbox) {
        let none = Bytes::new();
        match self {
            Reply::Welcome(welcome) => out.push(kind::WELCOME, &none, |into| put_welcome(into, welcome)),
            Reply::SnapshotWelcome(welcome) => out.push(kind::SNAPSHOT_WELCOME, &none, |into| {
                into.put(&welcome.version.to_le_bytes());
                put_geometry(into, welcome.geometry);
                into.put_u64(welcome.incarnation);
                into.put_position(welcome.applied);
            }),
            Reply::Promoted(promoted) => out.push(kind::PROMOTED, &none, |into| {
                message::put_list(into, &promoted.list);
                into.put_position(promoted.applied);
                into.put_position(promoted.durable);
                into.put_u8(u8::from(promoted.is_suspect));
            }),
            Reply::Refused(refusal) => put_refusal(out, refusal),
            Reply::ListKept { id } => out.push(kind::LIST_KEPT, &none, |into| into.put_u64(*id)),
            Reply::Applied(position) => out.push(kind::APPLIED, &none, |into| into.put_position(*position)),
            Reply::Flushed { id, durable } => out.push(kind::FLUSHED, &none, |into| {
                into.put_u64(*id);
                into.put_position(*durable);
            }),
            Reply::Read { id, first, whats, bytes } => out.push(kind::READ, bytes, |into| {
                into.put_u64(*id);
                let count = u32::try_from(whats.len()).expect("a message is small");
                message::put_blocks(into, Blocks { first: *first, count });
                put_whats(into, whats.iter());
            }),
            Reply::Looked { id, held } => out.push(kind::LOOKED, &none, |into| {
                into.put_u64(*id);
                into.put_u32(u32::try_from(held.len()).expect("a message is small"));
                held.iter().for_each(|held| into.put_position(held.version));
                put_whats(into, held.iter().map(|held| &held.what));
            }),
            Reply::Digested { id, digest } => out.push(kind::DIGESTED, &none, |into| {
                into.put_u64(*id);
                into.put_u128(*digest);
            }),
            Reply::Hashed { id, hash: Ok(hash) } => out.push(kind::HASHED, &none, |into| {
                into.put_u64(*id);
                into.put(hash);
            }),
            Reply::Hashed { id, hash: Err(block) } => out.push(kind::NOT_HASHED, &none, |into| {
                into.put_u64(*id);
                into.put_u64(*block);
            }),
            Reply::Taken { id, blocks } => out.push(kind::TAKEN, &none, |into| {
                into.put_u64(*id);
                into.put_u64(*blocks);
            }),
            Reply::Pong { id } => out.push(kind::PONG, &none, |into| into.put_u64(*id)),
            Reply::Snapshotted { id, applied } => out.push(kind::SNAPSHOTTED, &none, |into| {
                into.put_u64(*id);
                into.put_position(*applied);
            }),
            Reply::SnapshotRefused { id, why } => out.push(kind::SNAPSHOT_REFUSED, &none, |into| {
                into.put_u64(*id);
                put_words(into, why);
            }),
            Reply::SnapshotDeleted { id } => {
                out.push(kind::SNAPSHOT_DELETED, &none, |into| into.put_u64(*id));
            }
            Reply::Fenced(promotion) => {
                out.push(kind::FENCED, &none, |into| message::put_promotion(into, *promotion));
            }
            Reply::Waits { is_full, why } => out.push(kind::WAITS, &none, |into| {
                into.put_u8(u8::from(*is_full));
                put_words(into, why);
            }),
            Reply::Failed(why) => out.push(kind::FAILED, &none, |into| put_words(into, why)),
            Reply::Wrong(what) => out.push(kind::WRONG, &none, |into| put_words(into, what)),
        }
    }

    /// What a frame answers.
    ///
    /// # Errors
    /// [`WireError::Wrong`], if there is no such reply.
    pub fn parse(frame: Frame) -> Result<Reply, WireError> {
        let kind = frame.kind;
        if kind != kind::READ && !frame.bulk.is_empty() {
            return Err(WireError::Wrong { kind, what: "bytes of blocks came with it" });
        }
        let mut fields = Fields(&frame.fields);
        let reply = parse(kind, &mut fields, frame.bulk);
        let reply = reply.ok_or(WireError::Wrong { kind, what: "its fields make no sense" })?;
        if !fields.0.is_empty() {
            return Err(WireError::Wrong { kind, what: "it has more fields than it should" });
        }
        Ok(reply)
    }
}

fn parse(kind: u8, fields: &mut Fields<'_>, bulk: Bytes) -> Option<Reply> {
    Some(match kind {
        kind::WELCOME => Reply::Welcome(welcome(fields)?),
        kind::SNAPSHOT_WELCOME => Reply::SnapshotWelcome(SnapshotWelcome {
            version: version(fields)?,
            geometry: geometry(fields)?,
            incarnation: fields.u64()?,
            applied: fields.position()?,
        }),
        kind::PROMOTED => Reply::Promoted(Promoted {
            list: message::list(fields)?,
            applied: fields.position()?,
            durable: fields.position()?,
            is_suspect: fields.u8()? != 0,
        }),
        kind::LIST_KEPT => Reply::ListKept { id: fields.u64()? },
        kind::APPLIED => Reply::Applied(fields.position()?),
        kind::FLUSHED => Reply::Flushed { id: fields.u64()?, durable: fields.position()? },
        kind::READ => {
            let id = fields.u64()?;
            let Blocks { first, count } = message::blocks(fields, (WRITE_BYTES_MAX / 512) as u64)?;
            Reply::Read { id, first, whats: whats(fields, count.into())?, bytes: bulk }
        }
        kind::LOOKED => {
            let (id, count) = (fields.u64()?, u64::from(fields.u32()?));
            if count > LOOK_MAX {
                return None;
            }
            let versions: Vec<Position> = (0..count).map(|_| fields.position()).collect::<Option<_>>()?;
            let whats = whats(fields, count)?;
            let held = versions.into_iter().zip(whats).map(|(version, what)| Held { version, what });
            Reply::Looked { id, held: held.collect() }
        }
        kind::DIGESTED => Reply::Digested { id: fields.u64()?, digest: fields.u128()? },
        kind::HASHED => Reply::Hashed { id: fields.u64()?, hash: Ok(fields.bytes(32)?.try_into().ok()?) },
        kind::NOT_HASHED => Reply::Hashed { id: fields.u64()?, hash: Err(fields.u64()?) },
        kind::TAKEN => Reply::Taken { id: fields.u64()?, blocks: fields.u64()? },
        kind::PONG => Reply::Pong { id: fields.u64()? },
        kind::SNAPSHOTTED => Reply::Snapshotted { id: fields.u64()?, applied: fields.position()? },
        kind::SNAPSHOT_REFUSED => Reply::SnapshotRefused { id: fields.u64()?, why: words(fields)? },
        kind::SNAPSHOT_DELETED => Reply::SnapshotDeleted { id: fields.u64()? },
        kind::FENCED => Reply::Fenced(message::promotion(fields)?),
        kind::WAITS => Reply::Waits { is_full: fields.u8()? != 0, why: words(fields)? },
        kind::FAILED => Reply::Failed(words(fields)?),
        kind::WRONG => Reply::Wrong(words(fields)?),
        kind::REFUSED_VERSION => not_welcome(NotWelcome::Version(version(fields)?, version(fields)?)),
        kind::REFUSED_REGION => not_welcome(NotWelcome::NoRegion(words(fields)?)),
        kind::REFUSED_SET => not_welcome(NotWelcome::OtherSet(words(fields)?)),
        kind::REFUSED_NOT_OPENED => not_welcome(NotWelcome::NotOpened(words(fields)?)),
        kind::REFUSED_SNAPSHOT => Reply::Refused(Refusal::NoSnapshot(words(fields)?)),
        kind::REFUSED_READ_ONLY => not_welcome(NotWelcome::ReadOnly(words(fields)?)),
        kind::REFUSED_EPOCH => Reply::Refused(Refusal::Epoch(message::promotion(fields)?)),
        kind::REFUSED_EPOCH_TOO_HIGH => Reply::Refused(Refusal::EpochTooHigh(words(fields)?)),
        kind::REFUSED_LIST => Reply::Refused(Refusal::List { id: fields.u64()?, why: words(fields)? }),
        _ => return None,
    })
}

fn put_welcome(into: &mut Vec<u8>, welcome: &Welcome) {
    into.put(&welcome.version.to_le_bytes());
    put_geometry(into, welcome.geometry);
    into.put_u64(welcome.incarnation);
    message::put_promotion(into, welcome.promoted);
}

fn welcome(fields: &mut Fields<'_>) -> Option<Welcome> {
    Some(Welcome {
        version: version(fields)?,
        geometry: geometry(fields)?,
        incarnation: fields.u64()?,
        promoted: message::promotion(fields)?,
    })
}

fn put_geometry(into: &mut Vec<u8>, geometry: Geometry) {
    into.put_u32(geometry.block_size.bytes() as u32);
    into.put_u64(geometry.blocks);
    into.put_u8(u8::from(geometry.is_sealed));
}

fn geometry(fields: &mut Fields<'_>) -> Option<Geometry> {
    Some(Geometry {
        block_size: BlockSize::of(fields.u32()?)?,
        blocks: fields.u64()?,
        is_sealed: fields.u8()? != 0,
    })
}

fn put_refusal(out: &mut Outbox, refusal: &Refusal) {
    let none = Bytes::new();
    match refusal {
        Refusal::Hello(why) => put_not_welcome(out, why),
        Refusal::NoSnapshot(why) => out.push(kind::REFUSED_SNAPSHOT, &none, |into| put_words(into, why)),
        Refusal::Epoch(promotion) => {
            out.push(kind::REFUSED_EPOCH, &none, |into| message::put_promotion(into, *promotion));
        }
        Refusal::EpochTooHigh(why) => {
            out.push(kind::REFUSED_EPOCH_TOO_HIGH, &none, |into| put_words(into, why));
        }
        Refusal::List { id, why } => out.push(kind::REFUSED_LIST, &none, |into| {
            into.put_u64(*id);
            put_words(into, why);
        }),
    }
}

fn put_not_welcome(out: &mut Outbox, why: &NotWelcome) {
    let (kind, words) = match why {
        NotWelcome::Version(min, max) => {
            return out.push(kind::REFUSED_VERSION, &Bytes::new(), |into| {
                into.put(&min.to_le_bytes());
                into.put(&max.to_le_bytes());
            });
        }
        NotWelcome::NoRegion(words) => (kind::REFUSED_REGION, words),
        NotWelcome::OtherSet(words) => (kind::REFUSED_SET, words),
        NotWelcome::NotOpened(words) => (kind::REFUSED_NOT_OPENED, words),
        NotWelcome::ReadOnly(words) => (kind::REFUSED_READ_ONLY, words),
    };
    out.push(kind, &Bytes::new(), |into| put_words(into, words));
}

fn not_welcome(why: NotWelcome) -> Reply {
    Reply::Refused(Refusal::Hello(why))
}

fn version(fields: &mut Fields<'_>) -> Option<u16> {
    fields.bytes(2)?.try_into().map(u16::from_le_bytes).ok()
}

/// Whether there are seals is said once; a seal of zeros is one, too.
fn put_whats<'a>(into: &mut Vec<u8>, whats: impl Iterator<Item = &'a What> + Clone) {
    let is_sealed = whats
        .clone()
        .any(|what| matches!(what, What::Bytes { seal, .. } | What::Lost { seal, .. } if *seal != [0; SEAL]));
    into.put_u8(u8::from(is_sealed));
    message::put_whats(into, whats, is_sealed);
}

fn whats(fields: &mut Fields<'_>, count: u64) -> Option<Vec<What>> {
    let is_sealed = fields.u8()? != 0;
    (0..count).map(|_| message::what(fields, is_sealed)).collect()
}

fn put_words(into: &mut Vec<u8>, words: &str) {
    let end = (0..=WORDS_MAX.min(words.len())).rev().find(|end| words.is_char_boundary(*end));
    let words = &words.as_bytes()[..end.unwrap_or(0)];
    into.put_u32(u32::try_from(words.len()).expect("words are few"));
    into.put(words);
}

fn words(fields: &mut Fields<'_>) -> Option<String> {
    let count = usize::try_from(fields.u32()?).ok().filter(|count| *count <= WORDS_MAX)?;
    String::from_utf8(fields.bytes(count)?.to_vec()).ok()
}
