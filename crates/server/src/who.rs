//! Who asks: by a key, a token, a session or a certificate. What shows it is taken out of the request, so
//! that no agent sees it.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::HeaderMap;
use http::{Method, Request, Uri};
use skep_core::{Code, Workspace};
use skep_guard::Principal;
use skep_guard::certificates::Shown;

use crate::cookie::{self, Visitor};
use crate::dispatch::is_public;
use crate::gate::Asker;
use crate::keys::{Credential, authenticate, shown, shows_any};
use crate::live;
use crate::models;
use crate::problem::ApiError;
use crate::rates::Counted;
use crate::state::State;
use crate::{spelling, tokens, workspace};

/// Who asks, when anybody whom this server knows does.
///
/// # Errors
/// [`skep_core::Code::CrossSite`], [`skep_core::Code::WorkspaceNotFound`], [`skep_core::Code::RateLimited`],
/// and the store's own: without an answer nobody is let in.
pub(crate) async fn asks<B>(
    state: &State,
    (remote, certificate): (IpAddr, Option<&Shown>),
    request: &mut Request<B>,
    counted: &Counted,
) -> Result<Option<Asker>, ApiError> {
    models::show_key(request);
    live::show_token(request);
    spelling::mend(request);
    let cookies = cookie::take(request.headers_mut());
    let wanted = workspace::wanted(request.headers_mut())?;
    let public = is_public(request.method(), request.uri().path());
    if public {
        cookie::must_not_be_foreign(request)?;
        let cookies = cookies.clone();
        let visitor = Visitor { remote, cookies };
        request.extensions_mut().insert(visitor);
    }
    // What somebody shows themselves counts, or does not, before what a browser shows by itself.
    let shows = shows_any(request.headers(), |text| state.outside.is_ours(text));
    let here = state.live_cookies || request.uri().path() != live::PATH;
    let cookie = cookies.session.filter(|_| !public && !shows && here);
    let certificate = certificate.filter(|_| cookie.is_none() && !shows);
    let credential = credential(state, request).await;
    let session = match credential {
        Credential::Key(principal, rate) => {
            of_its_own(state, &principal, wanted.as_ref(), remote)?;
            let asker = Asker::plain(principal, remote);
            state.rates.key(counted, &asker.principal, rate)?;
            return Ok(Some(asker));
        }
        Credential::Token(text) => {
            let now = state.db.clock().now();
            let found = tokens::find(&state.tokens, &state.runtime, &text, now);
            let Some(token) = found else {
                return Ok(None);
            };
            of_its_own(state, &token.principal, wanted.as_ref(), remote)?;
            let mut asker = Asker::plain(token.principal.clone(), remote);
            asker.token = Some(Arc::new(token));
            return Ok(Some(asker));
        }
        Credential::Session(text) => Some(text),
        Credential::Nothing => {
            if cookie.is_some() {
                cookie::must_be_own(request)?;
            }
            cookie
        }
    };
    if let Some(text) = session {
        let all = state.tenants.all().all();
        let found = state.sessions.find(&text, wanted.as_ref(), &all);
        return Ok(found.await?.map(|known| {
            let mut asker = Asker::plain(known.principal.clone(), remote);
            asker.session = Some(Arc::new(known));
            asker
        }));
    }
    let found = certificate.and_then(|shown| state.tls.as_ref()?.find(shown));
    let Some(principal) = found.filter(|it| state.tenants.all().has(&it.workspace)) else {
        return Ok(None);
    };
    // A browser shows a certificate whoever made the page that asks.
    cookie::must_not_be_foreign(request)?;
    of_its_own(state, &principal, wanted.as_ref(), remote)?;
    Ok(Some(Asker::plain(principal, remote)))
}

/// How somebody showed who they are, for as long as a connection of theirs lasts that is longer than a request.
pub(crate) struct Again {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    remote: IpAddr,
    certificate: Option<Shown>,
}

impl Again {
    /// Keeps it, of a request that may begin such a connection.
    pub(crate) fn of<B>(
        request: &Request<B>,
        (remote, certificate): (IpAddr, Option<&Shown>),
    ) -> Option<Arc<Self>> {
        let is_it = request.uri().path() == live::PATH;
        is_it.then(|| {
            Arc::new(Self {
                method: request.method().clone(),
                uri: request.uri().clone(),
                headers: request.headers().clone(),
                remote,
                certificate: certificate.cloned(),
            })
        })
    }

    /// Whether it still shows the same. Without an answer of the store it does.
    pub(crate) async fn counts(&self, state: &State, asker: &Asker) -> bool {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let by = (self.remote, self.certificate.as_ref());
        match asks(state, by, &mut request, &state.rates.begin()).await {
            Ok(found) => found.is_some_and(|found| found.principal == asker.principal),
            Err(error) => error.public().code() != Code::WorkspaceNotFound,
        }
    }
}

/// Who shows a credential of one workspace asks for nothing of another.
fn of_its_own(
    state: &State,
    principal: &Principal,
    wanted: Option<&Workspace>,
    remote: IpAddr,
) -> Result<(), ApiError> {
    let is_own = workspace::must_be(principal, wanted);
    if is_own.is_err() {
        state.threats.foreign(principal, remote);
    }
    is_own
}

/// What the headers show; a token of an outside issuer is as good as a key.
async fn credential<B>(state: &State, request: &mut Request<B>) -> Credential {
    let State {
        keys,
        outside,
        tenants,
        ..
    } = state;
    let token = shown(request.headers()).filter(|it| outside.takes(it));
    let bearer = match token.map(str::to_owned) {
        Some(token) => outside
            .find((&token, request.uri().path()), tenants.all())
            .await
            .map(|found| (token, found)),
        None => None,
    };
    let find = |text: &str| {
        let of_token = bearer.as_ref().filter(|(token, _)| token == text);
        of_token.map_or_else(|| keys.find(text), |(_, found)| Some((found.clone(), None)))
    };
    authenticate(find, |text| outside.is_ours(text), request.headers_mut())
}
