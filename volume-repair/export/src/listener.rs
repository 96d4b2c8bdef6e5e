//! Where clients come: a unix or a TCP socket. Owns the name in the file system, and what a killed process has left under it.

use crate::socket::Socket;
use camino::{Utf8Path, Utf8PathBuf};
use mio::{
    Interest, Registry, Token,
    net::{TcpListener, TcpStream, UnixListener},
};
use rustix::net::sockopt;
use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::unix::{fs::FileTypeExt, net::UnixStream},
    time::Duration,
};

/// A client's machine that does not answer for so long, while nothing is said, is gone.
const GONE_MAX: Duration = Duration::from_secs(60);

/// How often it is asked before.
const PROBES: u32 = 6;

/// Where clients come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket in the file system. One that has the name is replaced if nobody listens there.
    Unix(Utf8PathBuf),
    /// A port.
    Tcp(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{path}"),
            Address::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// A socket that clients come to. Its name ends with it.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Kind,
    address: Address,
}

#[derive(Debug)]
enum Kind {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    pub(crate) fn bind(address: &Address) -> io::Result<Listener> {
        match address {
            Address::Unix(path) => {
                remove_if_nobody_listens(path)?;
                Ok(Listener { socket: Kind::Unix(UnixListener::bind(path)?), address: address.clone() })
            }
            Address::Tcp(wanted) => {
                let listener = TcpListener::bind(*wanted)?;
                // Port 0 is any port: this is which.
                let address = Address::Tcp(listener.local_addr()?);
                Ok(Listener { socket: Kind::Tcp(listener), address })
            }
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.socket {
            Kind::Unix(listener) => registry.register(listener, token, Interest::READABLE),
            Kind::Tcp(listener) => registry.register(listener, token, Interest::READABLE),
        }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn accept(&self) -> io::Result<Socket> {
        match &self.socket {
            Kind::Unix(listener) => listener.accept().map(|(socket, _)| Socket::Unix(socket)),
            Kind::Tcp(listener) => listener.accept().map(|(socket, _)| {
                // Without them small answers would wait for others, and a machine that has lost its power would keep the place of
                // another one; it goes on all the same.
                let _ = socket.set_nodelay(true);
                let _ = notice_when_gone(&socket);
                Socket::Tcp(socket)
            }),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.address {
            // Whoever comes later is told at once that nobody is there.
            let _ = fs::remove_file(path);
        }
    }
}

/// A client that says nothing may have nothing to say; but its machine answers.
fn notice_when_gone(socket: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, GONE_MAX / 2)?;
    sockopt::set_tcp_keepintvl(socket, GONE_MAX / 2 / PROBES)?;
    // No limit for what is sent and not acknowledged: it would also end a client that is stopped for a while, with replies unread.
    Ok(sockopt::set_tcp_keepcnt(socket, PROBES)?)
}

/// What a killed process has left. What is no socket is somebody's file, and stays.
pub(crate) fn remove_if_nobody_listens(path: &Utf8Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    match UnixStream::connect(path) {
        Err(error) if is_socket && error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_whose_machine_is_gone_is_noticed() {
        let listener = Listener::bind(&Address::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let Address::Tcp(address) = *listener.address() else { panic!("it is a port") };
        let _client = std::net::TcpStream::connect(address).unwrap();
        let Socket::Tcp(socket) = listener.accept().unwrap() else { panic!("it is a port") };
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        let probed = sockopt::tcp_keepidle(&socket).unwrap()
            + sockopt::tcp_keepintvl(&socket).unwrap() * sockopt::tcp_keepcnt(&socket).unwrap();
        assert_eq!(probed, GONE_MAX);
    }
}
