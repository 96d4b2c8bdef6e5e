//! Encryption of a volume's blocks: keys, nonces, and the seal that each block has.
//!
//! **Problem.** Members of a region set are disks and machines that may be stolen, restored from an old image, or lie. They are to learn
//! nothing of what is written, and whatever they change is to be noticed. Nothing may depend on a counter that somebody could set back.
//!
//! **Theory.** AES-256-GCM, one block at a time. Every [`Sealer`] has a session number of its own, 128 random bits that are drawn when it
//! is made and never kept by it; keys are derived from the volume's key and that number, and within a session a counter is the nonce. So a
//! (key, nonce) comes twice only if the same random number does: whatever was restored, and whoever else writes.
//!
//! ```text
//!   volume key K, 256 bits ── HKDF-SHA-256, salt: region set ──┬── "bobsled volume key check 1" ──► check value, 128 bits: not secret
//!                                                              │
//!                                                              └── "bobsled block key 1", session, number of the key ──► block key
//!                                                                                                      counter / 2^28
//!   block key, nonce: 0 (4 bytes), counter (8) ── AES-256-GCM ──► ciphertext, tag
//!   associated data: region set (16), block (8), bytes of a block (4)
//!
//!   0         16        24       40
//!   ┌─────────┬─────────┬────────┐
//!   │ session │ counter │ tag    │    the seal, which is kept beside the block's checksum
//!   └─────────┴─────────┴────────┘
//! ```
//!
//! All integers are little-endian. What an attacker can and cannot do: `docs/BLOCK.md`, "Encryption".
//!
//! - [`key`]: the volume's key, as people keep it, and its check value. [`session`]: numbers that nobody else has.
//! - [`block_keys`]: keys of sessions, derived when they are needed. [`opener`]: opening. [`sealer`]: sealing,
//!   and opening.

mod block_keys;
mod key;
mod opener;
mod sealer;
mod session;

pub use key::{KeyCheck, KeyCheckTextError, KeyTextError, VolumeKey};
pub use opener::Opener;
pub use sealer::{SealedBlocks, Sealer};
pub use session::SealingSession;
