//! What instances are lent of the vault: placeholders of secrets, and files with the values that a
//! program must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use async_trait::async_trait;
use skep_core::{InstanceId, Workspace, Workspaces};
use zeroize::Zeroizing;

use crate::RuntimeError;
use crate::agents;
use crate::driver::Place;
use crate::held;
use crate::mint::Ways;
use crate::service::Runtime;
use crate::spec::{Named, Spec, filled};
use crate::supervise::Charge;

/// Lends secrets to instances.
#[async_trait]
pub trait Lender: std::fmt::Debug + Send + Sync {
    /// What an instance is given for each secret that its specification names. Asked again it is the
    /// same as long as the instance lives, but for values that have changed.
    ///
    /// # Errors
    /// [`NotLent`]; then it is not to be started.
    async fn lend(
        &self,
        place: &Place,
        named: &BTreeSet<Named>,
    ) -> Result<BTreeMap<Named, Lent>, NotLent>;

    /// Takes back what an instance was given: it has ended.
    async fn take_back(&self, place: &Place);
}

/// What an instance is given for a secret.
pub enum Lent {
    /// What stands for it.
    Placeholder(String),
    /// The value, for a file.
    Value(Zeroizing<Vec<u8>>),
}

/// Why a secret is not lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotLent {
    /// In words, with what to do.
    pub reason: String,
    /// Whether it is the agent's to mend. Else it is tried again without an end.
    pub counts: bool,
}

/// A value for a file.
type Held = (Named, Zeroizing<Vec<u8>>);

/// What a start is given of the vault.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) held: Option<PathBuf>,
    /// Where the instance reaches this server.
    pub(crate) server: Option<String>,
    /// Where the instance sees the certificates that it is to believe.
    pub(crate) bundle: Option<PathBuf>,
    pub(crate) ways: Ways,
}

/// The file of those certificates, among those that an instance holds.
const BUNDLE: &str = "ca.pem";

impl Charge {
    /// Gets what an instance is to be given that begins.
    pub(crate) async fn borrow(&self, place: &Place) -> Result<Given, NotLent> {
        self.borrow_as(place, true).await
    }

    /// Gets what an instance has that runs, for a command in its box.
    pub(crate) async fn borrow_again(&self, place: &Place) -> Result<Given, NotLent> {
        let runs = || match self.slot.live().0.contains(&place.instance) {
            true => Ok(()),
            false => Err(NotLent {
                reason: "the instance has ended".to_owned(),
                counts: false,
            }),
        };
        runs()?;
        let given = self.borrow_as(place, false).await?;
        if let Err(ended) = runs() {
            // What it was given it has given back already.
            self.give_back(place).await;
            return Err(ended);
        }
        Ok(given)
    }

    async fn borrow_as(&self, place: &Place, begins: bool) -> Result<Given, NotLent> {
        let spec: &Spec = &self.spec;
        let mint = self.slot.shared.mint.as_ref();
        let ways = match mint {
            Some(mint) => mint.ways(&self.slot.workspace).await,
            None => Ways::default(),
        };
        let bundle = ways.web.as_ref().and_then(|it| it.bundle.clone());
        let bundle = bundle.filter(|_| !says_proxy(&spec.env));
        let server = self.server().await?;
        if spec.secrets.is_empty() {
            let held = self
                .hold(place, (Vec::new(), begins), &mut BTreeMap::new(), bundle)
                .await?;
            let (held, bundle) = held;
            return Ok(Given {
                env: BTreeMap::new(),
                held,
                server,
                bundle,
                ways,
            });
        }
        let lender = self.slot.shared.lender.as_ref().ok_or_else(|| NotLent {
            reason: "there is no vault here that lends secrets".to_owned(),
            counts: true,
        })?;
        let lent = lender.lend(place, &spec.secrets).await?;
        let (mut texts, mut values) = (BTreeMap::new(), Vec::new());
        for (named, lent) in lent {
            match lent {
                Lent::Placeholder(text) => drop(texts.insert(named, text)),
                Lent::Value(value) => values.push((named, value)),
            }
        }
        let (held, bundle) = self
            .hold(place, (values, begins), &mut texts, bundle)
            .await?;
        let env = filled(&spec.env, &texts);
        Ok(Given {
            env,
            held,
            server,
            bundle,
            ways,
        })
    }

    /// Where an instance reaches this server.
    async fn server(&self) -> Result<Option<String>, NotLent> {
        let Some(url) = &self.slot.shared.url else {
            return Ok(None);
        };
        let at = self.driver.server_at(url).await;
        at.map_err(|error| NotLent {
            reason: format!("it would not reach Skep: {error}"),
            counts: false,
        })
    }

    /// Writes values and certificates into files of their own, and tells which is where. An instance that runs without
    /// certificates goes on so.
    async fn hold(
        &self,
        place: &Place,
        (values, begins): (Vec<Held>, bool),
        texts: &mut BTreeMap<Named, String>,
        bundle: Option<String>,
    ) -> Result<(Option<PathBuf>, Option<PathBuf>), NotLent> {
        if values.is_empty() && bundle.is_none() {
            return Ok((None, None));
        }
        let holds = !values.is_empty();
        let files: Vec<_> = values
            .into_iter()
            .enumerate()
            .map(|(index, (named, value))| (held::name(index, &named.name), named, value))
            .collect();
        let mut given: Vec<_> = files
            .iter()
            .map(|(name, _, value)| (name.clone(), value.clone()))
            .collect();
        given.extend(bundle.map(|it| (BUNDLE.to_owned(), Zeroizing::new(it.into_bytes()))));
        let (data, instance) = (self.slot.shared.db.folder().to_owned(), place.instance);
        let held = tokio::task::spawn_blocking(move || match begins {
            true => held::put(&data, instance, &given),
            false => held::find(&data, instance),
        })
        .await;
        let held = held
            .map_err(|error| error.to_string())
            .and_then(|held| held);
        let folder = match held {
            Ok(folder) => folder,
            Err(_) if !holds && !begins => return Ok((None, None)),
            Err(reason) if !holds => {
                tracing::warn!(reason, "an instance is not given the workspace's CA");
                return Ok((None, None));
            }
            Err(reason) => {
                return Err(NotLent {
                    reason: format!("a secret's file cannot be made: {reason}"),
                    counts: false,
                });
            }
        };
        let bundle = folder.join(BUNDLE).exists();
        let seen = self.driver.held_at(&folder);
        let at = |name: &str| seen.join(name).to_string_lossy().into_owned();
        texts.extend(files.into_iter().map(|(name, named, _)| (named, at(&name))));
        let bundle = bundle.then(|| seen.join(BUNDLE));
        Ok((Some(folder), bundle))
    }

    /// Gives back what an instance had.
    pub(crate) async fn give_back(&self, place: &Place) {
        let (data, instance) = (self.slot.shared.db.folder().to_owned(), place.instance);
        // What is left is swept.
        let _ = tokio::task::spawn_blocking(move || held::remove(&data, instance)).await;
        if let Some(lender) = &self.slot.shared.lender
            && !self.spec.secrets.is_empty()
        {
            lender.take_back(place).await;
        }
    }
}

/// What clients read of a proxy, in both cases.
const PROXY: [&str; 4] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];
/// What they read of the certificates that they believe.
const CERTIFICATES: [&str; 6] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "DENO_CERT",
];

/// Whether a specification says itself by which proxy its program goes.
fn says_proxy(said: &BTreeMap<String, String>) -> bool {
    PROXY
        .iter()
        .any(|it| said.contains_key(*it) || said.contains_key(&it.to_ascii_lowercase()))
}

/// What clients read that go out to the web: where the proxy is, with the token of who goes, and which certificates they
/// are to believe. Nothing of it that the specification says itself.
pub(crate) fn by_proxy(
    given: (&Ways, Option<&PathBuf>),
    contract: &BTreeMap<String, String>,
    said: &BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let (Some(url), Some(token)) = (contract.get("SKEP_URL"), contract.get("SKEP_TOKEN")) else {
        return Vec::new();
    };
    let Some((scheme, authority)) = url.split_once("://").filter(|_| given.0.web.is_some()) else {
        return Vec::new();
    };
    if says_proxy(said) {
        return Vec::new();
    }
    let proxy = format!("{scheme}://agent:{token}@{authority}");
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    // What an agent has of its own listens on loopback.
    let mut direct = vec!["localhost", "127.0.0.1", "::1"];
    if !direct.contains(&host) {
        direct.push(host);
    }
    let direct = direct.join(",");
    let mut all = Vec::new();
    for (name, value) in [
        ("HTTP_PROXY", &proxy),
        ("HTTPS_PROXY", &proxy),
        ("NO_PROXY", &direct),
    ] {
        all.push((name.to_owned(), value.clone()));
        all.push((name.to_ascii_lowercase(), value.clone()));
    }
    if !said.contains_key("NODE_USE_ENV_PROXY") {
        all.push(("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned()));
    }
    let bundle = given.1.map(|it| it.to_string_lossy().into_owned());
    let unsaid = CERTIFICATES.iter().filter(|it| !said.contains_key(**it));
    all.extend(bundle.iter().flat_map(|bundle| {
        unsaid
            .clone()
            .map(|name| ((*name).to_owned(), bundle.clone()))
    }));
    all
}

impl Runtime {
    /// Removes files with secrets of instances that have ended, and whose end did not do that.
    ///
    /// # Errors
    /// [`RuntimeError::Store`].
    pub async fn sweep_held(&self, workspaces: &Workspaces) -> Result<(), RuntimeError> {
        let data = self.db().folder().to_owned();
        let there = tokio::task::spawn_blocking(move || held::all(&data)).await;
        // First what is there: who begins after that has its row already.
        let there = there.unwrap_or_default();
        if there.is_empty() {
            return Ok(());
        }
        let mut living = BTreeSet::new();
        for workspace in workspaces.all().iter() {
            living.extend(self.living(workspace).await?);
        }
        let data = self.db().folder().to_owned();
        let swept = tokio::task::spawn_blocking(move || {
            for instance in there.difference(&living) {
                if let Err(error) = held::remove(&data, *instance) {
                    tracing::warn!(%instance, %error, "files with secrets are left");
                }
            }
        });
        // It panics, or the process ends: the next look sweeps.
        let _ = swept.await;
        Ok(())
    }

    /// The instances of a workspace, of all servers, that have begun and whose end is not known.
    ///
    /// # Errors
    /// [`RuntimeError::Store`].
    pub async fn living(
        &self,
        workspace: &Workspace,
    ) -> Result<BTreeSet<InstanceId>, RuntimeError> {
        let of = workspace.clone();
        let open: Result<Vec<_>, skep_store::StoreError> = self
            .db()
            .read(move |reader| agents::open_instances(reader, &of, None))
            .await;
        Ok(open?.into_iter().map(|row| row.id).collect())
    }
}
