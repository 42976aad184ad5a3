//! How often anybody may ask: counts each request for the rates of the configuration and of keys, and tells
//! how it stands (IETF draft-ietf-httpapi-ratelimit-headers, as of version 10).

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use skep_core::config::Settings;
use skep_core::units::Rate;
use skep_core::{Code, PublicError};
use skep_guard::Principal;
use skep_guard::limits::{Limits, Per, Standing, subscriber};
use skep_guard::policy::groups_of;

use crate::ServerError;
use crate::problem::ApiError;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Somebody asked too often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limited(Standing);

impl std::fmt::Display for Limited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Standing { per, rate, .. } = &self.0;
        write!(f, "more than {rate} for this {}", per.as_str())
    }
}

impl std::error::Error for Limited {}

impl PublicError for Limited {
    fn code(&self) -> Code {
        Code::RateLimited
    }

    fn detail(&self) -> String {
        self.to_string()
    }

    fn retry_after_s(&self) -> Option<u64> {
        self.0.wait.map(|wait| wait.as_secs().saturating_add(1))
    }
}

/// How one request stands with what it was counted for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted(Option<Arc<Mutex<Option<Standing>>>>);

impl Counted {
    fn take(&self, standing: Standing) -> Result<(), ApiError> {
        if let Some(kept) = &self.0 {
            let mut kept = kept.lock();
            *kept = Some(kept.map_or(standing, |before| before.tighter(standing)));
        }
        match standing.wait {
            None => Ok(()),
            Some(_) => Err(ApiError::Limited(Limited(standing))),
        }
    }

    /// Tells the client of the tightest rate.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let Some(standing) = self.0.as_ref().and_then(|kept| *kept.lock()) else {
            return;
        };
        let Standing {
            per,
            rate,
            left,
            wait,
        } = standing;
        let name = per.as_str();
        let window = rate.per.as_secs().max(1);
        let policy = format!("\"{name}\";q={};w={window}", rate.count);
        let mut now = format!("\"{name}\";r={left}");
        if let Some(wait) = wait {
            now.push_str(&format!(";t={}", wait.as_secs().saturating_add(1)));
        }
        for (header, text) in [(POLICY, policy), (LIMIT, now)] {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(header, value);
            }
        }
    }
}

/// The rates that there are.
pub(crate) struct Rates {
    limits: Limits,
    address: Option<Rate>,
    principal: Option<Rate>,
    agent: Option<Rate>,
    /// By actions and groups of them.
    actions: Vec<(String, Rate)>,
}

impl Rates {
    /// # Errors
    /// [`ServerError::Rate`] when a rate is for what is neither an action nor a group.
    pub(crate) fn new(settings: &Settings) -> Result<Self, ServerError> {
        let actions = settings.limits_rate_actions.0.clone();
        let known = skep_guard::policy::actions();
        for (name, _) in &actions {
            let group = known.keys().any(|action| groups_of(action).contains(name));
            if !group && !known.contains_key(name) {
                return Err(ServerError::Rate(name.clone()));
            }
        }
        Ok(Self {
            limits: Limits::default(),
            address: settings.limits_rate_address,
            principal: settings.limits_rate_principal,
            agent: settings.limits_rate_agent,
            actions,
        })
    }

    /// A request that was counted for nothing yet.
    pub(crate) fn begin(&self) -> Counted {
        Counted(Some(Arc::default()))
    }

    fn count(&self, to: &Counted, per: Per, who: &str, rate: Option<Rate>) -> Result<(), ApiError> {
        match rate {
            Some(rate) => to.take(self.limits.count(per, who, rate)),
            None => Ok(()),
        }
    }

    /// Counts where it comes from.
    pub(crate) fn address(&self, to: &Counted, remote: IpAddr) -> Result<(), ApiError> {
        let Some(rate) = self.address else {
            return Ok(());
        };
        let network = subscriber(remote).to_string();
        self.count(to, Per::Address, &network, Some(rate))
    }

    /// Counts a key that has a rate of its own.
    pub(crate) fn key(
        &self,
        to: &Counted,
        who: &Principal,
        rate: Option<Rate>,
    ) -> Result<(), ApiError> {
        self.count(to, Per::Key, &who.id, rate)
    }

    /// Counts who asks.
    pub(crate) fn principal(&self, to: &Counted, who: &Principal) -> Result<(), ApiError> {
        let name = || format!("{} {} {}", who.workspace, who.kind, who.id);
        match self.principal {
            Some(rate) => self.count(to, Per::Principal, &name(), Some(rate)),
            None => Ok(()),
        }
    }

    /// Counts what they do, and to which agent.
    pub(crate) fn act(
        &self,
        to: &Counted,
        who: &Principal,
        action: &str,
        agent: Option<&str>,
    ) -> Result<(), ApiError> {
        if let (Some(agent), Some(rate)) = (agent, self.agent) {
            let name = format!("{} {agent}", who.workspace);
            self.count(to, Per::Agent, &name, Some(rate))?;
        }
        if self.actions.is_empty() {
            return Ok(());
        }
        let groups = groups_of(action);
        for (name, rate) in &self.actions {
            if name == action || groups.contains(name) {
                let key = format!("{} {} {} {name}", who.workspace, who.kind, who.id);
                self.count(to, Per::Action, &key, Some(*rate))?;
            }
        }
        Ok(())
    }
}
