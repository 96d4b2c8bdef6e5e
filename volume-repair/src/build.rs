//! What of a construction request can be used, and what is used for it: from data to a [`Composition`]. Opens nothing and asks nobody.

use crate::request::{Cipher, ConstructionRequest, Encryption, FilePart, RegionSet, SubVolume, UrlPart};
use camino::Utf8PathBuf;
use ids::{RegionId, RegionSetId, SnapshotId};
use region::{BlockSize, Geometry, Promotion};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use upstairs::{Limits, MEMBERS_MAX, MembersError};
use uuid::Uuid;
use volume_layers::{Composition, HttpUrl, HttpUrlError, Part, SetSnapshot, Source};
use volume_seals::{KeyCheck, Opener, Sealer, SealingSession, VolumeKey};

/// Parts of a volume at most, with those of all that lies under it. Each source may take 4 MiB of memory: 64 MiB in all.
pub const PARTS_MAX: usize = 16;

/// Volumes that lie under one, each under the one before, at most. A block that nobody ever wrote is asked of all of them in turn.
pub const PARENTS_MAX: usize = 8;

/// Bytes of blocks that all own region sets keep for their members at most; each one its share.
const WINDOW_BYTES: usize = 32 << 20;

/// Why it is not built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Blocks have 512 or 4096 bytes.
    #[error("blocks of {0} bytes: they have 512 or 4096")]
    BlockSize(u32),
    /// There is no such region.
    #[error("{0} blocks are none, or more than a region may have")]
    Blocks(u64),
    /// Together they have more bytes than any client can count.
    #[error("the parts of a volume have fewer than 2^63 bytes together, and these have more")]
    TooLarge,
    /// Too many parts, or none.
    #[error(
        "a volume, and each that lies under it, has parts, and all have {PARTS_MAX} at most: here are {parts}"
    )]
    Shape {
        /// How many there are where there are none, or in all.
        parts: usize,
    },
    /// Too many volumes lie under each other.
    #[error("{PARENTS_MAX} volumes at most lie under one: these are more")]
    Parents,
    /// What lies under a volume is seen block by block.
    #[error(
        "a volume of blocks of {own} bytes lies over one of blocks of {parents}: they have to be the same"
    )]
    ParentBlockSize {
        /// Of the volume.
        own: u32,
        /// Of what lies under it.
        parents: u32,
    },
    /// It would be written twice, or read while it is written.
    #[error(
        "region {0} is there twice: a volume has each of its regions once, and none in common with what lies under it"
    )]
    RegionTwice(RegionId),
    /// There can be no such members.
    #[error(transparent)]
    Members(MembersError),
    /// A snapshot is read from those that have it, and nobody is filled.
    #[error(
        "snapshot {snapshot} is to be read from {members} regions, with {others} that leave or are gone: it is read from 1 to {MEMBERS_MAX}, and nothing else is known of it"
    )]
    SnapshotMembers {
        /// Which.
        snapshot: SnapshotId,
        /// How many are to have it.
        members: usize,
        /// How many leave, or are gone.
        others: usize,
    },
    /// No epoch, no right.
    #[error("a volume that is written needs an epoch, from 1 on: 0 is nobody's")]
    NoEpoch,
    /// The same, where nobody can give it later.
    #[error(
        "what lies under a volume has a region set and epoch 0: to read it, it needs an epoch in the request, from 1 on"
    )]
    NoParentEpoch,
    /// A file is found wherever the process was started.
    #[error("the path of a file begins with /, and this does not: {0}")]
    Path(Utf8PathBuf),
    /// Nothing can be read from there.
    #[error("the URL of a part is not one that can be read from: {0}")]
    Url(HttpUrlError),
    /// There is no half block.
    #[error(
        "{bytes} bytes are not a whole number of blocks of {block}, or none, and {url} is to have so many"
    )]
    UrlSize {
        /// Which.
        url: HttpUrl,
        /// As the request says.
        bytes: u64,
        /// Bytes of a block.
        block: u32,
    },
    /// Its blocks cannot be read or written without a key.
    #[error("the volume is encrypted, and no key was given")]
    KeyMissing,
    /// Whoever gives a key believes that what is written is encrypted.
    #[error("a key was given, and the volume is not encrypted")]
    KeyNotWanted,
    /// It is the key of something else.
    #[error("the key is not that of the volume: its check value is {given}, and it should be {expected}")]
    KeyWrong {
        /// Of the key that was given.
        given: KeyCheck,
        /// Of the volume's key.
        expected: KeyCheck,
    },
}

impl BuildError {
    /// A name for programs, which does not change.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            BuildError::BlockSize(_) => "volume_block_size",
            BuildError::Blocks(_) | BuildError::TooLarge => "volume_size",
            BuildError::Shape { .. } => "volume_shape",
            BuildError::Parents => "volume_parents",
            BuildError::ParentBlockSize { .. } => "volume_parent_block_size",
            BuildError::RegionTwice(_) => "volume_region_twice",
            BuildError::Members(error) => crate::change::members_code(error),
            BuildError::SnapshotMembers { .. } => "volume_snapshot_members",
            BuildError::NoEpoch => "volume_epoch",
            BuildError::NoParentEpoch => "volume_parent_epoch",
            BuildError::Path(_) => "volume_file_path",
            BuildError::Url(_) => "volume_url",
            BuildError::UrlSize { bytes: 0, .. } => "volume_source_empty",
            BuildError::UrlSize { .. } => "volume_source_size",
            BuildError::KeyMissing => "volume_key_missing",
            BuildError::KeyNotWanted => "volume_key_not_wanted",
            BuildError::KeyWrong { .. } => "volume_key_wrong",
        }
    }
}

impl ConstructionRequest {
    /// What a volume of it is made of. One that is encrypted is never built twice with the same nonces: each of its region sets draws the
    /// number of its sealing session here.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(&self, session: Uuid, key: Option<&VolumeKey>) -> Result<Composition, BuildError> {
        if self.epoch == 0 && self.own_region_sets().next().is_some() {
            return Err(BuildError::NoEpoch);
        }
        self.build_unactivated(session, key)
    }

    /// The same, also without an epoch: it is given when the volume is activated, and not lower than the one here. What lies under it has
    /// its own.
    ///
    /// # Errors
    /// [`BuildError`], but not [`BuildError::NoEpoch`].
    pub fn build_unactivated(
        &self,
        session: Uuid,
        key: Option<&VolumeKey>,
    ) -> Result<Composition, BuildError> {
        let layers = self.checked_layers()?;
        let parts: usize = layers.iter().map(|layer| layer.sub_volumes.len()).sum();
        if parts > PARTS_MAX {
            return Err(BuildError::Shape { parts });
        }
        let block_size = BlockSize::of(self.block_size).ok_or(BuildError::BlockSize(self.block_size))?;
        let mut builder = Builder { block_size, session, key, regions: BTreeSet::new(), uses_key: false };
        let layers = layers.into_iter().enumerate();
        let layers = layers.map(|(depth, layer)| builder.layer(layer, depth)).collect::<Result<_, _>>()?;
        if key.is_some() && !builder.uses_key {
            return Err(BuildError::KeyNotWanted);
        }
        Ok(Composition { block_size, layers })
    }

    /// Whether this is the key of the volume, and it has one: what [`ConstructionRequest::build`] would say of a key that is given, without
    /// building anything.
    ///
    /// # Errors
    /// [`BuildError::KeyWrong`], [`BuildError::KeyNotWanted`].
    pub fn check_key(&self, key: &VolumeKey) -> Result<(), BuildError> {
        let mut encrypted = self.encryptions().peekable();
        if encrypted.peek().is_none() {
            return Err(BuildError::KeyNotWanted);
        }
        encrypted.try_for_each(|(set, encryption)| check(key, set, encryption))
    }

    /// It, and what lies under it.
    fn checked_layers(&self) -> Result<Vec<&ConstructionRequest>, BuildError> {
        let layers: Vec<&ConstructionRequest> = self.layers().take(PARENTS_MAX + 2).collect();
        if layers.len() > PARENTS_MAX + 1 {
            return Err(BuildError::Parents);
        }
        for parent in &layers[1..] {
            if parent.block_size != self.block_size {
                return Err(BuildError::ParentBlockSize { own: self.block_size, parents: parent.block_size });
            }
            if parent.epoch == 0 && parent.own_region_sets().next().is_some() {
                return Err(BuildError::NoParentEpoch);
            }
        }
        Ok(layers)
    }
}

/// What is known while the parts are built.
struct Builder<'a> {
    block_size: BlockSize,
    session: Uuid,
    key: Option<&'a VolumeKey>,
    /// Those that are in use already.
    regions: BTreeSet<RegionId>,
    uses_key: bool,
}

impl Builder<'_> {
    fn layer(&mut self, request: &ConstructionRequest, depth: usize) -> Result<Vec<Part>, BuildError> {
        if request.sub_volumes.is_empty() {
            return Err(BuildError::Shape { parts: 0 });
        }
        // What lies under a volume is never written, so nothing of it is kept.
        let writers = if depth == 0 { request.own_region_sets().count().max(1) } else { 1 };
        let part = |part: &SubVolume| match part {
            SubVolume::RegionSet(set) if let Some(snapshot) = set.snapshot => self.snapshot(set, snapshot),
            SubVolume::RegionSet(set) => self.region_set(set, request.epoch, limits(writers)),
            SubVolume::File(FilePart { path }) if path.is_absolute() => {
                Ok(Part::Source(Source::File { path: path.clone() }))
            }
            SubVolume::File(FilePart { path }) => Err(BuildError::Path(path.clone())),
            SubVolume::Url(url) => self.url(url),
        };
        let parts: Vec<Part> = request.sub_volumes.iter().map(part).collect::<Result<_, _>>()?;
        let bytes = |part: &Part| match part {
            Part::RegionSet { config, .. } => {
                config.geometry.blocks.checked_mul(self.block_size.bytes() as u64)
            }
            Part::Source(Source::Url { size_bytes, .. }) => Some(*size_bytes),
            Part::Source(Source::Snapshot(snapshot)) => {
                snapshot.geometry.blocks.checked_mul(self.block_size.bytes() as u64)
            }
            // It is known when it is opened.
            Part::Source(Source::File { .. }) => Some(0),
        };
        let sum = parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(bytes(part)?));
        sum.filter(|sum| *sum <= i64::MAX.unsigned_abs()).ok_or(BuildError::TooLarge)?;
        Ok(parts)
    }

    fn url(&self, UrlPart { url, size_bytes }: &UrlPart) -> Result<Part, BuildError> {
        let url: HttpUrl = url.parse().map_err(BuildError::Url)?;
        let (bytes, block) = (*size_bytes, self.block_size.bytes() as u64);
        if bytes == 0 || !bytes.is_multiple_of(block) {
            let block = u32::try_from(block).expect("a block is small");
            return Err(BuildError::UrlSize { url, bytes, block });
        }
        Ok(Part::Source(Source::Url { url, size_bytes: bytes }))
    }

    fn region_set(&mut self, set: &RegionSet, epoch: u32, limits: Limits) -> Result<Part, BuildError> {
        let members = set.named();
        match members.check() {
            Err(MembersError::Twice(region)) => return Err(BuildError::RegionTwice(region)),
            checked => checked.map_err(BuildError::Members)?,
        }
        let twice = set.all().find(|member| !self.regions.insert(member.region_id));
        if let Some(member) = twice {
            return Err(BuildError::RegionTwice(member.region_id));
        }
        let geometry = self.geometry(set)?;
        let config = upstairs::Config {
            set: set.id,
            geometry,
            members,
            promotion: Promotion { epoch, session: self.session },
            accepts_possible_loss: false,
            limits,
            patience: upstairs::Patience::default(),
            sealer: set.encryption.map(|encryption| self.sealer(set, encryption)).transpose()?,
        };
        let members: Vec<SocketAddr> = set.all().map(|member| member.address).collect();
        Ok(Part::RegionSet { config: Box::new(config), members })
    }

    /// What a set has held. It never changes, so the same regions may be elsewhere in the volume, and in other volumes.
    fn snapshot(&mut self, set: &RegionSet, snapshot: SnapshotId) -> Result<Part, BuildError> {
        let (members, others) = (set.members.len(), set.leaving.len() + set.gone.len());
        if !(1..=MEMBERS_MAX).contains(&members) || others > 0 {
            return Err(BuildError::SnapshotMembers { snapshot, members, others });
        }
        let mut regions = BTreeSet::new();
        if let Some(twice) = set.members.iter().find(|member| !regions.insert(member.region_id)) {
            return Err(BuildError::RegionTwice(twice.region_id));
        }
        let geometry = self.geometry(set)?;
        let block_size = self.block_size;
        let opener = set.encryption.map(|encryption| {
            let key = self.checked_key(set, encryption)?;
            Ok(Mutex::new(Opener::new(key, set.id, block_size)))
        });
        let members = set.members.iter().map(|member| ((*member).into(), member.address)).collect();
        let opener = opener.transpose()?;
        let source = SetSnapshot { set: set.id, snapshot, geometry, members, opener };
        Ok(Part::Source(Source::Snapshot(Arc::new(source))))
    }

    fn geometry(&self, set: &RegionSet) -> Result<Geometry, BuildError> {
        let blocks = set.blocks_per_extent.saturating_mul(set.extent_count);
        let geometry = Geometry { block_size: self.block_size, blocks, is_sealed: set.encryption.is_some() };
        if geometry.is_possible() { Ok(geometry) } else { Err(BuildError::Blocks(blocks)) }
    }

    fn sealer(&mut self, set: &RegionSet, encryption: Encryption) -> Result<Sealer, BuildError> {
        let block_size = self.block_size;
        let key = self.checked_key(set, encryption)?;
        Ok(Sealer::new(key, set.id, block_size, SealingSession::random()))
    }

    /// The one key that was given is for all region sets that are encrypted: each derives other keys from it.
    fn checked_key(&mut self, set: &RegionSet, encryption: Encryption) -> Result<&VolumeKey, BuildError> {
        let key = self.key.ok_or(BuildError::KeyMissing)?;
        check(key, set.id, encryption)?;
        self.uses_key = true;
        Ok(key)
    }
}

/// Whether the blocks of this set are encrypted with this key.
fn check(key: &VolumeKey, set: RegionSetId, encryption: Encryption) -> Result<(), BuildError> {
    let Encryption { cipher: Cipher::Aes256Gcm, key_check: expected } = encryption;
    let given = key.check(set);
    if given == expected { Ok(()) } else { Err(BuildError::KeyWrong { given, expected }) }
}

/// The share of one of so many region sets that are written.
fn limits(writers: usize) -> Limits {
    let all = Limits::default();
    let window_bytes = WINDOW_BYTES / writers;
    Limits { window_bytes, in_flight_bytes: all.in_flight_bytes.min(window_bytes), ..all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{encrypted, example, file, key, of, over, sealed, set, snapshot_of, url};
    use crate::request::Member;

    fn only_config(composition: Composition) -> upstairs::Config {
        let part = composition.layers.into_iter().flatten().next().expect("it has a part");
        let Part::RegionSet { config, members } = part else { panic!("no region set: {part:?}") };
        assert_eq!(members.len(), 3);
        *config
    }

    fn refused(request: &ConstructionRequest) -> BuildError {
        request.build(Uuid::nil(), None).expect_err("it should be refused")
    }

    #[test]
    fn a_key_is_given_to_encrypted_volumes_alone_and_is_theirs() {
        let built = |request: ConstructionRequest, key: Option<VolumeKey>| {
            let built = request.build(Uuid::nil(), key.as_ref()).map(only_config);
            built.map(|config| (config.geometry.is_sealed, config.sealer.is_some()))
        };
        assert_eq!(built(encrypted(), Some(key(1))), Ok((true, true)));
        assert_eq!(built(example(), None), Ok((false, false)));
        assert_eq!(built(encrypted(), None), Err(BuildError::KeyMissing));
        assert_eq!(built(example(), Some(key(1))), Err(BuildError::KeyNotWanted));
        let wrong = built(encrypted(), Some(key(2))).expect_err("it is another one");
        assert_eq!(wrong.code(), "volume_key_wrong");
        // The key of another set is another key.
        let mut other = encrypted();
        let SubVolume::RegionSet(set) = &mut other.sub_volumes[0] else { panic!("it is a set") };
        set.id = RegionSetId(Uuid::from_u128(80));
        assert!(matches!(built(other.clone(), Some(key(1))), Err(BuildError::KeyWrong { .. })));
        // The same is said of a key alone, wherever in the volume it is needed.
        let plain = over(example(), example());
        for (request, needs_key) in
            [(encrypted(), true), (over(example(), encrypted()), true), (plain, false)]
        {
            assert_eq!(request.is_encrypted(), needs_key);
            let wrong = |given: u8| request.check_key(&key(given)).map_err(|error| error.code());
            let expected =
                if needs_key { [Ok(()), Err("volume_key_wrong")] } else { [Err("volume_key_not_wanted"); 2] };
            assert_eq!([wrong(1), wrong(2)], expected);
        }
        assert!(matches!(other.check_key(&key(1)), Err(BuildError::KeyWrong { .. })));
    }

    #[test]
    fn what_cannot_be_built_is_refused_by_name() {
        let changed = |change: fn(&mut RegionSet)| {
            let mut changed = set(8);
            change(&mut changed);
            refused(&of(vec![SubVolume::RegionSet(changed)]))
        };
        let refused_after = |change: fn(&mut ConstructionRequest)| {
            let mut request = example();
            change(&mut request);
            refused(&request)
        };
        assert_eq!(refused_after(|request| request.block_size = 1_024), BuildError::BlockSize(1_024));
        assert_eq!(refused_after(|request| request.epoch = 0), BuildError::NoEpoch);
        assert_eq!(refused_after(|request| request.sub_volumes.clear()), BuildError::Shape { parts: 0 });
        let one = changed(|set| set.members.truncate(1));
        assert_eq!((&one, one.code()), (&BuildError::Members(MembersError::Count(1)), "volume_members"));
        let leaving = changed(|set| {
            set.leaving = set.members.iter().map(|member| Member { incarnation: 8, ..*member }).collect();
        });
        assert_eq!(leaving.code(), "volume_region_twice", "another life of a region is the same region");
        assert_eq!(changed(|set| set.extent_count = u64::MAX), BuildError::Blocks(u64::MAX));
        let twice = changed(|set| set.members[2].region_id = set.members[0].region_id);
        assert_eq!(twice.code(), "volume_region_twice");
    }

    #[test]
    fn several_parts_and_parents_become_layers_in_their_order() {
        let own = of(vec![SubVolume::RegionSet(set(1)), SubVolume::RegionSet(sealed(set(2)))]);
        let parent = of(vec![url("http://127.0.0.1/b.img", 8_192), SubVolume::RegionSet(sealed(set(3)))]);
        let request = over(own, over(ConstructionRequest { epoch: 5, ..parent }, of(vec![file("/c.img")])));
        let key = key(1);
        let composition = request.build(Uuid::nil(), Some(&key)).expect("it is built");
        let told = |part: &Part| match part {
            Part::RegionSet { config, .. } => {
                let (epoch, window) = (config.promotion.epoch, config.limits.window_bytes >> 20);
                format!("{} epoch {epoch} window {window} MiB", config.set.0.as_u128())
            }
            Part::Source(source) => source.to_string(),
        };
        let told: Vec<Vec<String>> =
            composition.layers.iter().map(|layer| layer.iter().map(told).collect()).collect();
        assert_eq!(
            told,
            [
                vec!["1 epoch 3 window 16 MiB", "2 epoch 3 window 16 MiB"],
                vec!["http://127.0.0.1/b.img", "3 epoch 5 window 32 MiB"],
                vec!["/c.img"]
            ]
        );
        assert_eq!((composition.addresses().len(), composition.sources().len()), (9, 2));
        assert_eq!(request.build(Uuid::nil(), None).expect_err("no key").code(), "volume_key_missing");
    }

    #[test]
    fn a_snapshot_is_a_source_beside_and_under_anything_and_needs_no_epoch() {
        let without = |request: ConstructionRequest| ConstructionRequest { epoch: 0, ..request };
        let of_set = |set| without(of(vec![SubVolume::RegionSet(snapshot_of(set))]));
        // Under the very set that it is of, and once more under that.
        let request = over(example(), over(of_set(set(8)), of_set(set(8))));
        let composition = request.build(Uuid::nil(), None).expect("it is built");
        assert_eq!((composition.sources().len(), composition.addresses().len()), (2, 3));
        let [Source::Snapshot(first), _] = &composition.sources()[..] else { panic!("two snapshots") };
        assert_eq!((first.geometry.blocks, first.members.len(), first.opener.is_some()), (2_000, 3, false));
        assert!(of_set(set(8)).build(Uuid::nil(), None).is_ok());
        let sealed = of_set(sealed(set(8)));
        assert_eq!(refused(&sealed), BuildError::KeyMissing);
        assert_eq!(
            sealed.build(Uuid::nil(), Some(&key(2))).expect_err("another key").code(),
            "volume_key_wrong"
        );
        let built = sealed.build(Uuid::nil(), Some(&key(1))).expect("it is built");
        assert!(matches!(&built.sources()[..], [Source::Snapshot(source)] if source.opener.is_some()));
    }

    #[test]
    fn what_a_snapshot_cannot_have_is_refused_by_name() {
        let changed = |change: fn(&mut RegionSet)| {
            let mut changed = snapshot_of(set(8));
            change(&mut changed);
            refused(&of(vec![SubVolume::RegionSet(changed)])).code()
        };
        for change in [
            (|set| set.members.clear()) as fn(&mut RegionSet),
            |set| set.leaving.push(set.members[0]),
            |set| set.gone.push(set.members[0].region_id),
            |set| {
                let more = (5..7)
                    .map(|number| Member { region_id: RegionId(Uuid::from_u128(number)), ..set.members[0] });
                set.members.extend(more.collect::<Vec<_>>());
            },
        ] {
            assert_eq!(changed(change), "volume_snapshot_members");
        }
        assert_eq!(changed(|set| set.members[1] = set.members[0]), "volume_region_twice");
        assert_eq!(changed(|set| set.extent_count = 0), "volume_size");
    }

    #[test]
    fn an_epoch_is_needed_wherever_a_region_set_is_and_nowhere_else() {
        let without = |request: ConstructionRequest| ConstructionRequest { epoch: 0, ..request };
        let parent = without(of(vec![SubVolume::RegionSet(set(1))]));
        assert_eq!(refused(&over(example(), parent.clone())), BuildError::NoParentEpoch);
        let later = over(without(example()), parent).build_unactivated(Uuid::nil(), None);
        assert_eq!(later.expect_err("nobody gives it later").code(), "volume_parent_epoch");
        let files = over(without(of(vec![file("/a")])), without(of(vec![file("/b")])));
        assert!(files.build(Uuid::nil(), None).is_ok());
    }

    #[test]
    fn what_cannot_lie_under_or_behind_something_is_refused_by_name() {
        let twice = over(example(), example());
        assert_eq!(refused(&twice).code(), "volume_region_twice");
        let other_blocks = ConstructionRequest { block_size: 512, ..of(vec![file("/a")]) };
        let wrong = refused(&over(example(), other_blocks));
        assert_eq!(wrong, BuildError::ParentBlockSize { own: 4_096, parents: 512 });
        assert_eq!(wrong.code(), "volume_parent_block_size");
        let empty = over(example(), of(vec![]));
        assert_eq!(refused(&empty), BuildError::Shape { parts: 0 });

        let deep = |parents: usize| {
            let under = (0..parents).fold(None, |under: Option<ConstructionRequest>, _| {
                let layer = of(vec![file("/a")]);
                Some(under.map_or(layer.clone(), |under| over(layer, under)))
            });
            under.map_or(example(), |under| over(example(), under))
        };
        assert!(deep(PARENTS_MAX).build(Uuid::nil(), None).is_ok());
        assert_eq!(refused(&deep(PARENTS_MAX + 1)).code(), "volume_parents");
        assert_eq!(refused(&deep(100)).code(), "volume_parents");
        assert!(of(vec![file("/a"); PARTS_MAX]).build(Uuid::nil(), None).is_ok());
        let many = over(example(), of(vec![file("/a"); PARTS_MAX]));
        assert_eq!(refused(&many), BuildError::Shape { parts: PARTS_MAX + 1 });

        assert_eq!(refused(&of(vec![file("a.img")])).code(), "volume_file_path");
        let https = refused(&of(vec![url("https://me:secret@h/", 4_096)]));
        assert_eq!(https.code(), "volume_url");
        for (bytes, code) in
            [(0, "volume_source_empty"), (1, "volume_source_size"), (4_097, "volume_source_size")]
        {
            let error = refused(&of(vec![url("http://me:secret@h/a", bytes)]));
            assert_eq!(error.code(), code);
            assert!(error.to_string().contains("http://h/a") && !error.to_string().contains("secret"));
        }
        let huge = of(vec![url("http://h/a", 1 << 62), url("http://h/b", 1 << 62)]);
        assert_eq!(refused(&huge), BuildError::TooLarge);
    }
}
