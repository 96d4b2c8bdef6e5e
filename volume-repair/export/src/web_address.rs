//! From which address a web server is asked: the same as members are, where that reaches it.

use region_wire::source_address;
use std::net::{IpAddr, SocketAddr};
use tokio::net::lookup_host;
use volume_layers::HttpUrl;

/// What a client is to be bound to that asks the server of this URL, for whoever has this address of its own. None if the system is to
/// choose: nothing that the server's name stands for is reached from there, or nobody knows the name now, which asking it will say.
pub async fn web_address(own: Option<IpAddr>, url: &HttpUrl) -> Option<IpAddr> {
    let (own, url) = (own?, url.with_secrets());
    let port = url.port_or_known_default()?;
    // As it stands in a URL, one of IPv6 is in brackets.
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    from(own, lookup_host((host, port)).await.ok()?)
}

fn from(own: IpAddr, mut servers: impl Iterator<Item = SocketAddr>) -> Option<IpAddr> {
    servers.find_map(|server| source_address(Some(own), server)).map(|bound| bound.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_is_asked_from_ones_own_address_where_that_reaches_it() {
        for (own, url, expected) in [
            ("127.0.3.1", "http://127.0.0.1/image", Some("127.0.3.1")),
            ("192.0.2.1", "http://reader:secret@192.0.2.9:8080/image", Some("192.0.2.1")),
            ("fd00::1", "http://[fd00::9]/image", Some("fd00::1")),
            ("127.0.3.1", "http://192.0.2.9/image", None),
            ("192.0.2.1", "http://[fd00::9]/image", None),
            ("0.0.0.0", "http://127.0.0.1/image", None),
            ("192.0.2.1", "http://name.invalid/image", None),
        ] {
            let (address, parsed) = (own.parse().expect("an address"), url.parse().expect("a URL"));
            let expected = expected.map(|expected| expected.parse().expect("an address"));
            assert_eq!(web_address(Some(address), &parsed).await, expected, "{own} to {url}");
            assert_eq!(web_address(None, &parsed).await, None);
        }
    }

    #[test]
    fn one_of_several_addresses_of_a_server_is_enough() {
        let servers = ["[fd00::9]:80", "192.0.2.9:80"].map(|server| server.parse().expect("an address"));
        let own = "192.0.2.1".parse().expect("an address");
        assert_eq!(from(own, servers.into_iter()), Some(own));
    }
}
