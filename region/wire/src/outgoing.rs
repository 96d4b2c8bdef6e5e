//! A socket from which somebody connects to a member: the one place where it is bound. How it connects, and how long that may take, is whoever's who
//! asks for it.
//!
//! Each connection that leaves from an address that is said takes one of that address' ports for itself (28,232 unless the system was told
//! otherwise). A process has a few for each of its volumes' members.

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, socket_with},
};
use std::{io, net::SocketAddr, os::fd::OwnedFd};

/// A TCP socket, not connected, that leaves from this address ([`crate::source_address()`]) for that one.
///
/// # Errors
/// If there is no socket, or it cannot be bound. That the machine has the address no more is none.
pub fn outgoing(from: Option<SocketAddr>, to: SocketAddr, flags: SocketFlags) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None)?;
    match from.map(|from| bind(&socket, &from)) {
        // The machine has that address no more: better from another one than not at all.
        None | Some(Ok(()) | Err(Errno::ADDRNOTAVAIL)) => Ok(socket),
        Some(Err(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::connect;
    use std::net::TcpListener;

    #[test]
    fn an_address_that_the_machine_has_no_more_keeps_nobody_from_connecting() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let to = listener.local_addr().expect("it is bound");
        // Of those that are for documents, and nobody's.
        for (from, comes_from) in [("192.0.2.1:0", "127.0.0.1"), ("127.0.0.2:0", "127.0.0.2")] {
            let from = Some(from.parse().expect("it is an address"));
            let socket = outgoing(from, to, SocketFlags::empty()).expect("it is bound, or need not be");
            connect(&socket, &to).expect("somebody listens");
            let (_, address) = listener.accept().expect("it has connected");
            assert_eq!(address.ip().to_string(), comes_from);
        }
    }
}
