//! Which tables there are.

use skep_store::MigrationSet;

/// The migrations of every capability that has tables.
#[must_use]
pub fn migrations() -> [MigrationSet; 15] {
    [
        skep_audit::MIGRATIONS,
        skep_guard::keys::MIGRATIONS,
        skep_guard::identity::MIGRATIONS,
        skep_guard::quotas::MIGRATIONS,
        skep_guard::threats::rows::MIGRATIONS,
        skep_runtime::Runtime::MIGRATIONS,
        skep_runtime::EVENT_MIGRATIONS,
        skep_ingress::MIGRATIONS,
        skep_ingress::HOUR_MIGRATIONS,
        skep_runs::MIGRATIONS,
        skep_guard::policy::MIGRATIONS,
        skep_vault::MIGRATIONS,
        skep_egress::MIGRATIONS,
        skep_egress::mcp::MIGRATIONS,
        skep_egress::webhooks::MIGRATIONS,
    ]
}
