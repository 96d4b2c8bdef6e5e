//! Addresses of a test's own, so that it may use any port that is written down somewhere. Owns that no two have the same one.
//!
//! Loopback has 16 million. One is claimed by a socket that is bound there, which nobody else can have at the same time, neither in this
//! process nor in another one; and the kernel closes it when whoever has it ends. They are chosen by chance, so the next one is not
//! where somebody has just ended.

use std::{
    hash::{BuildHasher, RandomState},
    io::ErrorKind,
    net::{Ipv4Addr, UdpSocket},
};

/// Whoever has this port of UDP there has the address. Nobody listens at it.
const CLAIM_PORT: u16 = 12_399;

/// 127.64.0.0 to 127.191.255.255: a cluster of the testbed has others.
const FIRST: u32 = 0x7f40_0000;
const COUNT: u32 = 128 << 16;

/// Of so many none would be free only if most of them were taken.
const TRIES_MAX: usize = 100;

/// An address of this machine that no other test has as long as this is there.
#[derive(Debug)]
pub struct OwnAddress {
    address: Ipv4Addr,
    /// Not inherited by what is started.
    _claim: UdpSocket,
}

impl OwnAddress {
    /// One that was free.
    ///
    /// # Panics
    /// If the system gives none.
    #[must_use]
    pub fn claim() -> OwnAddress {
        for _ in 0..TRIES_MAX {
            let by_chance = RandomState::new().hash_one(()) % u64::from(COUNT);
            let by_chance = u32::try_from(by_chance).expect("it is less than their number");
            if let Some(own) = OwnAddress::claim_this(Ipv4Addr::from_bits(FIRST + by_chance)) {
                return own;
            }
        }
        panic!(
            "{TRIES_MAX} addresses were tried, and somebody has each of them: who is at port {CLAIM_PORT} of UDP?"
        );
    }

    /// None if somebody has it.
    fn claim_this(address: Ipv4Addr) -> Option<OwnAddress> {
        match UdpSocket::bind((address, CLAIM_PORT)) {
            Ok(claim) => Some(OwnAddress { address, _claim: claim }),
            Err(error) if error.kind() == ErrorKind::AddrInUse => None,
            Err(error) => panic!("{address} cannot be claimed: {error}"),
        }
    }

    /// It.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, thread};

    #[test]
    fn threads_have_different_ones_and_one_that_is_taken_is_free_again_when_it_is_given_up() {
        let claims = thread::scope(|scope| {
            let some =
                (0..8).map(|_| scope.spawn(|| (0..50).map(|_| OwnAddress::claim()).collect::<Vec<_>>()));
            let some: Vec<_> = some.collect();
            some.into_iter().flat_map(|claims| claims.join().unwrap()).collect::<Vec<_>>()
        });
        let different: BTreeSet<Ipv4Addr> = claims.iter().map(OwnAddress::ip).collect();
        assert_eq!(different.len(), 400);
        let taken = claims[0].ip();
        assert!(OwnAddress::claim_this(taken).is_none());
        drop(claims);
        assert_eq!(OwnAddress::claim_this(taken).map(|own| own.ip()), Some(taken));
    }
}
