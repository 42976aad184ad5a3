//! Stores that are mounted in the vault: asked for what is meant when what is kept of it is too old. Policies decide
//! before a store is asked, so that nobody finds out by waiting what is there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skep_core::config::Settings;
use skep_core::{Code, MountId, PublicError as _, Timestamp, Workspace};
use skep_sources::{Reach, Source, SourceError};
use skep_store::{By, Db};
use skep_vault::{Mount, NewMount, SecretName, SecretValue, Vault, VaultError};
use tokio::sync::Semaphore;

use crate::ServerError;
use crate::act::Own;
use crate::outgoing;
use crate::problem::ApiError;
use crate::vault::{KnownSecret, known};

/// How long a store may take for one secret.
const TIME: Duration = Duration::from_secs(10);
/// And for all of them.
const TIME_OF_ALL: Duration = Duration::from_secs(60);
/// Questions to one store at once.
const AT_ONCE: usize = 4;
/// Stores of which all is read at once.
const WHOLE_AT_ONCE: usize = 2;
/// How long a store that failed is not asked again.
const AGAIN: Duration = Duration::from_secs(5);
/// Answers that are remembered; then all are forgotten, and asked for again.
const MOST_SEEN: usize = 10_000;
/// Secrets that are read at once.
const MOST: usize = 1_000;

/// What a store said of a secret.
#[derive(Debug, Clone)]
enum Said {
    /// The vault has its value.
    There,
    /// It has none of that name.
    Gone,
    /// It could not be asked, or said no.
    Failed(Failed),
}

/// Why a store does not give a secret.
#[derive(Debug, Clone)]
struct Failed {
    /// For who asks: nothing of where it is, or of what it says.
    why: String,
    /// Whether it may be otherwise soon by itself: then what is kept counts meanwhile.
    passing: bool,
}

impl Failed {
    fn new(error: &SourceError) -> Self {
        let why = match error {
            SourceError::Refused { status, .. } => format!("the store said {status}"),
            SourceError::Network { .. } | SourceError::Late(_) => {
                "the store cannot be reached".to_owned()
            }
            SourceError::Name { .. } => "the store can have no secret of that name".to_owned(),
            _ => "the store cannot be asked, or is not understood".to_owned(),
        };
        Self {
            why,
            passing: error.is_passing(),
        }
    }

    fn ours(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            passing: false,
        }
    }
}

/// How a store is doing.
struct Store {
    places: Arc<Semaphore>,
    /// It could not be reached: nobody asks again until then.
    rests: Option<(Timestamp, Failed)>,
}

/// When a secret was asked for, and what was said. Who asks holds it; the others wait for that.
type Seen = Arc<tokio::sync::Mutex<Option<(Timestamp, Said)>>>;

/// A store, and the version of its credentials.
type Opened = (u32, Arc<Source>);

/// What a store has.
pub(crate) struct All {
    said: Vec<(SecretName, Option<SecretValue>)>,
    asked: Timestamp,
    /// Names that no secret here can have, and values that are too large or empty.
    pub(crate) odd: usize,
}

/// Who asks.
pub(crate) struct Mounts {
    db: Db,
    vault: Vault,
    reach: Reach,
    opened: Mutex<HashMap<MountId, Opened>>,
    seen: Mutex<HashMap<(MountId, SecretName), Seen>>,
    stores: Mutex<HashMap<MountId, Store>>,
    whole: Semaphore,
}

/// A store by its address and what opens it: variables by name, as a JSON object.
fn store(address: &str, with: &SecretValue, reach: &Reach) -> Result<Source, String> {
    let form = "its credentials are no JSON object of variables, such as {\"VAULT_ADDR\": …, \"VAULT_TOKEN\": …}";
    let variables: HashMap<String, zeroize::Zeroizing<String>> =
        serde_json::from_slice(with.bytes()).map_err(|_| form.to_owned())?;
    // A file of this server is not theirs to name.
    if let Some(name) = variables
        .keys()
        .find(|it| it.ends_with("_CACERT") || it.ends_with("_CA_BUNDLE"))
    {
        return Err(format!(
            "{name} names a file: its certificate must be one that this system trusts"
        ));
    }
    let variable = |name: &str| {
        let value = variables.get(name).map(|it| it.as_str().to_owned());
        value.filter(|it| !it.trim().is_empty())
    };
    let source = Source::of(address, &variable, Some(reach)).map_err(|error| error.to_string())?;
    source.ok_or_else(|| {
        format!("`{address}` is no address of a store: write vault:MOUNT/PATH or aws:PREFIX")
    })
}

impl Mounts {
    pub(crate) fn open(
        settings: &Settings,
        db: &Db,
        vault: &Vault,
    ) -> Result<Arc<Self>, ServerError> {
        let reach = outgoing::reach(&outgoing::guard(settings)?);
        Ok(Arc::new(Self {
            db: db.clone(),
            vault: vault.clone(),
            reach,
            opened: Mutex::default(),
            seen: Mutex::default(),
            stores: Mutex::default(),
            whole: Semaphore::new(WHOLE_AT_ONCE),
        }))
    }

    fn own(&self) -> By {
        By::new(Arc::new(Own(self.db.server())))
    }

    async fn source(&self, of: &Workspace, mount: &NewMount) -> Result<Opened, String> {
        let with = self.vault.read(of, mount.with, None).await;
        let (version, with) =
            with.map_err(|error| format!("its credentials: {}", error.detail()))?;
        let (address, reach) = (mount.address.clone(), self.reach.clone());
        // It reads the system's certificates.
        let made = tokio::task::spawn_blocking(move || store(&address, &with, &reach)).await;
        let made = made.map_err(|error| error.to_string())??;
        Ok((version, Arc::new(made)))
    }

    /// The store of a mount, as its credentials are now.
    async fn opened(&self, of: &Workspace, mount: &Mount) -> Result<Arc<Source>, String> {
        let now = self.vault.versions(of, mount.of.with).await;
        let latest = now.ok().and_then(|all| all.last().map(|it| it.number));
        if let Some((version, source)) = self.opened.lock().get(&mount.id)
            && Some(*version) == latest
        {
            return Ok(source.clone());
        }
        let opened = self.source(of, &mount.of).await?;
        self.opened.lock().insert(mount.id, opened.clone());
        Ok(opened.1)
    }

    /// Where one asks a store, unless it rests.
    fn places(&self, mount: MountId, now: Timestamp) -> Result<Arc<Semaphore>, Failed> {
        let mut stores = self.stores.lock();
        let store = stores.entry(mount).or_insert_with(|| Store {
            places: Arc::new(Semaphore::new(AT_ONCE)),
            rests: None,
        });
        match &store.rests {
            Some((until, failed)) if *until > now => Err(failed.clone()),
            _ => Ok(store.places.clone()),
        }
    }

    /// The value of a secret in a store.
    async fn value(
        &self,
        of: &Workspace,
        mount: &Mount,
        name: &SecretName,
    ) -> Result<Option<SecretValue>, Failed> {
        let there = mount.below(name).unwrap_or_default();
        let closed = |_| Failed::ours("the server ends");
        let places = self.places(mount.id, self.db.clock().now())?;
        let _place = places.acquire().await.map_err(closed)?;
        // Who waited for a place may have waited for nothing.
        self.places(mount.id, self.db.clock().now())?;
        let asked = async {
            let source = self.opened(of, mount).await.map_err(Failed::ours)?;
            source.get(there).await.map_err(|error| {
                let (mount, workspace) = (mount.id, of);
                tracing::warn!(%mount, %workspace, %error, "a mounted store does not give a secret");
                Failed::new(&error)
            })
        };
        let late = || {
            Err(Failed {
                why: "the store gave no answer in time".to_owned(),
                passing: true,
            })
        };
        let asked = tokio::time::timeout(TIME, asked).await;
        let value = asked.unwrap_or_else(|_| late()).inspect_err(|failed| {
            let until = self.db.clock().now().plus(AGAIN);
            if let Some(store) = self.stores.lock().get_mut(&mount.id)
                && failed.passing
            {
                store.rests = Some((until, failed.clone()));
            }
        })?;
        let value = value.map(|it| SecretValue::new(it.to_vec())).transpose();
        value.map_err(|error| Failed::ours(error.detail()))
    }

    /// What the store says of a secret, unless it was asked a moment ago.
    async fn look(
        &self,
        of: &Workspace,
        mount: &Mount,
        name: &SecretName,
    ) -> Result<Said, VaultError> {
        let came = self.db.clock().now();
        let seen = {
            let mut all = self.seen.lock();
            if all.len() >= MOST_SEEN {
                all.clear();
            }
            all.entry((mount.id, name.clone())).or_default().clone()
        };
        let mut seen = seen.lock().await;
        let asked = self.db.clock().now();
        if let Some((at, said)) = &*seen {
            let lasts = match said {
                Said::Failed(_) => AGAIN,
                Said::There | Said::Gone => mount.of.cache,
            };
            // Who waited while it was asked has their answer.
            if *at >= came || asked.since(*at) < lasts {
                return Ok(said.clone());
            }
        }
        let said = match self.value(of, mount, name).await {
            Err(failed) => Said::Failed(failed),
            Ok(value) => {
                let said = (vec![(name.clone(), value)], false);
                let own = self.own();
                match self.vault.follow(&own, of, mount.id, said, asked).await? {
                    0 => Said::Gone,
                    _ => Said::There,
                }
            }
        };
        *seen = Some((self.db.clock().now(), said.clone()));
        Ok(said)
    }

    /// A secret as it is to be used: what is below a mount is asked for first, when what is kept is too old, or when
    /// nothing is. None when there is none.
    ///
    /// # Errors
    /// [`Code::MountUnavailable`] when nothing that counts is kept and the store cannot be asked.
    pub(crate) async fn settle(
        &self,
        of: &Workspace,
        before: KnownSecret,
        holder: &str,
        of_value: bool,
    ) -> Result<Option<KnownSecret>, ApiError> {
        let Some(mount) = before.mount.as_ref() else {
            return Ok(Some(before));
        };
        if before.is_here() && !of_value {
            return Ok(Some(before));
        }
        let name = before.secret.about.name.clone();
        match self.look(of, mount, &name).await? {
            Said::There | Said::Gone => {}
            Said::Failed(Failed { why, passing }) => {
                // A no is a no; only who cannot be asked is believed for a while.
                let counts = passing && self.vault.read(of, before.secret.id, None).await.is_ok();
                if !counts {
                    let detail = format!("`{}` does not give it: {why}", mount.of.path);
                    return Err(ApiError::new(Code::MountUnavailable, detail));
                }
            }
        }
        let after = known(&self.vault, of, name.as_str(), holder).await?;
        // What was decided on, and nothing that has its name meanwhile.
        let is_it = |after: &KnownSecret| match before.is_here() {
            true => after.secret.id == before.secret.id,
            false => {
                let (one, other) = (&after.secret.about, &before.secret.about);
                after.mount.as_ref().is_some_and(|it| it.id == mount.id)
                    && (&one.tags, one.canary) == (&other.tags, other.canary)
                    && after.shared == before.shared
            }
        };
        Ok(after.filter(|it| it.is_here() && is_it(it)))
    }

    /// All that a store has.
    async fn all(&self, source: &Source, path: &SecretName) -> Result<All, String> {
        let _place = self
            .whole
            .acquire()
            .await
            .map_err(|error| error.to_string())?;
        let asked = self.db.clock().now();
        let read = tokio::time::timeout(TIME_OF_ALL, source.read()).await;
        let entries = match read.unwrap_or_else(|_| Err(SourceError::Late(path.to_string()))) {
            Ok(entries) => entries,
            Err(SourceError::Missing(_)) => Vec::new(),
            Err(error) => return Err(error.to_string()),
        };
        let count = entries.len();
        let mut said: BTreeMap<SecretName, Vec<SecretValue>> = BTreeMap::new();
        for entry in entries {
            let name = format!("{path}/{}", entry.name).parse();
            let value = SecretValue::new(entry.value.to_vec());
            if let (Ok(name), Ok(value)) = (name, value) {
                said.entry(name).or_default().push(value);
            }
        }
        // Of two with one name none is the one that is meant.
        let said = said.into_iter().filter(|(_, values)| values.len() == 1);
        let said = said.map(|(name, mut values)| (name, values.pop()));
        let said: Vec<_> = said.collect();
        Ok(All {
            odd: count - said.len(),
            said,
            asked,
        })
    }

    /// What a store has that is to be mounted: whether it can be asked at all.
    ///
    /// # Errors
    /// [`Code::MountUnavailable`].
    pub(crate) async fn probe(&self, of: &Workspace, mount: &NewMount) -> Result<All, ApiError> {
        let probed = async {
            let (_, source) = self.source(of, mount).await?;
            self.all(&source, &mount.path).await
        };
        let failed =
            |why| ApiError::new(Code::MountUnavailable, format!("`{}`: {why}", mount.path));
        probed.await.map_err(failed)
    }

    /// Keeps what a store has, and that it has no more. Over 1,000 secrets are left to be asked for one by one.
    ///
    /// # Errors
    /// The vault's own.
    pub(crate) async fn keep(
        &self,
        of: &Workspace,
        mount: &Mount,
        all: All,
    ) -> Result<usize, VaultError> {
        if all.said.len() > MOST {
            return Ok(0);
        }
        let kept = self
            .vault
            .follow(&self.own(), of, mount.id, (all.said, true), all.asked)
            .await?;
        self.forget(mount.id);
        Ok(kept)
    }

    /// Asks a store for all that it has.
    ///
    /// # Errors
    /// [`Code::MountUnavailable`].
    pub(crate) async fn refresh(
        &self,
        of: &Workspace,
        mount: &Mount,
    ) -> Result<(usize, usize), ApiError> {
        self.forget(mount.id);
        let all = self.probe(of, &mount.of).await?;
        let odd = all.odd;
        Ok((self.keep(of, mount, all).await?, odd))
    }

    /// Forgets what a store said, so that it is asked again.
    pub(crate) fn forget(&self, mount: MountId) {
        self.opened.lock().remove(&mount);
        self.stores.lock().remove(&mount);
        self.seen.lock().retain(|(of, _), _| *of != mount);
    }

    /// The mount of that id.
    pub(crate) async fn find(&self, of: &Workspace, id: MountId) -> Result<Mount, VaultError> {
        let all = self.vault.mounts(of).await?;
        all.into_iter()
            .find(|it| it.id == id)
            .ok_or(VaultError::NoMount(id))
    }
}
