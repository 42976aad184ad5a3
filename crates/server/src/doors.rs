//! Where agents in containers reach this server: at the bridge of their own network, and by that alone: no other interface of
//! this machine, and no other container, leads there.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use skep_runtime_docker::{Bridge, Doors as OfDriver, Opened};
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
    stop: CancellationToken,
    opened: tokio::sync::Mutex<()>,
    known: Mutex<BTreeMap<Ipv4Addr, Door>>,
    coming: mpsc::UnboundedSender<(Listener, CancellationToken)>,
}

/// One that is open.
struct Door {
    opened: Opened,
    bridge: Bridge,
    /// The number of that interface: one that is made anew has another.
    number: u32,
    /// Ends it.
    end: CancellationToken,
}

/// Doors that were opened, and are not served yet, each with what ends it.
pub(crate) type Coming = mpsc::UnboundedReceiver<(Listener, CancellationToken)>;

/// The number of an interface.
fn number(interface: &str) -> Result<u32, String> {
    let file = format!("/sys/class/net/{interface}/ifindex");
    let text = std::fs::read_to_string(file).ok();
    let number = text.and_then(|it| it.trim().parse().ok());
    number.ok_or_else(|| {
        format!("this machine has no interface {interface}: the engine must run on it, and not in a namespace of its own")
    })
}

impl Doors {
    /// None yet. `own`: the scheme and the address of the server's own.
    pub(crate) fn new(
        own: (&'static str, SocketAddr),
        port: Option<u16>,
        (bounds, stop): (Bounds, &CancellationToken),
    ) -> (Arc<Self>, Coming) {
        // One for each network that the engine gave this server.
        let (coming, come) = mpsc::unbounded_channel();
        let doors = Self {
            own,
            port,
            bounds,
            stop: stop.clone(),
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
            .any(|it| it.opened.url.ends_with(&format!("://{authority}")))
    }
}

#[async_trait]
impl OfDriver for Doors {
    async fn open(&self, bridge: &Bridge) -> Result<Opened, String> {
        let _turn = self.opened.lock().await;
        let (gateway, number) = (bridge.gateway, number(&bridge.interface)?);
        if let Some(door) = self.known.lock().get(&gateway)
            && (door.bridge == *bridge && door.number == number)
        {
            return Ok(door.opened.clone());
        }
        // Those of a network that is no more lead nowhere.
        self.known.lock().retain(|_, door| {
            door.end.cancel();
            false
        });
        let end = self.stop.child_token();
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
                let listener = Listener::bind_to(address, bridge, self.bounds.clone());
                let listener = listener.map_err(|error| {
                    format!("{error}; set `docker.port` to a port that is free at {gateway}")
                })?;
                let sent = self.coming.send((listener, end.clone()));
                sent.map_err(|_| "the server is ending".to_owned())?;
                tracing::info!(%address, "agents in containers reach this server");
                Opened {
                    url: format!("http://{address}"),
                    port,
                }
            }
        };
        let door = Door {
            opened: opened.clone(),
            bridge: bridge.clone(),
            number,
            end,
        };
        self.known.lock().insert(gateway, door);
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
    let mut next = Some((own, stop.clone()));
    while let Some((listener, end)) = next {
        serving.spawn(listener.serve(dispatcher.clone(), end, patience));
        next = tokio::select! {
            () = stop.cancelled() => None,
            next = coming.recv() => next,
        };
    }
    while serving.join_next().await.is_some() {}
}
