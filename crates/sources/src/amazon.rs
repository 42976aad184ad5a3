//! Requests to services of AWS that speak JSON 1.1.

use ::http::{Method, Uri};
use serde::Deserialize;
use skep_core::Timestamp;
use zeroize::Zeroizing;

use crate::http::{Answer, Http};
use crate::sigv4::{Signed, Signer, date};
use crate::{Reach, SourceError, Variable};

const JSON: &str = "application/x-amz-json-1.1";
const UNSET: &str = "who asks AWS and where is not said: set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION";

/// A client of one service in one region.
pub(crate) struct Client {
    http: Http,
    host: String,
    service: &'static str,
    access_key: String,
    secret_key: Zeroizing<String>,
    session: Option<Zeroizing<String>>,
    region: String,
}

/// The name of an error.
#[derive(Default, Deserialize)]
struct Wrong {
    #[serde(default, rename = "__type")]
    kind: String,
}

/// Whether an answer is this error.
pub(crate) fn is(answer: &Answer, kind: &str) -> bool {
    let wrong: Wrong = serde_json::from_slice(&answer.body).unwrap_or_default();
    answer.status >= 400 && wrong.kind.rsplit('#').next() == Some(kind)
}

impl Client {
    /// The client of a service, with the variable of its own address; in this region, or in the one that the
    /// environment says.
    pub(crate) fn of(
        (service, address): (&'static str, &str),
        region: Option<&str>,
        variable: Variable<'_>,
        reach: Option<&Reach>,
    ) -> Result<Self, SourceError> {
        let unset = || SourceError::Unset(UNSET);
        let said = || variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
        let region = region.map(str::to_owned).or_else(said);
        let region = region.ok_or_else(unset)?;
        // It becomes a part of a host's name, to which credentials go.
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if region.is_empty() || !region.chars().all(fits) {
            return Err(SourceError::Unset("AWS_REGION is no region of AWS"));
        }
        let own = || format!("https://{service}.{region}.amazonaws.com");
        let base = variable(address)
            .or_else(|| variable("AWS_ENDPOINT_URL"))
            .unwrap_or_else(own);
        let http = Http::new(&base, variable("AWS_CA_BUNDLE").as_deref(), reach)?;
        let uri: Uri = http.base().parse().unwrap_or_default();
        Ok(Self {
            host: uri.authority().map(ToString::to_string).unwrap_or_default(),
            http,
            service,
            access_key: variable("AWS_ACCESS_KEY_ID").ok_or_else(unset)?,
            secret_key: Zeroizing::new(variable("AWS_SECRET_ACCESS_KEY").ok_or_else(unset)?),
            session: variable("AWS_SESSION_TOKEN").map(Zeroizing::new),
            region,
        })
    }

    /// Asks for an action, such as `secretsmanager.GetSecretValue`.
    pub(crate) async fn ask(&self, target: &str, body: Vec<u8>) -> Result<Answer, SourceError> {
        let now = date(Timestamp::system_now());
        let mut headers = vec![
            ("content-type", JSON),
            ("host", self.host.as_str()),
            ("x-amz-date", now.as_str()),
        ];
        headers.extend(
            self.session
                .as_ref()
                .map(|it| ("x-amz-security-token", it.as_str())),
        );
        headers.push(("x-amz-target", target));
        let signer = Signer {
            access_key: &self.access_key,
            secret_key: &self.secret_key,
            region: &self.region,
            service: self.service,
        };
        let signed = Signed {
            method: "POST",
            path: "/",
            query: "",
            headers: &headers,
            body: &body,
        };
        let signed = signer.authorization(&signed, &now);
        headers.push(("authorization", signed.as_str()));
        let answer = self.http.ask(Method::POST, "/", &headers, body).await?;
        match is(&answer, "ThrottlingException") {
            // AWS says so with a status 400, as of what is wrong for good.
            true => Err(SourceError::Refused {
                status: 429,
                said: "it is asked too often".to_owned(),
            }),
            false => Ok(answer),
        }
    }
}
