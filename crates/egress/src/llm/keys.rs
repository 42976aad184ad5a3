//! How a provider is shown a key: in a header, or by a signature with it.

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Request};
use http_body_util::Full;
use serde::Deserialize;
use skep_core::{Timestamp, Workspace};
use skep_sources::sigv4::{Signed, Signer, date};
use zeroize::{Zeroize as _, Zeroizing};

use super::provider::{Kind, Provider};
use super::service::Models;
use crate::links::host_of;

/// What AWS calls Bedrock where requests are signed, and what the names of its hosts have before the region.
const BEDROCK: &str = "bedrock";
const HOSTS: [&str; 2] = ["bedrock-runtime", "bedrock-runtime-fips"];
/// What of a request to AWS is signed besides its host.
const SIGNED: &str = "x-amz";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SESSION: HeaderName = HeaderName::from_static("x-amz-security-token");

/// A key of AWS, as its own programs print it (`aws configure export-credentials`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AwsKey {
    access_key_id: String,
    secret_access_key: String,
    #[serde(default)]
    session_token: Option<String>,
    /// Where the address does not say it.
    #[serde(default)]
    region: Option<String>,
}

impl Drop for AwsKey {
    fn drop(&mut self) {
        self.secret_access_key.zeroize();
        self.session_token.zeroize();
    }
}

impl Models {
    /// Puts the key that a secret holds into a request, whose body is given besides; or tells why that cannot be.
    pub(super) async fn show(
        &self,
        (workspace, secret): (&Workspace, &str),
        provider: &Provider,
        (request, body): (&mut Request<Full<Bytes>>, &[u8]),
    ) -> Result<(), String> {
        let key = self.0.keys.key(workspace, secret).await?;
        let key = key.trim_ascii();
        if provider.kind == Kind::Bedrock && key.starts_with(b"{") {
            return sign(request, body, (key, self.0.db.clock().now()));
        }
        let (name, before) = provider.kind.key_header();
        let mut value = Zeroizing::new(before.as_bytes().to_vec());
        value.extend_from_slice(key);
        let value = HeaderValue::from_bytes(&value);
        let mut value = value.map_err(|_| "its value cannot stand in a header".to_owned())?;
        value.set_sensitive(true);
        request.headers_mut().insert(name, value);
        Ok(())
    }
}

/// The region in the name of a host of Bedrock.
fn region(host: &str) -> Option<&str> {
    let mut labels = host.split('.');
    labels.find(|it| HOSTS.contains(it))?;
    labels.next()
}

/// Signs a request with a key of AWS.
fn sign(
    request: &mut Request<Full<Bytes>>,
    body: &[u8],
    (key, now): (&[u8], Timestamp),
) -> Result<(), String> {
    // The parser's own words could show some of it.
    let key: AwsKey = serde_json::from_slice(key).map_err(|_| {
        "its value begins as a key of AWS does and is none: \
         {\"AccessKeyId\": …, \"SecretAccessKey\": …}, as `aws configure export-credentials` prints it"
            .to_owned()
    })?;
    let uri = request.uri().clone();
    let of_host = region(uri.host().unwrap_or_default());
    let region = of_host.or(key.region.as_deref()).ok_or_else(|| {
        "neither the provider's address nor the key (`Region`) says in which region of AWS it is"
            .to_owned()
    })?;
    let now = date(now);
    let mut put = |name: HeaderName, value: &str| {
        let value = HeaderValue::from_str(value);
        let mut value = value.map_err(|_| "it cannot stand in a header".to_owned())?;
        value.set_sensitive(true);
        request.headers_mut().insert(name, value);
        Ok::<_, String>(())
    };
    put(HOST, &host_of(&uri))?;
    put(DATE, &now)?;
    match &key.session_token {
        Some(token) => put(SESSION, token)?,
        // One of the client's would be another's.
        None => _ = request.headers_mut().remove(SESSION),
    }
    let headers = signed_headers(request.headers());
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let signer = Signer {
        access_key: &key.access_key_id,
        secret_key: &key.secret_access_key,
        region,
        service: BEDROCK,
    };
    let signed = Signed {
        method: request.method().as_str(),
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        headers: &headers,
        body,
    };
    let signature = signer.authorization(&signed, &now);
    let mut signature =
        HeaderValue::try_from(signature).map_err(|_| "its id is none of AWS".to_owned())?;
    signature.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, signature);
    Ok(())
}

/// The headers that are signed, in order, each once.
fn signed_headers(headers: &HeaderMap) -> Vec<(&str, String)> {
    let is_signed = |name: &&HeaderName| *name == HOST || name.as_str().starts_with(SIGNED);
    let mut signed: Vec<(&str, String)> = headers
        .keys()
        .filter(is_signed)
        .map(|name| {
            let all = headers.get_all(name).iter();
            let all: Vec<&str> = all.filter_map(|it| it.to_str().ok()).collect();
            (name.as_str(), all.join(","))
        })
        .collect();
    signed.sort();
    signed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(uri: &str, key: &str) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::post(uri).body(Full::default()).unwrap();
        let theirs = HeaderValue::from_static("theirs");
        request.headers_mut().insert(SESSION, theirs);
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        sign(&mut request, b"{}", (key.as_bytes(), now))?;
        Ok(request)
    }

    #[test]
    fn a_region_stands_in_the_name_of_a_host_or_beside_the_key() {
        for (host, expected) in [
            (
                "bedrock-runtime.eu-central-1.amazonaws.com",
                Some("eu-central-1"),
            ),
            (
                "bedrock-runtime-fips.us-east-1.amazonaws.com",
                Some("us-east-1"),
            ),
            (
                "vpce-1-a.bedrock-runtime.us-west-2.vpce.amazonaws.com",
                Some("us-west-2"),
            ),
            ("127.0.0.1", None),
        ] {
            assert_eq!(region(host), expected, "{host}");
        }
        let key = r#"{"Version":1,"AccessKeyId":"AKIDEXAMPLE","SecretAccessKey":"canary"}"#;
        let told = asked("http://127.0.0.1:8/openai/v1/x", key).unwrap_err();
        assert!(
            told.contains("`Region`") && !told.contains("canary"),
            "{told}"
        );
        let key = key.replace('}', r#","Region":"eu-west-1"}"#);
        let request = asked("http://127.0.0.1:8/openai/v1/x", &key).unwrap();
        let signature = request.headers()[AUTHORIZATION].to_str().unwrap();
        let scope = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/eu-west-1/bedrock/aws4_request, \
                     SignedHeaders=host;x-amz-date, Signature=";
        assert!(signature.starts_with(scope), "{signature}");
        assert_eq!(request.headers()[HOST], "127.0.0.1:8");
        assert!(!request.headers().contains_key(SESSION), "a client's own");
    }

    #[test]
    fn a_key_that_is_none_is_not_shown_to_anybody() {
        let uri = "https://bedrock-runtime.eu-central-1.amazonaws.com/openai/v1/x";
        for wrong in [
            "{\"canary",
            "{}",
            r#"{"AccessKeyId":"canary"}"#,
            r#"{"AccessKeyId":"a","SecretAccessKey":"b","SessionToken":"canary\n"}"#,
            r#"{"AccessKeyId":"canary\n","SecretAccessKey":"b"}"#,
        ] {
            let told = asked(uri, wrong).unwrap_err();
            assert!(!told.contains("canary"), "{told}");
        }
    }
}
