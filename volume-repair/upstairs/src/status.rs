//! What an Upstairs believes, at one instant: plain data for people and programs. Owns its form, which is a part of the outside
//! contract as JSON; how it is made is [`crate::report`]'s.

use crate::{peer::State, trouble::TroubleCode};
use ids::{RegionId, RegionSetId};
use region::{List, ListVersion, Position, Promotion};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use uuid::Uuid;

/// What an Upstairs believes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The region set that it is the writer of.
    pub set: RegionSetId,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// How many there are.
    pub blocks: u64,
    /// Whether members see ciphertext alone.
    pub is_encrypted: bool,
    /// How far it is.
    pub phase: PhaseName,
    /// What does not go on at the moment, and for whom it waits. Empty if all is well.
    pub waits: Vec<Wait>,
    /// Whether that has lasted for longer than clients are to wait: they get errors.
    pub is_giving_up: bool,
    /// The right to write; none before it is activated.
    pub epoch: Option<u32>,
    /// This process.
    pub session: Uuid,
    /// Who has taken over, if somebody has.
    pub fenced_by: Option<Writer>,
    /// The last write that is lost, if acknowledged ones are.
    pub lost_up_to: Option<At>,
    /// The last write of the stream.
    pub newest: At,
    /// The last write that clients were told is done.
    pub acknowledged: At,
    /// The list in force; none before the first one is.
    pub list: Option<ListStatus>,
    /// The list that is to follow it, while its members are asked to keep it.
    pub next_list: Option<ListStatus>,
    /// The members: those that there are to be, and those that leave and have not gone.
    pub members: Vec<MemberStatus>,
    /// A copy from member to member that is under way.
    pub copy: Option<CopyStatus>,
    /// What is kept because some member may need it.
    pub window: WindowStatus,
    /// What clients have asked and were not answered.
    pub jobs: JobsStatus,
    /// What clients have asked since it began.
    pub totals: Totals,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseName {
    /// It was not activated.
    Idle,
    /// It looks for two members that hold everything.
    Gathering,
    /// Those are brought to the same state.
    BringingUp,
    /// They are to keep the list of themselves.
    Listing,
    /// It reads and writes.
    Active,
    /// Somebody with a higher epoch has taken over: it does nothing more.
    Fenced,
    /// The members have lost acknowledged writes that were not flushed: it does nothing more.
    Lost,
}

/// Something that does not go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// What it is.
    pub code: WaitCode,
    /// For whom it waits.
    pub members: Vec<RegionId>,
    /// The same for people.
    pub words: String,
}

/// What does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitCode {
    /// It is to be given an epoch.
    Activation,
    /// Fewer members are here than are needed to begin.
    TooFewMembers,
    /// Enough are here to begin, and another one may know better.
    AnotherMember,
    /// Members are brought to the same state.
    BringUp,
    /// A list is to be kept by its members.
    List,
    /// Writes and flushes wait for a second full member.
    SecondMember,
    /// Reads are held because two full members were not heard of lately.
    Silence,
    /// Writes wait for room: a member has not taken what was sent.
    Room,
    /// Writes and flushes wait for room on the disks of members.
    DiskRoom,
}

/// Who may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// Its right.
    pub epoch: u32,
    /// Its process.
    pub session: Uuid,
}

/// A write: the position of `docs/BLOCK.md`. Zeros are before all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct At {
    /// Of its writer.
    pub epoch: u32,
    /// Its number.
    pub counter: u64,
}

/// A list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListStatus {
    /// Of its maker.
    pub epoch: u32,
    /// Its number among that one's.
    pub number: u32,
    /// The position from which on it holds.
    pub base: At,
    /// The full members.
    pub full: Vec<RegionId>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its region.
    pub region: RegionId,
    /// Which of those that had this id.
    pub incarnation: u64,
    /// Where it is served, if whoever runs the Upstairs says so.
    pub address: Option<SocketAddr>,
    /// How far its connection is.
    pub state: MemberState,
    /// Milliseconds until it is tried again, if it is away.
    pub retry_in_ms: Option<u64>,
    /// Whether it counts.
    pub role: Role,
    /// How far it is, if it is filled.
    #[serde(default)]
    pub fill: Option<FillStatus>,
    /// Whether it said that a power cut may have taken something from it.
    pub is_suspect: bool,
    /// Whether it has to be filled before it may be full again.
    pub is_condemned: bool,
    /// Whether it is not to be a member any more, and goes as soon as it is not needed.
    #[serde(default)]
    pub is_leaving: bool,
    /// The last write that it is known to have.
    pub applied: At,
    /// The same, also after a power cut.
    pub durable: At,
    /// What of the stream it does not have; none if that is not known, or is more than is kept.
    pub behind: Option<Behind>,
    /// Milliseconds since the last question was sent that it has answered.
    pub heard_ms_ago: Option<u64>,
    /// Why it is not of use, if it is not.
    pub trouble: Option<String>,
    /// The same for programs.
    pub trouble_code: Option<TroubleCode>,
    /// Blocks that were found wrong.
    pub wrong_blocks: u64,
    /// Those of them that had their checksums, and that the volume's key has not sealed: somebody has changed them.
    pub wrong_seals: u64,
    /// Those of them that were healed.
    pub healed_blocks: u64,
}

/// How far a member is that is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillStatus {
    /// What is done for it, or what it waits for.
    pub phase: FillPhase,
    /// The full member that it is copied from; none while nobody copies.
    pub source: Option<RegionId>,
    /// Bytes of the volume, from its beginning on, of which it was made sure that it has them. Never less than before, also if it begins
    /// again: what is the same already is only compared.
    pub bytes_done: u64,
    /// Bytes of the volume.
    pub bytes: u64,
}

/// What is done for a member that is filled, or what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FillPhase {
    /// It is not there.
    Away,
    /// Its turn has not come: another one is filled, or there is no full member that it could be filled from.
    Queued,
    /// What it lacks is copied.
    Copying,
    /// Everything is compared once more: what was written meanwhile it has got, too.
    Checking,
    /// What it was given is made durable.
    MakingDurable,
    /// It has everything, and a member that leaves is left out to make room for it.
    MakingRoom,
    /// It has everything, and all full members are to keep the list that has it.
    Joining,
}

/// How far a member's connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// There is none.
    Away,
    /// It is being made.
    Connecting,
    /// It was asked who it is.
    Greeting,
    /// It was asked to let this Upstairs write.
    Promoting,
    /// It has said what it has, and waits for what follows from it.
    Told,
    /// It gets every write.
    Streaming,
}

/// Whether a member counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Nobody knows yet.
    Unknown,
    /// It has a prefix of the stream.
    Full,
    /// It is being made to have one, or is to be.
    Filling,
}

/// A part of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// Writes.
    pub writes: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// A copy from member to member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyStatus {
    /// Who has it.
    pub from: RegionId,
    /// Who is to have it.
    pub to: RegionId,
    /// Whether the target is full, and only lacks the newest writes.
    pub is_bring_up: bool,
    /// Blocks of this round that were compared, and copied where they differed.
    pub blocks_done: u64,
    /// Blocks of a round.
    pub blocks: u64,
    /// Bytes that are copied in a second at most, if somebody has said so. A bring-up, for which clients may wait, has no limit.
    pub bytes_per_second_max: Option<u64>,
}

/// The stream, as far as it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowStatus {
    /// Writes and flushes.
    pub entries: u64,
    /// At most.
    pub entries_max: u64,
    /// Bytes of blocks.
    pub bytes: u64,
    /// At most, but for the last one that was begun.
    pub bytes_max: u64,
}

/// What clients have asked and were not answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobsStatus {
    /// Not begun: there is no room, or nobody to ask.
    pub waiting: u64,
    /// Reads that are under way.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Flushes, and writes that are to be durable.
    pub flushes: u64,
    /// The volume's own, which come behind those of clients: comparisons, and those of the others that are no client's.
    #[serde(default)]
    pub background: u64,
}

/// What clients have asked since the Upstairs began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Reads.
    pub reads: u64,
    /// Bytes of them.
    pub read_bytes: u64,
    /// Writes of bytes.
    pub writes: u64,
    /// Bytes of them.
    pub written_bytes: u64,
    /// Zeroings, which trims are, too.
    pub zeroings: u64,
    /// Bytes of them.
    pub zeroed_bytes: u64,
    /// Flushes, not counting those of single writes.
    pub flushes: u64,
    /// Times that a second member was asked, because the first one was slow.
    pub hedged_reads: u64,
    /// Reads that ended with an error, because no member had a block right.
    #[serde(default)]
    pub unreadable_reads: u64,
    /// Blocks of a member that were made unreadable, because nobody had them right when they were to be copied to it.
    #[serde(default)]
    pub lost_blocks: u64,
}

impl From<Position> for At {
    fn from(Position { epoch, counter }: Position) -> At {
        At { epoch, counter }
    }
}

impl From<Promotion> for Writer {
    fn from(Promotion { epoch, session }: Promotion) -> Writer {
        Writer { epoch, session }
    }
}

impl From<&List> for ListStatus {
    fn from(list: &List) -> ListStatus {
        let ListVersion { epoch, number } = list.version;
        let full = list.full.iter().map(|member| member.region).collect();
        ListStatus { epoch, number, base: list.base.into(), full }
    }
}

impl From<State> for MemberState {
    fn from(state: State) -> MemberState {
        match state {
            State::Away(_) => MemberState::Away,
            State::Connecting => MemberState::Connecting,
            State::Greeting => MemberState::Greeting,
            State::Promoting => MemberState::Promoting,
            State::Told => MemberState::Told,
            State::Streaming => MemberState::Streaming,
        }
    }
}
