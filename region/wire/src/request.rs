//! What an Upstairs asks. The kinds of both sides are numbered together, and never used again for something else.

use crate::{
    frame::{Frame, WireError},
    message::{self, BlockData, Blocks, LOOK_MAX, WRITE_BYTES_MAX, ZERO_MAX},
    outbox::Outbox,
};
use bytes::Bytes;
use ids::{RegionId, RegionSetId, SnapshotId};
use region::{
    List, Position, Promotion,
    fields::{Fields, PutFields},
};
use uuid::Uuid;

/// The first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The lowest version of the protocol that the Upstairs speaks.
    pub version_min: u16,
    /// The highest one.
    pub version_max: u16,
    /// The region that it wants.
    pub region: RegionId,
    /// The set that it takes that to be a member of.
    pub set: RegionSetId,
    /// A snapshot of the region, to be read in place of the region itself.
    pub snapshot: Option<SnapshotId>,
}

/// Who waits for an answer, and whether others go first where there are not processors for all. Whoever asks knows of the clients of its own
/// volume alone. Of a snapshot all reads are made alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// A client does.
    Client,
    /// A copy, or who compares copies; and clients ask nothing just now.
    Alone,
    /// The same, and clients do ask: theirs goes first.
    Later,
}

impl Haste {
    fn code(self) -> u8 {
        match self {
            Haste::Client => 0,
            Haste::Alone => 1,
            Haste::Later => 2,
        }
    }

    fn of(code: u8) -> Option<Haste> {
        [Haste::Client, Haste::Alone, Haste::Later].into_iter().find(|haste| haste.code() == code)
    }
}

/// Blocks for a member that lacks them, or has them wrong: with the version that they have elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockCopy {
    /// What nobody ever wrote.
    Never(Blocks),
    /// Zeros, of this version.
    Zeros(Position, Blocks),
    /// Bytes, of this version.
    Bytes(Position, BlockData),
    /// Bytes, each block of a version of its own. Never healed with.
    Mixed(Vec<Position>, BlockData),
    /// Bytes, of this version, that nobody has right any more: checksums and seals of what they are to be, and no bytes. Never healed
    /// with.
    Lost(Position, BlockData),
}

/// What an Upstairs asks. `id`s are its own, and come back with the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Who is there, and in which state? The first message, and never again.
    Hello(Hello),
    /// Let me write, and nobody else.
    Promote(Promotion),
    /// Keep this list.
    SetList {
        /// Comes back.
        id: u64,
        /// The list.
        list: List,
    },
    /// You are not full: the stream goes on for you behind this position.
    Join(Position),
    /// The next write of the stream.
    Write(Position, BlockData),
    /// The next write of the stream is zeros.
    Zero(Position, Blocks),
    /// You are not full: the next write of the stream is of blocks that are still to be copied to you, with it.
    Pass(Position),
    /// Make durable what came before.
    Flush {
        /// Comes back.
        id: u64,
    },
    /// What do these blocks hold, at one moment behind the requests before it? Long reads may be answered behind later requests; a Ping is
    /// answered behind all reads before it.
    Read {
        /// Comes back.
        id: u64,
        /// Which.
        blocks: Blocks,
        /// Whether others go first.
        haste: Haste,
    },
    /// What do these blocks hold: versions and checksums, without bytes?
    Look {
        /// Comes back.
        id: u64,
        /// Which.
        blocks: Blocks,
    },
    /// The same in one number.
    Digest {
        /// Comes back.
        id: u64,
        /// Which.
        blocks: Blocks,
    },
    /// What does the snapshot hold in these blocks: one strong number, of the bytes that the disk gives back now?
    Hash {
        /// Comes back.
        id: u64,
        /// Which; as many as one Read may have.
        blocks: Blocks,
    },
    /// You are not full: take these, if you have not newer ones of this epoch.
    Install {
        /// Comes back.
        id: u64,
        /// The blocks.
        copy: BlockCopy,
        /// Whether others go first.
        haste: Haste,
    },
    /// You have this version, and the bytes are wrong: take these.
    Heal {
        /// Comes back.
        id: u64,
        /// The blocks.
        copy: BlockCopy,
    },
    /// Put these where nobody sees them, until a commit.
    Stage {
        /// Comes back.
        id: u64,
        /// The blocks.
        copy: BlockCopy,
    },
    /// All that was staged is your content now, and this what you have applied.
    Commit {
        /// Comes back.
        id: u64,
        /// The position.
        applied: Position,
    },
    /// Are you there?
    Ping {
        /// Comes back.
        id: u64,
    },
    /// You are full: take a snapshot of the stream up to this position, of which you have nothing newer.
    Snapshot {
        /// Comes back.
        id: u64,
        /// Its name.
        snapshot: SnapshotId,
        /// What it is of.
        at: Position,
    },
    /// Nobody needs this snapshot any more.
    DeleteSnapshot {
        /// Comes back.
        id: u64,
        /// Which.
        snapshot: SnapshotId,
    },
}

pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 1;
    pub(crate) const PROMOTE: u8 = 2;
    pub(crate) const SET_LIST: u8 = 3;
    pub(crate) const JOIN: u8 = 4;
    pub(crate) const WRITE: u8 = 5;
    pub(crate) const ZERO: u8 = 6;
    pub(crate) const FLUSH: u8 = 7;
    pub(crate) const READ: u8 = 8;
    pub(crate) const LOOK: u8 = 9;
    pub(crate) const DIGEST: u8 = 10;
    pub(crate) const INSTALL: u8 = 11;
    pub(crate) const HEAL: u8 = 12;
    pub(crate) const STAGE: u8 = 13;
    pub(crate) const COMMIT: u8 = 14;
    pub(crate) const PING: u8 = 15;
    pub(crate) const SNAPSHOT: u8 = 16;
    pub(crate) const DELETE_SNAPSHOT: u8 = 17;
    pub(crate) const PASS: u8 = 18;
    pub(crate) const HASH: u8 = 20;
}

/// Blocks of one read at most, if they are small ones.
const READ_MAX: u64 = (WRITE_BYTES_MAX / 512) as u64;

const NEVER: u8 = 0;
const ZEROS: u8 = 1;
const BYTES: u8 = 2;
const LOST: u8 = 3;
const MIXED: u8 = 4;

impl BlockCopy {
    /// The bytes that come with it, if any.
    #[must_use]
    pub fn data(&self) -> Option<&BlockData> {
        match self {
            BlockCopy::Bytes(_, data) | BlockCopy::Mixed(_, data) => Some(data),
            BlockCopy::Never(_) | BlockCopy::Zeros(..) | BlockCopy::Lost(..) => None,
        }
    }
}

impl Request {
    /// Puts it behind what waits to be sent.
    pub fn encode(&self, out: &mut Outbox) {
        let none = Bytes::new();
        match self {
            Request::Hello(hello) => out.push(kind::HELLO, &none, |into| {
                into.put(&hello.version_min.to_le_bytes());
                into.put(&hello.version_max.to_le_bytes());
                into.put_u128(hello.region.0.as_u128());
                into.put_u128(hello.set.0.as_u128());
                // At the end, and nothing if there is none: as it was said before there were any.
                if let Some(snapshot) = hello.snapshot {
                    into.put_u128(snapshot.0.as_u128());
                }
            }),
            Request::Promote(promotion) => {
                out.push(kind::PROMOTE, &none, |into| message::put_promotion(into, *promotion));
            }
            Request::SetList { id, list } => out.push(kind::SET_LIST, &none, |into| {
                into.put_u64(*id);
                message::put_list(into, list);
            }),
            Request::Join(position) => out.push(kind::JOIN, &none, |into| into.put_position(*position)),
            Request::Write(position, data) => out.push(kind::WRITE, &data.bytes, |into| {
                into.put_position(*position);
                message::put_data(into, data);
            }),
            Request::Zero(position, blocks) => out.push(kind::ZERO, &none, |into| {
                into.put_position(*position);
                message::put_blocks(into, *blocks);
            }),
            Request::Pass(position) => out.push(kind::PASS, &none, |into| into.put_position(*position)),
            Request::Flush { id } => out.push(kind::FLUSH, &none, |into| into.put_u64(*id)),
            Request::Read { id, blocks, haste } => out.push(kind::READ, &none, |into| {
                into.put_u64(*id);
                message::put_blocks(into, *blocks);
                into.put_u8(haste.code());
            }),
            Request::Look { id, blocks } => put_question(out, kind::LOOK, *id, *blocks),
            Request::Digest { id, blocks } => put_question(out, kind::DIGEST, *id, *blocks),
            Request::Hash { id, blocks } => put_question(out, kind::HASH, *id, *blocks),
            Request::Install { id, copy, haste } => put_copy(out, kind::INSTALL, (*id, Some(*haste)), copy),
            Request::Heal { id, copy } => put_copy(out, kind::HEAL, (*id, None), copy),
            Request::Stage { id, copy } => put_copy(out, kind::STAGE, (*id, None), copy),
            Request::Commit { id, applied } => out.push(kind::COMMIT, &none, |into| {
                into.put_u64(*id);
                into.put_position(*applied);
            }),
            Request::Ping { id } => out.push(kind::PING, &none, |into| into.put_u64(*id)),
            Request::Snapshot { id, snapshot, at } => out.push(kind::SNAPSHOT, &none, |into| {
                into.put_u64(*id);
                into.put_u128(snapshot.0.as_u128());
                into.put_position(*at);
            }),
            Request::DeleteSnapshot { id, snapshot } => out.push(kind::DELETE_SNAPSHOT, &none, |into| {
                into.put_u64(*id);
                into.put_u128(snapshot.0.as_u128());
            }),
        }
    }

    /// What a frame asks.
    ///
    /// # Errors
    /// [`WireError::Wrong`], if there is no such request.
    pub fn parse(frame: Frame) -> Result<Request, WireError> {
        let kind = frame.kind;
        let fields = frame.fields;
        let mut fields = Fields(&fields);
        let takes_bulk = matches!(kind, kind::WRITE | kind::INSTALL | kind::HEAL | kind::STAGE);
        if !takes_bulk && !frame.bulk.is_empty() {
            return Err(WireError::Wrong { kind, what: "bytes of blocks came with it" });
        }
        let request = parse(kind, &mut fields, frame.bulk);
        let request = request.ok_or(WireError::Wrong { kind, what: "its fields make no sense" })?;
        if !fields.0.is_empty() {
            return Err(WireError::Wrong { kind, what: "it has more fields than it should" });
        }
        Ok(request)
    }
}

fn parse(kind: u8, fields: &mut Fields<'_>, bulk: Bytes) -> Option<Request> {
    Some(match kind {
        kind::HELLO => {
            let version = |bytes: &[u8]| bytes.try_into().map(u16::from_le_bytes).ok();
            Request::Hello(Hello {
                version_min: version(fields.bytes(2)?)?,
                version_max: version(fields.bytes(2)?)?,
                region: RegionId(Uuid::from_u128(fields.u128()?)),
                set: RegionSetId(Uuid::from_u128(fields.u128()?)),
                snapshot: match fields.0.is_empty() {
                    true => None,
                    false => Some(SnapshotId(Uuid::from_u128(fields.u128()?))),
                },
            })
        }
        kind::PROMOTE => Request::Promote(message::promotion(fields)?),
        kind::SET_LIST => Request::SetList { id: fields.u64()?, list: message::list(fields)? },
        kind::JOIN => Request::Join(fields.position()?),
        kind::WRITE => Request::Write(message::version(fields)?, message::data(fields, bulk)?),
        kind::ZERO => Request::Zero(message::version(fields)?, message::blocks(fields, ZERO_MAX)?),
        kind::PASS => Request::Pass(message::version(fields)?),
        kind::FLUSH => Request::Flush { id: fields.u64()? },
        kind::READ => Request::Read {
            id: fields.u64()?,
            blocks: message::blocks(fields, READ_MAX)?,
            haste: Haste::of(fields.u8()?)?,
        },
        kind::HASH => Request::Hash { id: fields.u64()?, blocks: message::blocks(fields, READ_MAX)? },
        kind::LOOK => Request::Look { id: fields.u64()?, blocks: message::blocks(fields, LOOK_MAX)? },
        kind::DIGEST => Request::Digest { id: fields.u64()?, blocks: message::blocks(fields, LOOK_MAX)? },
        kind::INSTALL => {
            let (id, haste) = (fields.u64()?, Haste::of(fields.u8()?)?);
            Request::Install { id, copy: copy(fields, bulk, true)?, haste }
        }
        kind::HEAL => Request::Heal { id: fields.u64()?, copy: copy(fields, bulk, false)? },
        kind::STAGE => Request::Stage { id: fields.u64()?, copy: copy(fields, bulk, true)? },
        kind::COMMIT => Request::Commit { id: fields.u64()?, applied: fields.position()? },
        kind::PING => Request::Ping { id: fields.u64()? },
        kind::SNAPSHOT => {
            let (id, snapshot) = (fields.u64()?, SnapshotId(Uuid::from_u128(fields.u128()?)));
            Request::Snapshot { id, snapshot, at: fields.position()? }
        }
        kind::DELETE_SNAPSHOT => Request::DeleteSnapshot {
            id: fields.u64()?,
            snapshot: SnapshotId(Uuid::from_u128(fields.u128()?)),
        },
        _ => return None,
    })
}

fn put_question(out: &mut Outbox, kind: u8, id: u64, blocks: Blocks) {
    out.push(kind, &Bytes::new(), |into| {
        into.put_u64(id);
        message::put_blocks(into, blocks);
    });
}

fn put_copy(out: &mut Outbox, kind: u8, (id, haste): (u64, Option<Haste>), copy: &BlockCopy) {
    let none = Bytes::new();
    let bulk = copy.data().map_or(&none, |data| &data.bytes);
    out.push(kind, bulk, |into| {
        into.put_u64(id);
        haste.into_iter().for_each(|haste| into.put_u8(haste.code()));
        match copy {
            BlockCopy::Never(blocks) => {
                into.put_u8(NEVER);
                message::put_blocks(into, *blocks);
            }
            BlockCopy::Zeros(version, blocks) => {
                into.put_u8(ZEROS);
                into.put_position(*version);
                message::put_blocks(into, *blocks);
            }
            BlockCopy::Bytes(version, data) => {
                into.put_u8(BYTES);
                into.put_position(*version);
                message::put_data(into, data);
            }
            BlockCopy::Mixed(versions, data) => {
                into.put_u8(MIXED);
                message::put_data(into, data);
                versions.iter().for_each(|version| into.put_position(*version));
            }
            BlockCopy::Lost(version, data) => {
                into.put_u8(LOST);
                into.put_position(*version);
                message::put_data(into, data);
            }
        }
    });
}

fn copy(fields: &mut Fields<'_>, bulk: Bytes, may_be_mixed: bool) -> Option<BlockCopy> {
    let kind = fields.u8()?;
    if !matches!(kind, BYTES | MIXED) && !bulk.is_empty() {
        return None;
    }
    Some(match kind {
        NEVER => BlockCopy::Never(message::blocks(fields, ZERO_MAX)?),
        ZEROS => BlockCopy::Zeros(message::version(fields)?, message::blocks(fields, ZERO_MAX)?),
        BYTES => BlockCopy::Bytes(message::version(fields)?, message::data(fields, bulk)?),
        MIXED if may_be_mixed => {
            let data = message::data(fields, bulk)?;
            let versions = data.checksums.iter().map(|_| message::version(fields)).collect::<Option<_>>()?;
            BlockCopy::Mixed(versions, data)
        }
        LOST => BlockCopy::Lost(message::version(fields)?, message::data(fields, bulk)?),
        _ => return None,
    })
}
