//! From which address a connection to a member leaves. Knows no socket.
//!
//! A sled is told apart by its address: by whoever cuts it off from others, and by people who read logs. A host may have many, as all sleds of a testbed
//! are on one; unless a connection is bound to one of them, the system takes any from which the other end can be reached.

use std::net::{IpAddr, SocketAddr};

/// What a socket is to be bound to before it connects, by whoever has this address of its own; none if the system is to choose: the address
/// says *any*, is of the other family, or is one of loopback, from which nothing leaves the machine.
#[must_use]
pub fn source_address(own: Option<IpAddr>, to: SocketAddr) -> Option<SocketAddr> {
    let own = own.filter(|own| !own.is_unspecified())?;
    let reaches = own.is_ipv4() == to.is_ipv4() && (to.ip().is_loopback() || !own.is_loopback());
    reaches.then(|| SocketAddr::new(own, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_left_from_where_it_reaches_the_other_one() {
        for (own, to, expected) in [
            ("127.0.3.1", "127.0.3.2:12400", Some("127.0.3.1:0")),
            ("192.0.2.1", "192.0.2.2:12400", Some("192.0.2.1:0")),
            ("192.0.2.1", "127.0.0.1:12400", Some("192.0.2.1:0")),
            ("fd00::1", "[fd00::2]:12400", Some("[fd00::1]:0")),
            ("0.0.0.0", "192.0.2.2:12400", None),
            ("::", "[fd00::2]:12400", None),
            ("127.0.0.1", "192.0.2.2:12400", None),
            ("::1", "[fd00::2]:12400", None),
            ("192.0.2.1", "[fd00::2]:12400", None),
        ] {
            let own = Some(own.parse().expect("it is an address"));
            let expected = expected.map(|expected| expected.parse().expect("it is an address"));
            assert_eq!(source_address(own, to.parse().expect("it is one")), expected, "{own:?} to {to}");
        }
        assert_eq!(source_address(None, "192.0.2.2:1".parse().expect("it is one")), None);
    }
}
