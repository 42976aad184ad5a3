//! The guard of what Skep asks, for the resolver of [`skep_sources::Reached`]: which addresses may be asked.

use std::sync::Arc;

use skep_core::config::Settings;
use skep_guard::outgoing::{Block, Outgoing};
use skep_sources::Reach;

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

/// What the guard lets be reached.
pub(crate) fn reach(guard: &Arc<Outgoing>) -> Reach {
    let guard = guard.clone();
    Arc::new(move |address| guard.permits(address))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::IpAddr;

    use skep_sources::{Reached, may_be_asked};
    use tower_service::Service;

    use super::*;

    async fn resolve(allowed: &[&str], name: &str) -> io::Result<Vec<IpAddr>> {
        let blocks = allowed.iter().map(|text| text.parse().unwrap());
        let guard = Arc::new(Outgoing::new(blocks.collect()));
        let mut guarded = Reached::within(reach(&guard));
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
        let reach = reach(&Arc::new(Outgoing::default()));
        for (url, may) in [
            ("https://10.0.0.1/keys", false),
            ("https://[::1]:8443/keys", false),
            ("https://[::ffff:169.254.169.254]/", false),
            ("https://1.1.1.1/keys", true),
            ("https://id.example.com/keys", true),
        ] {
            let asked = may_be_asked(&reach, &url.parse().unwrap());
            assert_eq!(asked.is_ok(), may, "{url}");
        }
    }
}
