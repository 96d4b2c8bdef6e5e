//! What a region set has held, as a part of a volume or under one: read from any of the members that have the snapshot. Owns which of them is
//! asked, and that no block is told that is not as it was written.
//!
//! ```text
//!   blocks wanted ──► the member that has answered last ──all right──► told
//!                          │ away, refused, some blocks wrong: what was right is kept
//!                          ▼
//!                     the next member, for the others ──► … ──► nobody is left ──some were away──► all again, a moment later
//!                                                                     └── all have said no, or it was asked often enough ──► given up
//! ```
//!
//! Nothing is written, so nobody is healed: whoever writes the region set does that.
//!
//! The members may be others at any time: all that have the snapshot have the same. What is under way goes on with those that it began with, and if
//! they do not give it, with the others.

use crate::snapshot_peer::{SnapshotPeer, Told};
use bytes::{Bytes, BytesMut};
use region::{Member, Position, What, checksum};
use region_wire::{Blocks, NotWelcome, OtherSnapshot, PeerError, Unfit};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use upstairs::Data;
use volume_layers::SetSnapshot;

/// Pauses before all are asked again; then it is given up, and whoever reads gets an error. A member that is started again is back by then.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_millis(2_000)];

/// A snapshot that is read.
#[derive(Debug)]
pub(crate) struct SnapshotSource {
    of: Arc<SetSnapshot>,
    own: Option<IpAddr>,
    state: Mutex<State>,
}

/// A member, and where it is served.
type Named = (Member, SocketAddr);

/// What is known of its members.
#[derive(Debug)]
struct State {
    members: Arc<[Named]>,
    /// The one that is asked first, if it is among them.
    first: Named,
    /// Connections that nobody uses just now, and to whom. No more than are ever used at a time, which [`volume_layers`] bounds.
    unused: Vec<(Named, SnapshotPeer)>,
    /// The position that the snapshot is of, as the first member said that was asked.
    applied: Option<Position>,
}

/// Why a member does not give blocks that can be used.
#[derive(Debug, thiserror::Error)]
enum BlocksError {
    /// It says no, or nothing, or what cannot be.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// Two snapshots of one name.
    #[error(transparent)]
    OtherSnapshot(#[from] OtherSnapshot),
    /// Only who has the volume's key sees it.
    #[error(
        "block {0} is not what the volume's key has sealed, and has its checksum: somebody has changed it"
    )]
    WrongSeal(u64),
    /// It never had the bytes.
    #[error("the bytes of block {0} were lost when it was to get them")]
    Lost(u64),
}

impl BlocksError {
    /// Whether it may be otherwise in a moment.
    fn may_pass(&self) -> bool {
        matches!(self, BlocksError::Peer(error) if error.may_pass())
    }

    /// Whether the blocks alone are wrong, and the member goes on.
    fn is_of_blocks(&self) -> bool {
        matches!(
            self,
            BlocksError::Peer(PeerError::WrongBlock(_)) | BlocksError::WrongSeal(_) | BlocksError::Lost(_)
        )
    }

    /// A name for programs, which does not change.
    fn code(&self) -> &'static str {
        match self {
            BlocksError::Peer(error) => error.code(),
            BlocksError::OtherSnapshot(_) => "other_snapshot",
            BlocksError::WrongSeal(_) => "wrong_seal",
            BlocksError::Lost(_) => "lost_block",
        }
    }
}

/// Nobody has given what was to be read.
#[derive(Debug, thiserror::Error)]
#[error("no member has given it: {}", in_words(.0))]
pub(crate) struct NotRead(Vec<(SocketAddr, BlocksError)>);

fn in_words(tried: &[(SocketAddr, BlocksError)]) -> String {
    let of = |(address, error): &(SocketAddr, BlocksError)| {
        format!("{address}: {} [{}]", problem::chain(error), error.code())
    };
    tried.iter().map(of).collect::<Vec<_>>().join("; ")
}

impl NotRead {
    /// Whether it may be otherwise in a moment.
    fn may_pass(&self) -> bool {
        self.0.iter().any(|(_, error)| error.may_pass())
    }

    /// A name for programs, if it cannot be opened.
    pub(crate) fn code(&self) -> &'static str {
        let is_refused = |(_, error): &(SocketAddr, BlocksError)| {
            matches!(error, BlocksError::Peer(PeerError::NoSnapshot(_)))
        };
        let is_other_version = |(_, error): &(SocketAddr, BlocksError)| {
            matches!(error, BlocksError::Peer(PeerError::Unfit(Unfit::NotWelcome(NotWelcome::Version(..)))))
        };
        if self.may_pass() {
            "volume_snapshot_not_answered"
        } else if self.0.iter().all(is_refused) {
            "volume_snapshot_not_there"
        } else if self.0.iter().any(is_other_version) {
            "volume_snapshot_other_version"
        } else {
            "volume_snapshot_not_usable"
        }
    }
}

/// What is known of blocks that were asked for.
#[derive(Debug)]
struct Found {
    first: u64,
    blocks: Vec<Option<Block>>,
}

#[derive(Clone, Debug)]
enum Block {
    Never,
    Zeros,
    /// Opened, if it was sealed.
    Bytes(Bytes),
}

impl Found {
    fn new(first: u64, count: u64) -> Found {
        let count = usize::try_from(count).expect("a fetch is small");
        Found { first, blocks: vec![None; count] }
    }

    /// From the first of those that are not known to the last.
    fn missing(&self) -> Option<Blocks> {
        let first = self.blocks.iter().position(Option::is_none)?;
        let last = self.blocks.iter().rposition(Option::is_none)?;
        let count = u32::try_from(last - first + 1).expect("a fetch is small");
        Some(Blocks { first: self.first + first as u64, count })
    }

    /// All of them, in runs.
    ///
    /// # Panics
    /// If one is missing.
    fn into_data(self, block_bytes: usize) -> Vec<Data> {
        let mut all: Vec<Data> = Vec::new();
        let mut blocks = self.blocks.into_iter().map(|block| block.expect("none is missing")).peekable();
        while let Some(block) = blocks.next() {
            let mut rest = 0;
            all.push(match block {
                Block::Never => {
                    while blocks.next_if(|next| matches!(next, Block::Never)).is_some() {
                        rest += 1;
                    }
                    Data::Never(1 + rest)
                }
                Block::Zeros => {
                    while blocks.next_if(|next| matches!(next, Block::Zeros)).is_some() {
                        rest += 1;
                    }
                    Data::Zeros(1 + rest)
                }
                Block::Bytes(first) => {
                    let mut bytes = BytesMut::with_capacity((1 + blocks.len()) * block_bytes);
                    bytes.extend_from_slice(&first);
                    while let Some(Block::Bytes(next)) =
                        blocks.next_if(|next| matches!(next, Block::Bytes(_)))
                    {
                        bytes.extend_from_slice(&next);
                    }
                    Data::Bytes(bytes.freeze())
                }
            });
        }
        all
    }
}

impl SnapshotSource {
    /// Sees that one member has it. They are asked from this address.
    pub(crate) async fn open(of: Arc<SetSnapshot>, own: Option<IpAddr>) -> Result<SnapshotSource, NotRead> {
        let source = SnapshotSource::new(of, own);
        source.read(0, 0).await?;
        Ok(source)
    }

    /// # Panics
    /// If there is no member.
    fn new(of: Arc<SetSnapshot>, own: Option<IpAddr>) -> SnapshotSource {
        let members: Arc<[Named]> = of.members.clone().into();
        let state = State { first: members[0], members, unused: Vec::new(), applied: None };
        SnapshotSource { of, own, state: Mutex::new(state) }
    }

    /// From now on it is read from these, of which there is one at least.
    pub(crate) fn set_members(&self, members: Vec<Named>) {
        let mut state = self.state();
        if *state.members != *members {
            tracing::info!(source = %self.of, members = members.len(), "the members that it is read from are others");
            state.unused.retain(|(of, _)| members.contains(of));
            state.members = members.into();
        }
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.of.geometry.blocks * self.of.geometry.block_size.bytes() as u64
    }

    /// What these of its blocks held.
    pub(crate) async fn read(&self, first: u64, count: u64) -> Result<Vec<Data>, NotRead> {
        let mut found = Found::new(first, count);
        let mut pauses = PAUSES.into_iter();
        loop {
            let members = Arc::clone(&self.state().members);
            let not_read = match self.read_from_any(&members, &mut found).await {
                Ok(()) => return Ok(found.into_data(self.of.geometry.block_size.bytes())),
                Err(not_read) => not_read,
            };
            // There are others now.
            if !Arc::ptr_eq(&members, &self.state().members) {
                continue;
            }
            let Some(pause) = pauses.next().filter(|_| not_read.may_pass()) else { return Err(not_read) };
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks each member once, for what those before it did not give.
    async fn read_from_any(&self, members: &[Named], found: &mut Found) -> Result<(), NotRead> {
        let first = self.state().first;
        let first = members.iter().position(|member| *member == first).unwrap_or(0);
        let mut tried = Vec::new();
        for place in (0..members.len()).map(|turn| (first + turn) % members.len()) {
            match self.read_from(members[place], found).await {
                Ok(()) => {
                    self.note_answered(members[place], &tried);
                    return Ok(());
                }
                Err(error) => tried.push((members[place].1, error)),
            }
        }
        Err(NotRead(tried))
    }

    /// From now on it is asked first.
    fn note_answered(&self, member: Named, tried: &[(SocketAddr, BlocksError)]) {
        let before = std::mem::replace(&mut self.state().first, member);
        if before != member {
            let (address, why) = (member.1, in_words(tried));
            tracing::warn!(source = %self.of, %address, why, "another member is read from");
        }
    }

    /// Asks a member for what is missing. What of it is right is found, whatever else is wrong.
    async fn read_from(&self, member: Named, found: &mut Found) -> Result<(), BlocksError> {
        // One that it has closed in the meantime is no reason to ask another member.
        while let Some(mut peer) = self.take_unused(member) {
            match self.ask(&mut peer, found).await {
                Err(BlocksError::Peer(PeerError::Broken(_))) => {}
                asked => {
                    self.put_back(member, peer, &asked);
                    return asked;
                }
            }
        }
        let (mut peer, applied) = SnapshotPeer::connect(&self.of, member, self.own).await?;
        let ours = *self.state().applied.get_or_insert(applied);
        OtherSnapshot::check(applied, ours)?;
        let asked = self.ask(&mut peer, found).await;
        self.put_back(member, peer, &asked);
        asked
    }

    async fn ask(&self, peer: &mut SnapshotPeer, found: &mut Found) -> Result<(), BlocksError> {
        let Some(blocks) = found.missing() else { return Ok(()) };
        let told = peer.read(blocks).await?;
        self.take(blocks, told, found)
    }

    fn take_unused(&self, member: Named) -> Option<SnapshotPeer> {
        let unused = &mut self.state().unused;
        unused.retain(|(_, peer)| peer.is_fresh());
        let at = unused.iter().rposition(|(of, _)| *of == member)?;
        Some(unused.swap_remove(at).1)
    }

    /// It goes on if what was wrong were blocks alone.
    fn put_back(&self, member: Named, peer: SnapshotPeer, asked: &Result<(), BlocksError>) {
        let mut state = self.state();
        let is_right = asked.as_ref().err().is_none_or(BlocksError::is_of_blocks);
        if is_right && state.members.contains(&member) {
            state.unused.push((member, peer));
        }
    }

    /// Keeps what is right.
    fn take(&self, blocks: Blocks, told: Told, found: &mut Found) -> Result<(), BlocksError> {
        let size = self.of.geometry.block_size.bytes();
        let Told { whats, mut bytes } = told;
        let mut wrong = None;
        for (block, what) in blocks.range().zip(whats) {
            let judged = match what {
                What::Never => Ok(Block::Never),
                What::Zeros => Ok(Block::Zeros),
                What::Lost { .. } => Err(BlocksError::Lost(block)),
                What::Bytes { .. } if bytes.len() < size => {
                    return Err(PeerError::Strange("there are fewer bytes than it says").into());
                }
                What::Bytes { checksum: kept, seal } => {
                    let own = bytes.split_to(size);
                    match checksum(block, &own) == kept {
                        true => self.open_block(block, own, seal),
                        false => Err(PeerError::WrongBlock(block).into()),
                    }
                }
            };
            match judged {
                Ok(right) => {
                    let at = usize::try_from(block - found.first).expect("a fetch is small");
                    found.blocks[at].get_or_insert(right);
                }
                Err(error) => wrong = wrong.or(Some(error)),
            }
        }
        if !bytes.is_empty() {
            return Err(PeerError::Strange("there are more bytes than it says").into());
        }
        // What another member has given already need not be right here.
        wrong.filter(|_| found.missing().is_some()).map_or(Ok(()), Err)
    }

    fn open_block(&self, block: u64, bytes: Bytes, seal: region::Seal) -> Result<Block, BlocksError> {
        let Some(opener) = &self.of.opener else { return Ok(Block::Bytes(bytes)) };
        let mut opener = opener.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = opener.open(block, bytes, [seal]);
        opened.map(Block::Bytes).map_err(|_| BlocksError::WrongSeal(block))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ids::{RegionId, RegionSetId, SnapshotId};
    use region::{BlockSize, Geometry, Member, SEAL};
    use region_wire::{Inbox, Outbox, Reply, Request, SnapshotWelcome, VERSION};
    use std::{
        io::{IoSlice, Read, Write},
        net::{TcpListener, TcpStream},
        thread::{self, JoinHandle},
    };
    use uuid::Uuid;
    use volume_seals::{Opener, Sealer, SealingSession, VolumeKey};

    const BLOCK: usize = 512;

    fn set() -> RegionSetId {
        RegionSetId(Uuid::from_u128(1))
    }

    fn key() -> VolumeKey {
        VolumeKey::from_bytes(&mut [3; 32])
    }

    fn of(addresses: &[SocketAddr], is_sealed: bool) -> Arc<SetSnapshot> {
        let named = |number: u128| Member { region: RegionId(Uuid::from_u128(number)), incarnation: 7 };
        let opener = Opener::new(&key(), set(), BlockSize::B512);
        Arc::new(SetSnapshot {
            set: set(),
            snapshot: SnapshotId(Uuid::from_u128(2)),
            geometry: Geometry { block_size: BlockSize::B512, blocks: 8, is_sealed },
            members: (1..).map(named).zip(addresses.iter().copied()).collect(),
            opener: is_sealed.then(|| Mutex::new(opener)),
        })
    }

    #[test]
    fn what_is_wrong_has_a_name_and_a_member_that_has_blocks_wrong_is_asked_for_others() {
        let other = OtherSnapshot { theirs: Position { epoch: 1, counter: 2 }, ours: Position::NONE };
        for (error, code, is_of_blocks, may_pass) in [
            (BlocksError::from(PeerError::WrongBlock(4)), "wrong_block", true, false),
            (BlocksError::WrongSeal(4), "wrong_seal", true, false),
            (BlocksError::Lost(4), "lost_block", true, false),
            (other.into(), "other_snapshot", false, false),
            (PeerError::Strange("it says nonsense").into(), "wrong_answer", false, false),
            (PeerError::Silent(Duration::ZERO).into(), "silent", false, true),
        ] {
            let is = (error.code(), error.is_of_blocks(), error.may_pass());
            assert_eq!(is, (code, is_of_blocks, may_pass), "{error}");
        }
    }

    #[test]
    fn a_block_that_has_its_checksum_and_that_the_key_has_not_sealed_is_not_told() {
        let of = of(&["127.0.0.1:1".parse().unwrap()], true);
        let source = SnapshotSource::new(of, None);
        let mut sealer = Sealer::new(&key(), set(), BlockSize::B512, SealingSession::random());
        let sealed = sealer.seal(3, vec![5; 3 * BLOCK].into());
        let mut bytes = sealed.bytes.to_vec();
        bytes[BLOCK + 9] ^= 1;
        let told = |bytes: Vec<u8>| {
            let what = |(at, seal): (usize, &[u8; SEAL])| What::Bytes {
                checksum: checksum(3 + at as u64, &bytes[at * BLOCK..][..BLOCK]),
                seal: *seal,
            };
            let whats = sealed.seals.iter().enumerate().map(what).collect();
            Told { whats, bytes: bytes.into() }
        };
        let mut found = Found::new(3, 3);
        let blocks = found.missing().unwrap();
        let forged = source.take(blocks, told(bytes), &mut found);
        assert!(matches!(forged, Err(BlocksError::WrongSeal(4))), "{forged:?}");
        // The others are right, and only that one is asked for again.
        assert_eq!(found.missing(), Some(Blocks { first: 4, count: 1 }));
        source.take(blocks, told(sealed.bytes.to_vec()), &mut found).unwrap();
        assert_eq!(found.into_data(BLOCK), [Data::Bytes(vec![5; 3 * BLOCK].into())]);
    }

    #[test]
    fn what_is_told_is_told_in_runs() {
        let mut found = Found::new(0, 6);
        let bytes = |fill| Block::Bytes(vec![fill; BLOCK].into());
        let blocks = [Block::Never, Block::Never, bytes(1), bytes(2), Block::Zeros, Block::Never];
        found.blocks = blocks.into_iter().map(Some).collect();
        let both = [[1; BLOCK], [2; BLOCK]].concat();
        assert_eq!(
            found.into_data(BLOCK),
            [Data::Never(2), Data::Bytes(both.into()), Data::Zeros(1), Data::Never(1)]
        );
    }

    /// A member that has a snapshot of this position, of which block 0 is not what it says; until it is left.
    fn has_it_wrong(listener: TcpListener, counter: u64) -> JoinHandle<()> {
        thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut inbox = Inbox::new();
            while let Some(request) = heard(&mut socket, &mut inbox) {
                let geometry = Geometry { block_size: BlockSize::B512, blocks: 8, is_sealed: false };
                let applied = Position { epoch: 5, counter };
                let reply = match request {
                    Request::Hello(_) => {
                        let (version, incarnation) = (VERSION, 7);
                        Reply::SnapshotWelcome(SnapshotWelcome { version, geometry, incarnation, applied })
                    }
                    Request::Read { id, blocks, .. } => {
                        let whats = vec![What::Bytes { checksum: 1, seal: [0; SEAL] }];
                        Reply::Read { id, first: blocks.first, whats, bytes: vec![9; BLOCK].into() }
                    }
                    other => panic!("{other:?}"),
                };
                let mut out = Outbox::new();
                reply.encode(&mut out);
                while !out.is_empty() {
                    let mut slices = [IoSlice::new(&[]); 4];
                    let count = out.slices(&mut slices);
                    let sent = socket.write_vectored(&slices[..count]).unwrap();
                    out.sent(sent);
                }
            }
        })
    }

    fn heard(socket: &mut TcpStream, inbox: &mut Inbox) -> Option<Request> {
        loop {
            if let Some(frame) = inbox.next_frame().unwrap() {
                return Some(Request::parse(frame).unwrap());
            }
            let mut some = [0; 4_096];
            match socket.read(&mut some).unwrap() {
                0 => return None,
                count => inbox.fill().extend_from_slice(&some[..count]),
            }
        }
    }

    #[test]
    fn members_that_have_another_snapshot_of_that_name_are_not_read_from() {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let of = of(&listeners.each_ref().map(|listener| listener.local_addr().unwrap()), false);
        let mut position = 0;
        let members = listeners.map(|listener| {
            position += 1;
            has_it_wrong(listener, position)
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(async {
            let source = SnapshotSource::open(of, None).await.unwrap();
            source.read(0, 1).await.unwrap_err()
        });
        let words = error.to_string();
        assert!(words.contains("block 0 is not what was written there"), "{words}");
        assert!(words.contains("it is of position 5.2, and that of others is of 5.1"), "{words}");
        assert_eq!(error.code(), "volume_snapshot_not_usable");
        drop(runtime);
        members.into_iter().for_each(|member| member.join().unwrap());
    }
}
