//! Who the bearer of a token is here: a workspace and a role, as the issuer's configuration says.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use skep_core::Workspace;

use super::{Issuer, Refusal};
use crate::policy::{Principal, PrincipalKind, Role, Scopes};

/// Steps of a path to a claim.
const MOST_STEPS: usize = 8;
/// Claims that hold several words in one text (RFC 8693, section 4.2).
const WORDS: [&str; 2] = ["scope", "scp"];

/// Where a claim is: names of objects in objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(Vec<String>);

impl Path {
    pub(super) fn new(steps: Vec<String>) -> Result<Self, String> {
        if steps.is_empty() || steps.len() > MOST_STEPS || steps.iter().any(String::is_empty) {
            return Err(format!(
                "a claim's path has 1 to {MOST_STEPS} names with dots between them"
            ));
        }
        Ok(Self(steps))
    }

    fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, rest) = self.0.split_first()?;
        let mut at = claims.get(first)?;
        for step in rest {
            at = at.as_object()?.get(step)?;
        }
        Some(at)
    }
}

/// Which workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Fixed(Workspace),
    /// What stands round the value of a claim.
    Around(String, Path, String),
}

impl Place {
    /// A name, in which `{path}` may stand once for a claim.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some((before, rest)) = text.split_once('{') else {
            let fixed = Workspace::new(text).map_err(|error| error.to_string())?;
            return Ok(Self::Fixed(fixed));
        };
        let (path, after) = rest
            .split_once('}')
            .filter(|(_, after)| !after.contains('{'))
            .ok_or("there is at most one `{claim}` in it")?;
        let path = Path::new(path.split('.').map(str::to_owned).collect())?;
        Ok(Self::Around(before.to_owned(), path, after.to_owned()))
    }
}

/// Which role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rank {
    Fixed(Role),
    /// By the values of a claim; the highest counts.
    Of(Path, BTreeMap<String, Role>),
}

/// Claims in, workspace and role out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) place: Place,
    /// The only workspaces that it leads to, when that is bounded.
    pub(super) within: Option<Vec<Workspace>>,
    pub(super) rank: Rank,
}

impl Mapping {
    pub(super) fn apply(&self, claims: &Map<String, Value>) -> Result<(Workspace, Role), Refusal> {
        let workspace = match &self.place {
            Place::Fixed(workspace) => workspace.clone(),
            Place::Around(before, path, after) => {
                let value = path.find(claims).and_then(Value::as_str);
                let value = value.ok_or(Refusal::Mapping)?;
                let name = format!("{before}{value}{after}");
                Workspace::new(&name).map_err(|_| Refusal::Mapping)?
            }
        };
        let within = self.within.as_ref();
        if within.is_some_and(|within| !within.contains(&workspace)) {
            return Err(Refusal::Mapping);
        }
        let role = match &self.rank {
            Rank::Fixed(role) => Some(*role),
            Rank::Of(path, table) => highest(path, path.find(claims), table),
        };
        Ok((workspace, role.ok_or(Refusal::Mapping)?))
    }
}

fn highest(path: &Path, value: Option<&Value>, table: &BTreeMap<String, Role>) -> Option<Role> {
    let of = |text: &str| table.get(text).copied();
    match value? {
        Value::String(text) if WORDS.contains(&path.0[0].as_str()) && path.0.len() == 1 => {
            text.split(' ').filter_map(of).max()
        }
        Value::String(text) => of(text),
        Value::Array(all) => all.iter().filter_map(Value::as_str).filter_map(of).max(),
        _ => None,
    }
}

/// The bearer as everybody here knows them: the same for the same issuer and subject, always, and
/// nobody else. Which subject it is cannot be read from it, only checked.
pub(super) fn principal(
    issuer: &Issuer,
    subject: &str,
    workspace: Workspace,
    role: Role,
) -> Principal {
    let digest = Sha256::new()
        .chain_update(issuer.issuer.as_bytes())
        .chain_update([0])
        .chain_update(subject.as_bytes())
        .finalize();
    let hash: String = digest[..16].iter().map(|it| format!("{it:02x}")).collect();
    Principal {
        kind: PrincipalKind::User,
        id: format!("ext_{}_{hash}", issuer.name).into(),
        workspace,
        role: Some(role),
        scopes: Scopes::all(),
    }
}
