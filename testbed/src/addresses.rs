//! Which address belongs to whom. Owns the arithmetic and the ports; which number a cluster has is the claim's business.
//!
//! Linux answers on all of 127.0.0.0/8, so every sled gets an address of its own with the standard ports:
//!
//! ```text
//! cluster K:     sled N                127.0.K.N            N in 1..=250
//! cluster 1:     coordinator C         127.0.0.C            C in 1..=4
//! cluster K > 1: coordinator C         127.0.K.(250 + C)
//! ```

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

/// The operator API and console.
pub const OPERATOR_PORT: u16 = 12220;
/// The sled-facing API.
pub const INTERNAL_PORT: u16 = 12221;
/// The sled agent's API.
pub const AGENT_PORT: u16 = 12345;
/// The repo depot.
pub const DEPOT_PORT: u16 = 12348;

/// The first of the ports that an agent gives to what it supervises.
pub const SUPERVISED_PORT: u16 = 12400;

/// Sleds of one cluster at most: the addresses above them are the coordinators'.
pub const SLEDS_MAX: usize = 250;

/// Coordinators of one cluster at most.
pub const COORDINATORS_MAX: usize = 4;

/// The K of a cluster: which one on this machine it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterNumber(u8);

impl ClusterNumber {
    /// The lowest.
    pub const MIN: u8 = 1;
    /// The highest.
    pub const MAX: u8 = 254;

    /// The number, if it is one.
    #[must_use]
    pub fn new(number: u8) -> Option<ClusterNumber> {
        (Self::MIN..=Self::MAX).contains(&number).then_some(ClusterNumber(number))
    }

    /// The address of the `index`-th sled, counted from 0.
    pub fn sled_address(self, index: usize) -> Result<IpAddr> {
        match u8::try_from(index + 1) {
            Ok(last) if usize::from(last) <= SLEDS_MAX => Ok(Ipv4Addr::new(127, 0, self.0, last).into()),
            _ => bail!("a cluster has at most {SLEDS_MAX} sleds"),
        }
    }

    /// The address of the `index`-th coordinator, counted from 0.
    pub fn coordinator_address(self, index: usize) -> Result<IpAddr> {
        match u8::try_from(index + 1) {
            Ok(last) if usize::from(last) <= COORDINATORS_MAX => Ok(match self.0 {
                1 => Ipv4Addr::new(127, 0, 0, last),
                number => Ipv4Addr::new(127, 0, number, 250 + last),
            }
            .into()),
            _ => bail!("a cluster has at most {COORDINATORS_MAX} coordinators"),
        }
    }
}

impl fmt::Display for ClusterNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The base URL of a port on an address.
#[must_use]
pub fn url(address: IpAddr, port: u16) -> String {
    format!("http://{}", std::net::SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_first_cluster_has_the_documented_addresses() {
        let first = ClusterNumber::new(1).unwrap();
        assert_eq!(first.sled_address(0).unwrap().to_string(), "127.0.1.1");
        assert_eq!(first.sled_address(1).unwrap().to_string(), "127.0.1.2");
        assert_eq!(url(first.coordinator_address(0).unwrap(), OPERATOR_PORT), "http://127.0.0.1:12220");
        let second = ClusterNumber::new(2).unwrap();
        assert_eq!(second.sled_address(0).unwrap().to_string(), "127.0.2.1");
        assert_eq!(second.coordinator_address(0).unwrap().to_string(), "127.0.2.251");
    }

    #[test]
    fn no_two_processes_of_any_two_clusters_share_an_address() {
        let mut seen = BTreeSet::new();
        for number in (ClusterNumber::MIN..=ClusterNumber::MAX).filter_map(ClusterNumber::new) {
            for index in 0..SLEDS_MAX {
                assert!(seen.insert(number.sled_address(index).unwrap()));
            }
            for index in 0..COORDINATORS_MAX {
                assert!(seen.insert(number.coordinator_address(index).unwrap()));
            }
            assert!(number.sled_address(SLEDS_MAX).is_err());
            assert!(number.coordinator_address(COORDINATORS_MAX).is_err());
        }
    }
}
