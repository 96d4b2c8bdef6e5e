//! The accept loop: bounded connections, time limits on request heads and on readers that stop, a clean stop.

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use std::{
    error::Error,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};

/// Bytes that one connection buffers of what it reads. Bulk bodies arrive in pieces of this size at most; a connection
/// that idles keeps its buffer, so this times the number of connections is memory.
const CONNECTION_BUFFER_BYTES: usize = 128 * 1024;

/// How an API listens.
#[derive(Clone, Copy, Debug)]
pub struct ServerOptions {
    /// Connections served at once; more wait in the kernel's queue. Bounds memory against floods.
    pub connections_max: usize,
    /// How long a client may take to send a request's head.
    pub head_limit: Duration,
    /// How long a client may leave an answer unread before the connection is cut. The kernel keeps this limit
    /// (`TCP_USER_TIMEOUT`): it covers a reader that stopped (zero window) and one that is gone (nothing acknowledged). A
    /// window opens again only when a good part of the reader's buffer is free, so it is also a lower bound on how fast a
    /// reader has to be: measured, 30 s cut readers off that took 1,000 bytes a second, and 180 s do not (unless their buffer is smaller than
    /// one segment: then the window never opens).
    pub unread_limit: Duration,
    /// How long running requests may take to end after the stop was asked for.
    pub stop_limit: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            connections_max: 1024,
            head_limit: Duration::from_secs(15),
            unread_limit: Duration::from_secs(180),
            stop_limit: Duration::from_secs(5),
        }
    }
}

/// Where a request came from, in its extensions. Every process binds what it sends to its own address, so this is the
/// sender's, as far as the network between them can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);

/// An address that can not be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: is another process using it, or is the address not this machine's?")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// An API that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local: SocketAddr,
}

impl Server {
    /// Starts to listen; connections wait until [`run`](Server::run).
    pub async fn bind(address: SocketAddr) -> Result<Server, BindError> {
        let refuse = |source| BindError { address, source };
        let listener = TcpListener::bind(address).await.map_err(refuse)?;
        let local = listener.local_addr().map_err(refuse)?;
        Ok(Server { listener, local })
    }

    /// The address that it listens on, with the port that the kernel chose if port 0 was asked for.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `stop` turns true, then lets running requests end within the limit.
    pub async fn run(self, router: Router, options: ServerOptions, mut stop: watch::Receiver<bool>) {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(options.head_limit).keep_alive(true);
        builder.max_buf_size(CONNECTION_BUFFER_BYTES);
        let slots = Arc::new(Semaphore::new(options.connections_max));
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = accept(&self.listener, &slots, options.unread_limit) => accepted,
            };
            let Some((stream, peer, slot)) = accepted else { continue };
            let routes = TowerToHyperService::new(router.clone());
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(peer);
                routes.call(request)
            });
            let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
            tokio::spawn(async move {
                // An error here is the client's: it went away, or sent what is not HTTP.
                if let Err(error) = connection.await {
                    tracing::debug!(error = &error as &dyn Error, "connection ended early");
                }
                drop(slot);
            });
        }
        drop(self.listener);
        if tokio::time::timeout(options.stop_limit, graceful.shutdown()).await.is_err() {
            tracing::warn!(address = %self.local, "requests did not end in time and were cut off");
        }
    }
}

/// Waits for a free slot, then for a connection. An accept that fails is the kernel's or the client's trouble of
/// the moment; the slot is given back and the loop goes on.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    unread_limit: Duration,
) -> Option<(TcpStream, PeerAddress, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    match listener.accept().await {
        Ok((stream, from)) => {
            // Small answers must not wait for Nagle's timer; failing to set this only costs time.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(error = &error as &dyn Error, "cannot set TCP_NODELAY");
            }
            let limit = u32::try_from(unread_limit.as_millis()).unwrap_or(u32::MAX);
            if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&stream, limit) {
                tracing::debug!(error = &error as &dyn Error, "cannot set TCP_USER_TIMEOUT");
            }
            Some((stream, PeerAddress(from.ip().to_canonical()), slot))
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn Error, "cannot accept a connection");
            // Out of file descriptors: accepting again at once would spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}
