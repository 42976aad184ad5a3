//! Where agents in containers reach this server: on the bridge of their own network, at which nobody else is.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use skep_runtime_docker::{Doors as OfDriver, Opened};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::dispatch::Dispatcher;
use crate::listen::{Bounds, Listener};

/// The doors beside the server's own.
pub(crate) struct Doors {
    /// The server's own, and how it is spoken to there.
    own: (&'static str, SocketAddr),
    /// The port of the others, if it is not the same.
    port: Option<u16>,
    bounds: Bounds,
    opened: tokio::sync::Mutex<()>,
    known: Mutex<BTreeMap<Ipv4Addr, Opened>>,
    coming: mpsc::UnboundedSender<Listener>,
}

/// Doors that were opened, and are not served yet.
pub(crate) type Coming = mpsc::UnboundedReceiver<Listener>;

impl Doors {
    /// None yet. `own`: the scheme and the address of the server's own.
    pub(crate) fn new(
        own: (&'static str, SocketAddr),
        port: Option<u16>,
        bounds: Bounds,
    ) -> (Arc<Self>, Coming) {
        // One for each network that the engine gave this server.
        let (coming, come) = mpsc::unbounded_channel();
        let doors = Self {
            own,
            port,
            bounds,
            opened: tokio::sync::Mutex::default(),
            known: Mutex::default(),
            coming,
        };
        (Arc::new(doors), come)
    }

    /// Whether a URL's `host:port` is one of these.
    pub(crate) fn is(&self, authority: &str) -> bool {
        let known = self.known.lock();
        known
            .values()
            .any(|it| it.url.ends_with(&format!("://{authority}")))
    }
}

#[async_trait]
impl OfDriver for Doors {
    async fn open(&self, gateway: Ipv4Addr) -> Result<Opened, String> {
        let _turn = self.opened.lock().await;
        if let Some(opened) = self.known.lock().get(&gateway) {
            return Ok(opened.clone());
        }
        let (scheme, own) = self.own;
        // Who listens everywhere listens there, too.
        let everywhere = own.ip().is_unspecified() && self.port.is_none_or(|it| it == own.port());
        let port = self.port.unwrap_or_else(|| own.port());
        let opened = match everywhere {
            true => Opened {
                url: format!("{scheme}://{gateway}:{port}"),
                port,
            },
            false => {
                let address = SocketAddr::from((gateway, port));
                // Nothing leaves this machine on that bridge, and none of its agents hears another: no TLS.
                let listener = Listener::bind(address, None, self.bounds.clone()).await;
                let listener = listener.map_err(|error| {
                    format!("{error}; set `docker.port` to a port that is free at {gateway}")
                })?;
                let ended = "the server is ending";
                self.coming.send(listener).map_err(|_| ended.to_owned())?;
                tracing::info!(%address, "agents in containers reach this server");
                Opened {
                    url: format!("http://{address}"),
                    port,
                }
            }
        };
        self.known.lock().insert(gateway, opened.clone());
        Ok(opened)
    }
}

/// Serves at the server's own door and at those that are opened, until `stop`; then lets open connections end within
/// `patience`.
pub(crate) async fn serve(
    (own, mut coming): (Listener, Coming),
    dispatcher: Arc<Dispatcher>,
    stop: CancellationToken,
    patience: Duration,
) {
    let mut serving = JoinSet::new();
    let mut next = Some(own);
    while let Some(listener) = next {
        serving.spawn(listener.serve(dispatcher.clone(), stop.clone(), patience));
        next = tokio::select! {
            () = stop.cancelled() => None,
            next = coming.recv() => next,
        };
    }
    while serving.join_next().await.is_some() {}
}
