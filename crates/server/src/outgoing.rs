//! The guard of what Skep asks: a resolver that gives only addresses that may be asked, so that who connects
//! connects to one of those and not to the name again.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::dns::Name;
use skep_core::config::Settings;
use skep_guard::outgoing::{Block, Outgoing};
use tower_service::Service;

use crate::ServerError;

/// The guard of this configuration.
///
/// # Errors
/// [`ServerError::Outgoing`].
pub(crate) fn guard(settings: &Settings) -> Result<Arc<Outgoing>, ServerError> {
    let blocks = settings.outgoing_allow.iter();
    let blocks: Result<Vec<Block>, String> = blocks.map(|text| text.parse()).collect();
    let blocks = blocks.map_err(ServerError::Outgoing)?;
    Ok(Arc::new(Outgoing::new(blocks)))
}

fn refused(what: &str) -> String {
    format!("{what} is no address of the internet; allow it with `outgoing.allow` if it is meant")
}

/// Whether a URL may be asked whose host is an address: no resolver sees it.
pub(crate) fn check(guard: &Outgoing, uri: &Uri) -> Result<(), String> {
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) if !guard.permits(address) => Err(refused(host)),
        _ => Ok(()),
    }
}

/// Resolves names to what may be asked.
#[derive(Debug, Clone)]
pub(crate) struct Guarded(pub(crate) Arc<Outgoing>);

impl Service<Name> for Guarded {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guard = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let all: Vec<SocketAddr> = found.collect();
            let some = !all.is_empty();
            let may: Vec<SocketAddr> = all
                .into_iter()
                .filter(|address| guard.permits(address.ip()))
                .collect();
            if some && may.is_empty() {
                let kind = io::ErrorKind::PermissionDenied;
                return Err(io::Error::new(kind, refused(name.as_str())));
            }
            Ok(may.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn resolve(allowed: &[&str], name: &str) -> io::Result<Vec<IpAddr>> {
        let blocks = allowed.iter().map(|text| text.parse().unwrap());
        let mut guarded = Guarded(Arc::new(Outgoing::new(blocks.collect())));
        let found = guarded.call(name.parse().unwrap()).await?;
        Ok(found.map(|address| address.ip()).collect())
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused() {
        let refused = resolve(&[], "localhost").await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(refused.to_string().contains("outgoing.allow"), "{refused}");
        let allowed = resolve(&["127.0.0.0/8"], "localhost").await.unwrap();
        assert!(!allowed.is_empty() && allowed.iter().all(IpAddr::is_ipv4));
    }

    #[test]
    fn an_address_in_a_url_is_no_way_around() {
        let guard = Outgoing::default();
        for (url, may) in [
            ("https://10.0.0.1/keys", false),
            ("https://[::1]:8443/keys", false),
            ("https://[::ffff:169.254.169.254]/", false),
            ("https://1.1.1.1/keys", true),
            ("https://id.example.com/keys", true),
        ] {
            assert_eq!(check(&guard, &url.parse().unwrap()).is_ok(), may, "{url}");
        }
    }
}
