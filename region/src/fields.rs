//! Integers in bytes, little-endian, one after the other: how everything is written, on the disk and on the wire.

use crate::position::Position;

/// Takes them out of bytes that may be too few, or wrong in any other way.
#[derive(Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// So many bytes. None if there are not so many.
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    /// One byte. None if there are not so many.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(u8::from_le_bytes)
    }

    /// Four bytes. None if there are not so many.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Six bytes. None if there are not so many.
    pub fn u48(&mut self) -> Option<u64> {
        let low: [u8; 6] = self.array()?;
        let mut all = [0; 8];
        all[..6].copy_from_slice(&low);
        Some(u64::from_le_bytes(all))
    }

    /// Eight bytes. None if there are not so many.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Sixteen bytes. None if there are not so many.
    pub fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// A position, of ten bytes. None if there are not so many.
    pub fn position(&mut self) -> Option<Position> {
        Some(Position { epoch: self.u32()?, counter: self.u48()? })
    }
}

/// Puts them behind what is there.
pub trait PutFields {
    /// Puts bytes.
    fn put(&mut self, bytes: &[u8]);

    /// One byte.
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    /// Four bytes.
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    /// Six bytes, of a number that has no more.
    fn put_u48(&mut self, value: u64) {
        assert!(value < 1 << 48, "{value} has more than six bytes");
        self.put(&value.to_le_bytes()[..6]);
    }

    /// Eight bytes.
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    /// Sixteen bytes.
    fn put_u128(&mut self, value: u128) {
        self.put(&value.to_le_bytes());
    }

    /// In ten bytes.
    fn put_position(&mut self, position: Position) {
        self.put_u32(position.epoch);
        self.put_u48(position.counter);
    }
}

impl PutFields for Vec<u8> {
    /// Puts bytes.
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Into a place of fixed size, which is large enough.
impl PutFields for &mut [u8] {
    /// Puts bytes.
    fn put(&mut self, bytes: &[u8]) {
        let (here, rest) = std::mem::take(self).split_at_mut(bytes.len());
        here.copy_from_slice(bytes);
        *self = rest;
    }
}
