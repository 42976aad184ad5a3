//! The ways out, made together: to models, to tools and to the web. They share one ledger.

use std::sync::Arc;

use skep_core::Workspaces;
use skep_core::config::Settings;
use skep_egress::llm::Models;
use skep_egress::mcp::{Boxes, Tools};
use skep_egress::web::Web;
use skep_runtime::Driver;
use skep_store::{By, Db};
use skep_vault::Vault;

use crate::boxes::OfProcesses;
use crate::credentials::Credentials;
use crate::mounts::Mounts;
use crate::{ServerError, mcp, models, proxy};

/// The ways out.
pub(crate) struct Outs {
    pub(crate) models: Models,
    pub(crate) tools: Tools,
    pub(crate) web: Web,
}

/// Opens them.
pub(crate) async fn outs(
    settings: &Settings,
    (db, workspaces): (&Db, &Workspaces),
    (vault, mounts): (&Vault, &Arc<Mounts>),
    (drivers, own): (&[Arc<dyn Driver>], &By),
) -> Result<Outs, ServerError> {
    let credentials = Arc::new(Credentials::new(db, vault, mounts));
    let models = models::open(settings, db, credentials.clone(), workspaces).await?;
    let boxes = boxes_of(drivers);
    let tools = mcp::open(settings, db, credentials.clone(), &models, (boxes, own))?;
    let web = proxy::open(settings, db, &models, credentials)?;
    Ok(Outs { models, tools, web })
}

/// What runs programs of MCP servers.
fn boxes_of(drivers: &[Arc<dyn Driver>]) -> Option<Arc<dyn Boxes>> {
    let process = drivers.iter().find(|it| it.kind() == "process")?;
    Some(Arc::new(OfProcesses(process.clone())))
}
