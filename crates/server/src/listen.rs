//! The listener: connections within their bound, TLS where it is wanted, HTTP/1.1 and HTTP/2, and
//! a graceful end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use skep_core::config::Settings;
use skep_runtime_docker::Bridge;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ServerError;
use crate::connection::{Place, Serving, serve};
use crate::dispatch::Dispatcher;
use crate::tls::{Tls, shown};

/// Calls that one HTTP/2 connection may have open.
const STREAMS: u32 = 256;
/// The wait after the system had no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that wait at a door of one interface.
const WAITING: u32 = 1_024;

/// Whether somebody there is in the network, and is not this machine.
fn is_agent(bridge: &Bridge, remote: IpAddr) -> bool {
    match remote {
        IpAddr::V4(remote) => remote != bridge.gateway && bridge.addresses.contains(&remote),
        IpAddr::V6(_) => false,
    }
}

fn cannot(address: SocketAddr, error: &std::io::Error) -> ServerError {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => ServerError::PortTaken(address),
        _ => ServerError::Listen {
            address,
            reason: error.to_string(),
        },
    }
}

/// Bounds of connections.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// Of all doors together.
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) header_bytes: usize,
    pub(crate) header_timeout: Duration,
}

impl Bounds {
    /// Those of the settings.
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(settings.limits_connections)),
            header_bytes: usize::try_from(settings.limits_headers).unwrap_or(usize::MAX),
            header_timeout: settings.limits_header_timeout,
        }
    }
}

/// Listens until it is told to stop.
pub(crate) struct Listener {
    socket: TcpListener,
    tls: Option<Arc<Tls>>,
    /// The network whose agents may come; else whoever does.
    only: Option<Bridge>,
    bounds: Bounds,
}

impl Listener {
    /// Takes the address.
    pub(crate) async fn bind(
        address: SocketAddr,
        tls: Option<Arc<Tls>>,
        bounds: Bounds,
    ) -> Result<Self, ServerError> {
        let socket = TcpListener::bind(address).await;
        Ok(Self {
            socket: socket.map_err(|error| cannot(address, &error))?,
            tls,
            only: None,
            bounds,
        })
    }

    /// Takes an address for who is in a network of agents alone; without TLS.
    pub(crate) fn bind_to(
        address: SocketAddr,
        bridge: &Bridge,
        bounds: Bounds,
    ) -> Result<Self, ServerError> {
        let bound = || {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            // The system takes what is for an address of its own by any interface; and what comes from a program of its own
            // as if it had come by the very interface.
            socket.bind_device(Some(bridge.interface.as_bytes()))?;
            socket.bind(address)?;
            socket.listen(WAITING)
        };
        Ok(Self {
            socket: bound().map_err(|error| cannot(address, &error))?,
            tls: None,
            only: Some(bridge.clone()),
            bounds,
        })
    }

    /// The address that was taken.
    pub(crate) fn address(&self) -> Result<SocketAddr, ServerError> {
        self.socket
            .local_addr()
            .map_err(|error| ServerError::Listen {
                address: SocketAddr::from(([0, 0, 0, 0], 0)),
                reason: error.to_string(),
            })
    }

    /// Serves until `stop`, then lets the open connections end within `patience`.
    pub(crate) async fn serve(
        self,
        dispatcher: Arc<Dispatcher>,
        stop: CancellationToken,
        patience: Duration,
    ) {
        let permits = self.bounds.connections.clone();
        let connections = TaskTracker::new();
        let serving = Arc::new(Serving {
            dispatcher,
            builder: self.builder(),
            idle: self.bounds.header_timeout,
        });
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.socket.accept() => accepted,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if let Some(bridge) = &self.only
                && !is_agent(bridge, remote.ip())
            {
                continue;
            }
            // One more than the bound waits here, at each door, and others in the system's own queue.
            let permit = tokio::select! {
                () = stop.cancelled() => break,
                permit = permits.clone().acquire_owned() => permit,
            };
            let (tls, serving) = (self.tls.clone(), serving.clone());
            // Each its own, as every poll of a connection looks at it.
            let stop = stop.child_token();
            connections.spawn(async move {
                let place: Place = Arc::new(permit);
                // Small answers go out at once.
                let _ = stream.set_nodelay(true);
                match tls {
                    None => serve(&serving, stream, (remote, None), place, stop).await,
                    Some(tls) => {
                        let tls = tls.acceptor();
                        if let Some(stream) = shake_hands(&tls, stream, serving.idle).await {
                            let chain = stream.get_ref().1.peer_certificates();
                            let leaf = chain.and_then(<[_]>::first);
                            let shown = leaf.map(|leaf| Arc::new(shown(leaf)));
                            serve(&serving, stream, (remote, shown), place, stop).await;
                        }
                    }
                }
            });
        }
        drop(self.socket);
        connections.close();
        let _ = tokio::time::timeout(patience, connections.wait()).await;
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.bounds.header_timeout)
            .max_buf_size(self.bounds.header_bytes);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(self.bounds.header_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(STREAMS)
            .keep_alive_interval(Some(self.bounds.header_timeout));
        builder
    }
}

async fn shake_hands(
    tls: &TlsAcceptor,
    stream: TcpStream,
    timeout: Duration,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    match tokio::time::timeout(timeout, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS was not agreed on");
            None
        }
        Err(_) => None,
    }
}
