//! Where volumes may be exported over TCP: at the sled's own address, if its config allows it. An NBD client over TCP shows nobody who he is,
//! and nothing on the way is encrypted, so whoever reaches the port reads the volume, and writes it if it is exported so.

use super::error::PantryCallError;
use crate::config::{Config, PortRange, TcpExports};
use sled_client::pantry::{ExportListen, ExportRequest};
use std::{net::IpAddr, num::NonZeroU16};

/// What the config says of it.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    address: IpAddr,
    tcp: TcpExports,
    /// Ports that the agent gives to others, and its own.
    supervised: PortRange,
    own: [u16; 2],
}

impl Places {
    /// Of an agent with this config.
    #[must_use]
    pub fn of(config: &Config) -> Places {
        Places {
            address: config.address,
            tcp: config.pantry.tcp_exports,
            supervised: config.supervised_ports,
            own: [config.agent_port, config.depot_port],
        }
    }

    /// The request, with the address at which it is to be; or why there is to be no such export.
    ///
    /// # Errors
    /// `bad_request`, `export_address`, `export_port_taken`, `export_tcp_not_allowed`.
    pub fn place(&self, request: ExportRequest) -> Result<ExportRequest, PantryCallError> {
        if request.listen == ExportListen::Unix {
            let is_plain = request.address.is_none() && request.port.is_none();
            return if is_plain { Ok(request) } else { Err(PantryCallError::NotOverTcp) };
        }
        let own = self.address;
        if let Some(given) = request.address.filter(|given| *given != own) {
            return Err(PantryCallError::ExportAddress { given, own });
        }
        match self.tcp {
            TcpExports::Unencrypted => {}
            TcpExports::Loopback if own.is_loopback() => {}
            TcpExports::Loopback => {
                return Err(PantryCallError::ExportTcp(
                    "the sled's address is no loopback address, and the agent's config does not say that volumes may be exported there unencrypted",
                ));
            }
            TcpExports::Off => {
                return Err(PantryCallError::ExportTcp(
                    "the agent's config says that nothing is exported over TCP",
                ));
            }
        }
        let is_kept = |port: &u16| self.supervised.has(*port) || self.own.contains(port);
        if let Some(port) = request.port.map(NonZeroU16::get).filter(is_kept) {
            return Err(PantryCallError::ExportPortKept(port));
        }
        Ok(ExportRequest { address: Some(own), ..request })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use problem::Code;

    fn asked(
        own: &str,
        tcp: TcpExports,
        listen: ExportListen,
        address: Option<&str>,
        port: u16,
    ) -> Result<Option<IpAddr>, Code> {
        let (address, port) = (address.map(|text| text.parse().unwrap()), NonZeroU16::new(port));
        let (supervised, own_ports) = (PortRange { first: 12400, last: 12999 }, [12345, 12348]);
        let places = Places { address: own.parse().unwrap(), tcp, supervised, own: own_ports };
        let request = ExportRequest { executor_epoch: 1, read_only: true, listen, address, port };
        places.place(request).map(|placed| placed.address).map_err(|error| error.code())
    }

    #[test]
    fn over_tcp_it_is_at_the_sleds_own_address_and_only_where_the_config_allows_it() {
        use TcpExports::{Loopback, Off, Unencrypted};
        let tcp = |own, allowed, address, port| asked(own, allowed, ExportListen::Tcp, address, port);
        let (near, far) = ("127.0.1.1", "10.0.0.7");
        for (own, allowed, is_allowed) in [
            (near, Off, false),
            (near, Loopback, true),
            (near, Unencrypted, true),
            (far, Off, false),
            (far, Loopback, false),
            (far, Unencrypted, true),
            ("::1", Loopback, true),
        ] {
            let expected =
                if is_allowed { Ok(Some(own.parse().unwrap())) } else { Err(Code::ExportTcpNotAllowed) };
            for address in [None, Some(own)] {
                assert_eq!(tcp(own, allowed, address, 0), expected, "{own} {allowed:?}");
                assert_eq!(tcp(own, allowed, address, 10809), expected, "{own} {allowed:?}");
            }
            for other in ["0.0.0.0", "127.0.1.2", "::"] {
                assert_eq!(tcp(own, allowed, Some(other), 0), Err(Code::ExportAddress));
            }
        }
        for kept in [12345, 12348, 12400, 12999] {
            assert_eq!(tcp(near, Loopback, None, kept), Err(Code::ExportPortTaken));
        }
    }

    #[test]
    fn a_socket_of_the_sled_needs_nobodys_leave_and_has_no_port() {
        let unix = |address, port| asked("10.0.0.7", TcpExports::Off, ExportListen::Unix, address, port);
        assert_eq!(unix(None, 0), Ok(None));
        assert_eq!(unix(Some("10.0.0.7"), 0), Err(Code::BadRequest));
        assert_eq!(unix(None, 10809), Err(Code::BadRequest));
    }
}
