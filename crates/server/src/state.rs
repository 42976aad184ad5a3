//! What every handler reaches: the capabilities, joined.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use skep_compliance::Framework;
use skep_core::Timestamp;
use skep_egress::llm::Models;
use skep_egress::mcp::Tools;
use skep_egress::web::Web;
use skep_egress::webhooks::Webhooks;
use skep_guard::Policies;
use skep_guard::identity::{Sessions, Tenants, Users};
use skep_guard::keys::Keys;
use skep_guard::tokens::TokenKey;
use skep_ingress::Ingress;
use skep_runs::Runs;
use skep_runtime::{Driver, Runtime};
use skep_store::Db;
use skep_vault::Vault;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::a2a::push::Pushes;
use crate::audit::Audit;
use crate::backups::Backups;
use crate::budgets::OverBudget;
use crate::metrics::ServerMetrics;
use crate::mounts::Mounts;
use crate::outside::Outside;
use crate::peers::Peers;
use crate::providers::Logins;
use crate::quotas::Held;
use crate::rates::Rates;
use crate::renewals::Renewals;
use crate::telemetry::Tracer;
use crate::threats::Threats;
use crate::tls::Tls;
use crate::ways::Ways;

/// The composed server.
pub(crate) struct State {
    pub(crate) db: Db,
    pub(crate) runtime: Runtime,
    pub(crate) ingress: Ingress,
    /// The way out to models.
    pub(crate) models: Models,
    /// The way out to tools.
    pub(crate) tools: Tools,
    /// How large and how slow a request to one may be.
    pub(crate) model_bounds: crate::models::Bounds,
    /// What runs may take.
    pub(crate) run_bounds: crate::runs::Bounds,
    /// Whether a browser's cookie lets in where topics are followed.
    pub(crate) live_cookies: bool,
    /// The way out to the web.
    pub(crate) web: Web,
    /// What tells others what happens here.
    pub(crate) webhooks: Webhooks,
    /// What tells clients what becomes of their tasks.
    pub(crate) pushes: Pushes,
    /// Which budgets it was told of that they were over.
    pub(crate) over_budget: OverBudget,
    /// Where this server is.
    pub(crate) own: crate::proxy::Own,
    pub(crate) audit: Arc<Audit>,
    pub(crate) backups: Arc<Backups>,
    /// The frameworks that hold here.
    pub(crate) frameworks: Vec<Framework>,
    pub(crate) keys: Keys,
    /// The certificates, with TLS.
    pub(crate) tls: Option<Arc<Tls>>,
    /// Who comes with a token of another issuer.
    pub(crate) outside: Outside,
    /// The providers that people log in by.
    pub(crate) logins: Logins,
    pub(crate) policies: Arc<Policies>,
    /// How often anybody may ask.
    pub(crate) rates: Rates,
    /// How much workspaces may have.
    pub(crate) quotas: Held,
    /// What agents' tokens are signed with.
    pub(crate) tokens: TokenKey,
    pub(crate) tenants: Tenants,
    pub(crate) users: Users,
    pub(crate) sessions: Sessions,
    pub(crate) threats: Threats,
    pub(crate) vault: Vault,
    /// The stores that are mounted in it.
    pub(crate) mounts: Arc<Mounts>,
    /// What the configuration has to open it with.
    pub(crate) ways: Ways,
    /// Wakes who carries out rotations.
    pub(crate) vault_work: Notify,
    pub(crate) renewals: Renewals,
    /// Told when a secret is to be renewed.
    pub(crate) renewal_work: Notify,
    /// The servers that share the database.
    pub(crate) peers: Peers,
    pub(crate) registry: Mutex<Registry>,
    pub(crate) metrics: ServerMetrics,
    /// Where spans go, when they go somewhere.
    pub(crate) tracer: Option<Arc<Tracer>>,
    pub(crate) started: Timestamp,
    pub(crate) min_free: u64,
    /// What runs instances.
    pub(crate) drivers: Vec<Arc<dyn Driver>>,
    /// Places for commands in agents' boxes; none at all when that is turned off.
    pub(crate) execs: Option<Arc<Semaphore>>,
    /// Fires when the server ends; what has no end of its own ends then.
    pub(crate) stop: CancellationToken,
}

impl State {
    /// What agents were asked, and what came of it.
    pub(crate) fn runs(&self) -> Runs {
        Runs::new(self.db.clone())
    }

    /// Time since the start.
    pub(crate) fn uptime(&self) -> Duration {
        self.db.clock().now().since(self.started)
    }

    /// The metrics in OpenMetrics text form.
    pub(crate) fn scrape(self: &Arc<Self>) -> String {
        self.ingress.refresh_metrics();
        self.metrics.refresh(self);
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry.lock());
        text
    }
}
