//! AWS Signature Version 4, for requests whose body is at hand, to any service but S3
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>).

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use skep_core::Timestamp;
use zeroize::Zeroizing;

/// Who signs, and for what.
pub struct Signer<'a> {
    /// The id of the access key.
    pub access_key: &'a str,
    /// The key itself.
    pub secret_key: &'a str,
    /// Such as `eu-central-1`.
    pub region: &'a str,
    /// Such as `bedrock`.
    pub service: &'a str,
}

/// What is signed of a request.
pub struct Signed<'a> {
    /// Such as `POST`.
    pub method: &'a str,
    /// The path as it is sent.
    pub path: &'a str,
    /// The query as it is sent, without its `?`.
    pub query: &'a str,
    /// Names in lower case and in order, each once.
    pub headers: &'a [(&'a str, &'a str)],
    /// All of it.
    pub body: &'a [u8],
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    // A key of any length is one.
    let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(key) else {
        return Vec::new();
    };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// A time as a header `x-amz-date` has it: `20260102T030405Z`.
#[must_use]
pub fn date(now: Timestamp) -> String {
    let now = now.to_string();
    let now: String = now.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{}Z", now.split('.').next().unwrap_or_default())
}

/// A text with all but the plainest letters, and those that it keeps, as `%XX`.
fn encoded(text: &str, keeps: &[u8]) -> String {
    let mut made = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keeps.contains(&byte) {
            true => made.push(char::from(byte)),
            false => made.push_str(&format!("%{byte:02X}")),
        }
    }
    made
}

/// A query in the order and the form in which it is signed.
fn canonical(query: &str) -> String {
    let pairs = query.split('&').filter(|it| !it.is_empty());
    let mut pairs: Vec<(String, String)> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (encoded(name, b"%"), encoded(value, b"%"))
        })
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

impl Signer<'_> {
    /// The header `authorization` of a request. `now` is its `x-amz-date` ([`date`]), which is among its headers.
    #[must_use]
    pub fn authorization(&self, signed: &Signed<'_>, now: &str) -> String {
        let names: Vec<&str> = signed.headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let line = |(name, value): &(&str, &str)| {
            let words: Vec<&str> = value.split_ascii_whitespace().collect();
            format!("{name}:{}\n", words.join(" "))
        };
        let lines: String = signed.headers.iter().map(line).collect();
        let body = hex(&Sha256::digest(signed.body));
        // All services but S3 encode once more what is encoded already.
        let (path, query) = (encoded(signed.path, b"/"), canonical(signed.query));
        let method = signed.method;
        let request = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{body}");
        let day = now.split('T').next().unwrap_or_default();
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let digest = hex(&Sha256::digest(request.as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}");
        let mut key = Zeroizing::new(mac(format!("AWS4{}", self.secret_key).as_bytes(), day));
        for part in [self.region, self.service, "aws4_request"] {
            key = Zeroizing::new(mac(&key, part));
        }
        let signature = hex(&mac(&key, &text));
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.access_key
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "20150830T123600Z";

    fn signed(method: &str, query: &str, headers: &[(&str, &str)]) -> String {
        let signer = Signer {
            access_key: "AKIDEXAMPLE",
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            region: "us-east-1",
            service: "service",
        };
        let signed = Signed {
            method,
            path: "/",
            query,
            headers,
            body: b"",
        };
        signer.authorization(&signed, NOW)
    }

    /// Of AWS' own test suite for Signature Version 4: `post-vanilla`, `post-header-key-sort`,
    /// `get-vanilla-query-order-key-case`.
    #[test]
    fn signatures_are_those_of_the_test_suite() {
        let plain = [("host", "example.amazonaws.com"), ("x-amz-date", NOW)];
        let expected = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
            SignedHeaders=host;x-amz-date, \
            Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
        assert_eq!(signed("POST", "", &plain), expected);
        let more = [
            ("host", "example.amazonaws.com"),
            ("my-header1", "value1"),
            ("x-amz-date", NOW),
        ];
        let told = signed("POST", "", &more);
        let expected = "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c";
        assert!(told.ends_with(expected), "{told}");
        let told = signed("GET", "Param2=value2&Param1=value1", &plain);
        let expected = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500";
        assert!(told.ends_with(expected), "{told}");
    }

    #[test]
    fn what_is_signed_is_in_one_form() {
        assert_eq!(encoded("/v1/a:b%2Fc", b"/"), "/v1/a%3Ab%252Fc");
        assert_eq!(canonical("b=2&a&a=%20x/"), "a=&a=%20x%2F&b=2");
        assert_eq!(canonical(""), "");
        let at: Timestamp = "2026-01-02T03:04:05.678901Z".parse().unwrap();
        assert_eq!(date(at), "20260102T030405Z");
    }
}
