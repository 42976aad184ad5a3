//! AWS Signature Version 4, for requests whose body is at hand.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Who signs.
pub(crate) struct Signer<'a> {
    pub(crate) access_key: &'a str,
    pub(crate) secret_key: &'a str,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
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

impl Signer<'_> {
    /// The header `authorization` of a request to `/` without a query. Headers are in lower case and in order; `now`
    /// is a time such as `20260102T030405Z`, which is the header `x-amz-date`, too.
    pub(crate) fn authorization(
        &self,
        method: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        now: &str,
    ) -> String {
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}:{}\n", value.trim()))
            .collect();
        let body = hex(&Sha256::digest(body));
        let request = format!("{method}\n/\n\n{lines}\n{names}\n{body}");
        let day = now.split('T').next().unwrap_or_default();
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let digest = hex(&Sha256::digest(request.as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}");
        let mut key = mac(format!("AWS4{}", self.secret_key).as_bytes(), day);
        for part in [self.region, self.service, "aws4_request"] {
            key = mac(&key, part);
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

    /// Of AWS' own test suite for Signature Version 4: `post-vanilla` and `post-header-key-sort`.
    #[test]
    fn signatures_are_those_of_the_test_suite() {
        let signer = Signer {
            access_key: "AKIDEXAMPLE",
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            region: "us-east-1",
            service: "service",
        };
        let now = "20150830T123600Z";
        let headers = [("host", "example.amazonaws.com"), ("x-amz-date", now)];
        let signed = signer.authorization("POST", &headers, b"", now);
        let expected = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
            SignedHeaders=host;x-amz-date, \
            Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
        assert_eq!(signed, expected);
        let headers = [
            ("host", "example.amazonaws.com"),
            ("my-header1", "value1"),
            ("x-amz-date", now),
        ];
        let signed = signer.authorization("POST", &headers, b"", now);
        assert!(
            signed.ends_with("c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"),
            "{signed}"
        );
    }
}
