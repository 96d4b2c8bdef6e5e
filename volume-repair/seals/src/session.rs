//! The number of a session of sealing: what makes that no nonce is ever used twice.

use aws_lc_rs::rand;
use std::fmt;

/// Bytes of the number.
pub(crate) const SESSION: usize = 16;

/// A number that no other session of sealing ever has. Neither `Copy` nor `Clone`: it is used up by the one [`Sealer`](crate::Sealer) that
/// is made with it, and whoever starts again draws another one.
pub struct SealingSession([u8; SESSION]);

impl SealingSession {
    /// 128 random bits of the system. Of 2^40 sessions of one volume two have the same ones with a probability of 2^-49.
    ///
    /// # Panics
    /// If the system has no randomness: nothing can be sealed then.
    #[must_use]
    pub fn random() -> SealingSession {
        let mut number = [0; SESSION];
        rand::fill(&mut number).expect("the system has randomness");
        SealingSession(number)
    }

    /// A number that the caller knows to be its own for ever: for simulations, which draw their own randomness.
    #[must_use]
    pub fn from_unique(number: u128) -> SealingSession {
        SealingSession(number.to_le_bytes())
    }

    pub(crate) fn into_number(self) -> [u8; SESSION] {
        self.0
    }
}

impl fmt::Debug for SealingSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingSession({:032x})", u128::from_le_bytes(self.0))
    }
}
