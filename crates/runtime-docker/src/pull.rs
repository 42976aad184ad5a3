//! Getting images from registries: whether one has an image, with which login it is asked, a pull
//! and what it tells, and whose fault it is that an image cannot be got.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::models::{CreateImageInfo, ImageInspect};
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;
use skep_core::units::{format_bytes, format_duration};
use skep_runtime::{DriverError, Image, News, Pull, RuntimeError, Tell};
use tokio::sync::Semaphore;

use crate::credentials::{Credentials, registry_of};
use crate::engine::{Engine, Trouble};

/// Time in which a registry must say whether it has an image.
const ASK_REGISTRY: Duration = Duration::from_secs(15);
/// Time between two lines about a pull that is under way.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Pulls at the same time, of all agents; each has several connections of the engine's.
const PULLS_AT_ONCE: usize = 8;
/// Layers of an image whose progress is counted.
const MOST_LAYERS: usize = 256;

/// How long pulls may take.
#[derive(Debug, Clone, Copy)]
pub struct PullLimits {
    /// The longest time without any progress.
    pub pause: Duration,
    /// The longest time altogether. What was got until then stays at the engine.
    pub total: Duration,
}

impl Default for PullLimits {
    fn default() -> Self {
        Self {
            pause: Duration::from_secs(120),
            total: Duration::from_secs(3_600),
        }
    }
}

/// Why an image is not got.
#[derive(Debug)]
enum NotGot {
    /// There is no such image, or it is not for us.
    Refused(String),
    /// Its registry wants another login: who runs the server can give it, and nothing else changes.
    Login(String),
    /// It may be got later.
    Away(String),
}

impl From<NotGot> for DriverError {
    fn from(not_got: NotGot) -> Self {
        match not_got {
            NotGot::Refused(why) => Self::Refused(why),
            NotGot::Login(why) | NotGot::Away(why) => Self::Unavailable(why),
        }
    }
}

/// The registries, through an engine.
pub(crate) struct Pulls {
    engine: Arc<Engine>,
    credentials: Credentials,
    limits: PullLimits,
    places: Semaphore,
}

/// The reference with its tag: without one an engine would pull every tag.
fn tagged(reference: &str) -> String {
    let last = reference.rsplit('/').next().unwrap_or_default();
    match reference.contains('@') || last.contains(':') {
        true => reference.to_owned(),
        false => format!("{reference}:latest"),
    }
}

fn by_hand(reference: &str) -> String {
    format!("put it here: docker pull {reference}, or docker load")
}

/// Why an image that is never pulled is not there.
pub(crate) fn never(reference: &str) -> String {
    format!(
        "the image {reference} is not here, and `pull` is `never`; {}",
        by_hand(reference)
    )
}

impl Pulls {
    pub(crate) fn new(engine: Arc<Engine>, file: Option<PathBuf>, limits: PullLimits) -> Self {
        Self {
            engine,
            credentials: Credentials::new(file),
            limits,
            places: Semaphore::new(PULLS_AT_ONCE),
        }
    }

    /// The image if it is here.
    ///
    /// For one that is not, asks whether it could be got.
    pub(crate) async fn look(&self, image: &Image) -> Result<Option<ImageInspect>, RuntimeError> {
        let wrong = |reason: String| RuntimeError::spec("image", reason);
        let reference = &image.reference;
        match self.engine.image(reference).await {
            Ok(found) if image.pull != Pull::Always => return Ok(Some(found)),
            Ok(_) | Err(Trouble::Missing(_)) => {}
            Err(Trouble::Refused(400, why)) => {
                return Err(wrong(format!("`{reference}` is no reference: {why}")));
            }
            Err(other) => return Err(DriverError::from(other).into()),
        }
        if image.pull == Pull::Never {
            return Err(wrong(never(reference)));
        }
        let login = self.credentials.of(registry_of(reference)).await?;
        let (asked, shown) = (tagged(reference), login.is_some());
        let answer = self.engine.ask(|docker| async move {
            let docker = match &login {
                Some(login) => login.on(docker, registry_of(&asked)),
                None => docker,
            };
            docker.inspect_registry_image(&asked, None).await
        });
        let trouble = match tokio::time::timeout(ASK_REGISTRY, answer).await {
            Ok(Ok(_)) => return Ok(None),
            Ok(Err(trouble)) => trouble,
            Err(_) => {
                let limit = format_duration(ASK_REGISTRY);
                Trouble::Refused(504, format!("no answer within {limit}"))
            }
        };
        match self.not_got(reference, trouble, shown) {
            NotGot::Refused(why) | NotGot::Login(why) => Err(wrong(why)),
            away @ NotGot::Away(_) => Err(DriverError::from(away).into()),
        }
    }

    /// Gets the image if it has to be got.
    pub(crate) async fn fetch(&self, image: &Image, tell: Tell<'_>) -> Result<(), DriverError> {
        let reference = &image.reference;
        if image.pull != Pull::Always {
            match self.engine.image(reference).await {
                Ok(_) => return Ok(()),
                Err(Trouble::Missing(_)) => {}
                Err(other) => return Err(other.into()),
            }
        }
        if image.pull == Pull::Never {
            return Err(DriverError::Refused(never(reference)));
        }
        let _place = self.places.acquire().await;
        let login = self.credentials.of(registry_of(reference)).await?;
        let shown = login.is_some();
        let docker = self.engine.get().await?.docker;
        let docker = match &login {
            Some(login) => login.on(docker, registry_of(reference)),
            None => docker,
        };
        // The engine begins its answer when the registry has begun its own: how long that may take is
        // said here, and this one knows whole seconds only.
        let docker = docker.with_timeout(self.limits.pause.saturating_add(ASK_REGISTRY));
        let pull = self.pull(docker, reference, tell);
        let pulled = tokio::time::timeout(self.limits.total, pull).await;
        let pulled = pulled.unwrap_or_else(|_| {
            let limit = format_duration(self.limits.total);
            Err(Trouble::Refused(504, format!("not done within {limit}")))
        });
        pulled.map_err(|trouble| self.not_got(reference, trouble, shown).into())
    }

    async fn pull(
        &self,
        docker: bollard::Docker,
        reference: &str,
        tell: Tell<'_>,
    ) -> Result<(), Trouble> {
        let news = |event, text| tell(News { event, text });
        news(Some("image.pulling"), format!("pulling {reference}"));
        let options = CreateImageOptions {
            from_image: Some(tagged(reference)),
            ..CreateImageOptions::default()
        };
        let began = Instant::now();
        let (mut told, mut layers) = (began, Layers::default());
        let mut steps = std::pin::pin!(docker.create_image(Some(options), None, None));
        loop {
            let step = match tokio::time::timeout(self.limits.pause, steps.next()).await {
                Ok(None) => break,
                Ok(Some(Ok(step))) => step,
                Ok(Some(Err(error))) => return Err(self.engine.failed(&error).await),
                Err(_) => {
                    let limit = format_duration(self.limits.pause);
                    return Err(Trouble::Refused(504, format!("no progress for {limit}")));
                }
            };
            layers.add(step);
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                news(None, format!("pulling {reference}: {}", layers.progress()));
            }
        }
        let took = began.elapsed().as_secs_f64();
        let digest = layers.digest.unwrap_or_default();
        news(
            Some("image.pulled"),
            format!("pulled {reference} in {took:.1} s {digest}")
                .trim_end()
                .to_owned(),
        );
        Ok(())
    }

    /// What it means that an image cannot be got. `shown`: a login was.
    fn not_got(&self, reference: &str, trouble: Trouble, shown: bool) -> NotGot {
        const WANTS_LOGIN: [&str; 4] = [
            "no basic auth credentials",
            "unauthorized",
            "authentication required",
            "incorrect username or password",
        ];
        const FINAL: [&str; 4] = ["denied", "not found", "manifest unknown", "invalid"];
        let here = format!("the image {reference} is not here");
        let (status, why) = match trouble {
            Trouble::Away(why) => return NotGot::Away(why),
            Trouble::Missing(why) => (404, why),
            Trouble::Refused(status, why) => (status, why),
        };
        let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
        if says(&["denied"]) || (matches!(status, 400 | 404) && !says(&WANTS_LOGIN)) {
            return NotGot::Refused(format!(
                "{here}, and its registry does not have it or not for us: {why}; check the \
                 reference, {}, or {}",
                self.log_in(registry_of(reference), shown),
                by_hand(reference)
            ));
        }
        if status == 401 || says(&WANTS_LOGIN) {
            let registry = registry_of(reference);
            let refused = match shown {
                true => "refused the login that there is for it",
                false => "wants a login",
            };
            return NotGot::Login(format!(
                "{here}, and {registry} {refused}: {why}; {}, or {}",
                self.log_in(registry, shown),
                by_hand(reference)
            ));
        }
        if says(&FINAL) {
            return NotGot::Refused(format!(
                "{here}, and cannot be got: {why}; check the reference, or {}",
                by_hand(reference)
            ));
        }
        NotGot::Away(format!(
            "{here}, and its registry does not answer as it should: {why}; wait until it does, or {}",
            by_hand(reference)
        ))
    }

    /// How a registry comes to its login.
    fn log_in(&self, registry: &str, shown: bool) -> String {
        match self.credentials.file() {
            Some(file) if shown => format!(
                "log in again (docker login {registry}) for {} (`docker.credentials`)",
                file.display()
            ),
            Some(file) => format!(
                "add a login (docker login {registry}) to {} (`docker.credentials`)",
                file.display()
            ),
            None => format!(
                "log in (docker login {registry}) and name the file in `docker.credentials`"
            ),
        }
    }
}

/// How far the layers of an image are.
#[derive(Default)]
struct Layers {
    /// Bytes so far, of how many, and whether it is there.
    all: HashMap<String, (u64, u64, bool)>,
    digest: Option<String>,
}

impl Layers {
    fn add(&mut self, step: CreateImageInfo) {
        let status = step.status.unwrap_or_default();
        if let Some(digest) = status.strip_prefix("Digest: ") {
            self.digest = Some(digest.to_owned());
        }
        let Some(id) = step.id else { return };
        // The first line is about the tag.
        let about_all = status.starts_with("Pulling from");
        if about_all || (self.all.len() >= MOST_LAYERS && !self.all.contains_key(&id)) {
            return;
        }
        let layer = self.all.entry(id).or_default();
        let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        match status.as_str() {
            "Downloading" => {
                let detail = step.progress_detail.unwrap_or_default();
                layer.0 = number(detail.current).unwrap_or(layer.0);
                layer.1 = number(detail.total).unwrap_or(layer.1);
            }
            "Download complete" => layer.0 = layer.1,
            "Pull complete" | "Already exists" => layer.2 = true,
            _ => {}
        }
    }

    fn progress(&self) -> String {
        let done = self.all.values().filter(|layer| layer.2).count();
        let (got, of) = self.all.values().fold((0_u64, 0_u64), |sum, layer| {
            (sum.0.saturating_add(layer.0), sum.1.saturating_add(layer.1))
        });
        format!(
            "{done} of {} layers, {} of {}",
            self.all.len(),
            format_bytes(got),
            format_bytes(of)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_a_tag() {
        for (given, expected) in [
            ("a", "a:latest"),
            ("host:5000/a", "host:5000/a:latest"),
            ("host:5000/a:1", "host:5000/a:1"),
            ("a@sha256:00", "a@sha256:00"),
        ] {
            assert_eq!(tagged(given), expected);
        }
    }

    #[test]
    fn tells_who_is_at_fault() {
        let engine = Arc::new(Engine::new(PathBuf::from("/nowhere")));
        let pulls = Pulls::new(engine, None, PullLimits::default());
        // What engines say, word for word.
        let said = |status, why: &str| pulls.not_got("r.example/a", trouble(status, why), false);
        for (status, why) in [
            (
                500,
                "Get \"https://r.example/v2/\": dial tcp: lookup r.example: no such host",
            ),
            (
                500,
                "Get \"https://r.example/v2/\": dial tcp 127.0.0.1:9: connect: connection refused",
            ),
            (500, "unexpected EOF"),
            (504, "no progress for 2m"),
        ] {
            assert!(matches!(said(status, why), NotGot::Away(_)), "{why}");
        }
        for (status, why) in [
            (404, "manifest unknown: manifest unknown"),
            (
                500,
                "manifest for a:2 not found: manifest unknown: manifest unknown",
            ),
            (
                404,
                "pull access denied for a, repository does not exist or may require 'docker login'",
            ),
            (400, "invalid reference format"),
        ] {
            assert!(matches!(said(status, why), NotGot::Refused(_)), "{why}");
        }
        for (status, why) in [
            (
                500,
                "Head \"https://r.example/v2/a/manifests/1\": no basic auth credentials",
            ),
            (500, "unauthorized: authentication required"),
            (401, "unauthorized: authentication required"),
        ] {
            assert!(matches!(said(status, why), NotGot::Login(_)), "{why}");
        }
    }

    fn trouble(status: u16, why: &str) -> Trouble {
        match status {
            404 => Trouble::Missing(why.to_owned()),
            _ => Trouble::Refused(status, why.to_owned()),
        }
    }

    #[test]
    fn counts_layers() {
        let mut layers = Layers::default();
        for line in [
            r#"{"id":"1","status":"Pulling from a"}"#,
            r#"{"id":"aa","status":"Already exists"}"#,
            r#"{"id":"bb","status":"Downloading","progressDetail":{"current":1048576,"total":4194304}}"#,
            r#"{"status":"Digest: sha256:00"}"#,
        ] {
            layers.add(serde_json::from_str(line).unwrap());
        }
        assert_eq!(layers.progress(), "1 of 2 layers, 1MiB of 4MiB");
        assert_eq!(layers.digest.as_deref(), Some("sha256:00"));
    }
}
