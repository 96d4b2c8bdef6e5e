//! What is sealed can be opened, later too and by anybody with the key; what was changed in any way cannot. The known answers were computed
//! by another implementation of AES-GCM and HKDF: if they change, volumes that exist cannot be read any more.

use bytes::Bytes;
use ids::RegionSetId;
use proptest::{collection::vec, prelude::*, sample::Index};
use region::{BlockSize, SEAL, Seal, checksum};
use uuid::Uuid;
use volume_seals::{KeyTextError, Sealer, SealingSession, VolumeKey};

fn counting<const LENGTH: usize>(from: u8) -> [u8; LENGTH] {
    std::array::from_fn(|at| from + u8::try_from(at).expect("it is short"))
}

fn key(from: u8) -> VolumeKey {
    VolumeKey::from_bytes(&mut counting(from))
}

fn set(from: u8) -> RegionSetId {
    RegionSetId(Uuid::from_bytes(counting(from)))
}

fn session(from: u8) -> SealingSession {
    SealingSession::from_unique(u128::from_le_bytes(counting(from)))
}

fn sealer(block_size: BlockSize, session_from: u8) -> Sealer {
    Sealer::new(&key(0), set(0x40), block_size, session(session_from))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_construction_is_the_one_that_volumes_were_made_with() {
    assert_eq!(key(0).check(set(0x40)).to_string(), "0a26e9ca4b9d372b4c20a8d44dca227b");

    let plain: Vec<u8> = (0..1_024_u32).map(|at| u8::try_from((at * 7 + 3) % 256).expect("a byte")).collect();
    let sealed = sealer(BlockSize::B512, 0x80).seal(0x01_0203_0405, plain.into());
    assert_eq!(hex(&sealed.bytes[..16]), "c45a16de210e34a880f0522130597d6f");
    assert_eq!(hex(&sealed.bytes[512..528]), "ea9090b34156ea7fc946d9affefd7824");
    let seals = [
        "808182838485868788898a8b8c8d8e8f00000000000000004e3c3919ab64182df6daa6517559ba07",
        "808182838485868788898a8b8c8d8e8f01000000000000003f6303752538a0dd6e43d9d6885efc56",
    ];
    assert_eq!(sealed.seals.iter().map(|seal| hex(seal)).collect::<Vec<_>>(), seals);

    let sealed = sealer(BlockSize::B4096, 0x80).seal(7, vec![0; 4_096].into());
    assert_eq!(hex(&sealed.bytes[..16]), "c75007c63e28199cbbb21b7167071803");
    let seal = "808182838485868788898a8b8c8d8e8f00000000000000002b6e26c6b80a4a259a5854a9e52df144";
    assert_eq!(hex(&sealed.seals[0]), seal);
}

/// Something of a block that may be changed.
#[derive(Clone, Copy, Debug)]
enum Change {
    Bytes,
    Seal,
    Block,
    Set,
    Key,
    BlockSize,
}

const CHANGES: [Change; 6] =
    [Change::Bytes, Change::Seal, Change::Block, Change::Set, Change::Key, Change::BlockSize];

fn flip(bytes: &mut [u8], bit: Index) {
    let bit = bit.index(bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// Opens one block of 512 bytes with that bit of that changed.
fn open_changed(change: Change, bit: Index, block: u64, sealed: &[u8], seal: Seal) -> bool {
    let (mut sealed, mut seal, mut block) = (sealed.to_vec(), seal, block.to_le_bytes());
    let (mut key, mut set): ([u8; 32], [u8; 16]) = (counting(0), counting(0x40));
    let mut size = BlockSize::B512;
    match change {
        Change::Bytes => flip(&mut sealed, bit),
        Change::Seal => flip(&mut seal, bit),
        Change::Block => flip(&mut block, bit),
        Change::Set => flip(&mut set, bit),
        Change::Key => flip(&mut key, bit),
        Change::BlockSize => {
            size = BlockSize::B4096;
            sealed.resize(4_096, 0);
        }
    }
    let (key, set) = (VolumeKey::from_bytes(&mut key), RegionSetId(Uuid::from_bytes(set)));
    let mut sealer = Sealer::new(&key, set, size, session(1));
    let block = u64::from_le_bytes(block);
    let is_right = sealer.is_right(block, &sealed, &seal);
    let opened = sealer.open(block, sealed.into(), [seal]);
    assert_eq!(opened.is_ok(), is_right);
    opened.is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_blocks_are_opened_as_they_were_sealed_by_any_session_of_the_key(
        count in 1..9_usize,
        first in 0..1_u64 << 48,
        is_large: bool,
        seed: u8,
        is_shared: bool,
    ) {
        let size = if is_large { BlockSize::B4096 } else { BlockSize::B512 };
        let plain: Vec<u8> = (0..count * size.bytes()).map(|at| (at % 251) as u8 ^ seed).collect();
        let given = Bytes::from(plain.clone());
        let kept = is_shared.then(|| given.clone());
        let sealed = sealer(size, 0x80).seal(first, given);
        prop_assert!(kept.is_none_or(|kept| kept == plain), "what somebody else has is left as it is");
        prop_assert_ne!(&sealed.bytes, &plain);
        prop_assert_eq!((sealed.seals.len(), sealed.checksums.len()), (count, count));
        for ((block, bytes), (sum, seal)) in (first..)
            .zip(sealed.bytes.chunks_exact(size.bytes()))
            .zip(sealed.checksums.iter().zip(&sealed.seals))
        {
            prop_assert_eq!(*sum, checksum(block, bytes));
            prop_assert!(sealer(size, 0x10).is_right(block, bytes, seal));
        }
        let kept = is_shared.then(|| sealed.bytes.clone());
        let opened = sealer(size, 0x20).open(first, sealed.bytes, sealed.seals);
        prop_assert_eq!(opened, Ok(Bytes::from(plain)));
        drop(kept);
    }

    #[test]
    fn nothing_is_opened_of_which_any_bit_was_changed(
        bits in vec(any::<Index>(), CHANGES.len()),
        block in 0..1_u64 << 48,
        byte: u8,
    ) {
        let sealed = sealer(BlockSize::B512, 0x80).seal(block, vec![byte; 512].into());
        let seal = sealed.seals[0];
        for (change, bit) in CHANGES.into_iter().zip(bits) {
            prop_assert!(!open_changed(change, bit, block, &sealed.bytes, seal), "{change:?}");
        }
    }
}

#[test]
fn a_seal_with_any_bit_changed_opens_nothing() {
    let sealed = sealer(BlockSize::B512, 0x80).seal(5, vec![1; 512].into());
    let mut reader = sealer(BlockSize::B512, 0x10);
    assert!(reader.is_right(5, &sealed.bytes, &sealed.seals[0]));
    for bit in 0..SEAL * 8 {
        let mut seal = sealed.seals[0];
        seal[bit / 8] ^= 1 << (bit % 8);
        assert!(!reader.is_right(5, &sealed.bytes, &seal), "bit {bit}");
    }
}

#[test]
fn blocks_that_change_their_places_are_both_wrong_and_those_without_a_seal_too() {
    let sealed = sealer(BlockSize::B512, 0x80).seal(5, vec![1; 1_536].into());
    let swapped = [sealed.seals[1], sealed.seals[0], sealed.seals[2]];
    let mut reader = sealer(BlockSize::B512, 0x10);
    assert_eq!(reader.open(5, sealed.bytes.clone(), swapped), Err(vec![5, 6]));
    assert_eq!(reader.open(5, sealed.bytes.clone(), [sealed.seals[0]]), Err(vec![6, 7]));
    assert_eq!(reader.open(6, sealed.bytes, sealed.seals), Err(vec![6, 7, 8]));
}

#[test]
fn the_same_bytes_are_sealed_differently_each_time() {
    let mut sealer = sealer(BlockSize::B512, 0x80);
    let first = sealer.seal(5, vec![1; 512].into());
    let second = sealer.seal(5, vec![1; 512].into());
    assert_ne!(first.bytes, second.bytes);
    assert_eq!(first.seals[0][..16], second.seals[0][..16]);
    assert_ne!(first.seals[0][16..24], second.seals[0][16..24]);
    // Two processes draw two numbers.
    assert_ne!(format!("{:?}", SealingSession::random()), format!("{:?}", SealingSession::random()));
}

#[test]
fn blocks_of_more_sessions_than_keys_are_kept_are_all_opened() {
    let sealed: Vec<_> = (0..100)
        .map(|from| sealer(BlockSize::B512, from).seal(from.into(), vec![from; 512].into()))
        .collect();
    let mut reader = sealer(BlockSize::B512, 0xc0);
    for _ in 0..2 {
        for (from, sealed) in (0_u8..).zip(&sealed) {
            let opened = reader.open(from.into(), sealed.bytes.clone(), sealed.seals.clone());
            assert_eq!(opened, Ok(Bytes::from(vec![from; 512])));
        }
    }
}

#[test]
fn a_key_is_read_as_it_is_kept_and_nothing_else_is_one() {
    let text = key(0).to_text();
    assert_eq!(&text[..], "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n");
    for text in [&text[..], text.trim_end(), &text.to_uppercase()] {
        let read: VolumeKey = text.parse().expect("it is one");
        assert_eq!(read.check(set(1)), key(0).check(set(1)));
    }
    let wrong = |text: &str| text.parse::<VolumeKey>().expect_err("it is none");
    assert_eq!(wrong(""), KeyTextError::Length(0));
    assert_eq!(wrong(&format!("{}\n\n", text.trim_end())), KeyTextError::Length(66));
    assert_eq!(wrong(&text.replace("1f", "+f")), KeyTextError::Digit(62));
    assert_eq!(wrong(&"é".repeat(32)), KeyTextError::Digit(0));
}

#[test]
fn a_check_value_is_of_one_key_and_one_set_and_a_key_shows_nothing_of_itself() {
    let check = key(0).check(set(1));
    assert!(check != key(1).check(set(1)) && check != key(0).check(set(2)));
    assert_eq!(check.to_string().parse(), Ok(check));
    let json = serde_json::to_string(&check).expect("it is data");
    assert_eq!(json, format!("\"{check}\""));
    assert_eq!(serde_json::from_str::<volume_seals::KeyCheck>(&json).expect("it is one"), check);
    assert!("+a26e9ca4b9d372b4c20a8d44dca227b".parse::<volume_seals::KeyCheck>().is_err());
    assert_eq!(format!("{:?}", key(0)), "VolumeKey(..)");
    let sealer = format!("{:?}", sealer(BlockSize::B512, 0x80));
    assert!(sealer.contains("keys: BlockKeys { kept: 0, .. }"), "{sealer}");
}
