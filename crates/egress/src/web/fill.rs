//! Puts values in the place of placeholders: in texts, in percent-encoding and in JSON. What was put in is not looked at
//! again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use zeroize::Zeroizing;

/// What a placeholder that an agent was lent begins with.
pub const LEASE: &str = "lse_";
/// Characters of one behind that.
const LEASE_REST: usize = 26;
/// Placeholders of one request that are looked at.
const MOST_LEASES: usize = 16;

/// How a text is written in which a value is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// As it is.
    Plain,
    /// As URLs and forms write it.
    Percent,
    /// Within a text of JSON.
    Json,
}

/// What stands for which value.
#[derive(Default)]
pub(super) struct Filled(Vec<(String, Zeroizing<Vec<u8>>)>);

impl std::fmt::Debug for Filled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filled({})", self.0.len())
    }
}

/// As URLs write it.
pub(super) fn percent(value: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(value.len() * 3));
    for byte in value {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(*byte),
            _ => text.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    text
}

fn written(value: &[u8], how: How) -> Zeroizing<Vec<u8>> {
    match how {
        How::Plain => Zeroizing::new(value.to_vec()),
        How::Percent => percent(value),
        How::Json => {
            let quoted = std::str::from_utf8(value)
                .ok()
                .and_then(|it| serde_json::to_string(it).ok());
            let inner = quoted.as_ref().and_then(|it| it.get(1..it.len() - 1));
            Zeroizing::new(inner.map_or_else(|| value.to_vec(), |it| it.as_bytes().to_vec()))
        }
    }
}

/// Texts that may be placeholders which somebody was lent.
pub(super) fn leases(bytes: &[u8], found: &mut Vec<String>) {
    for at in memmem::find_iter(bytes, LEASE.as_bytes()) {
        let end = at + LEASE.len() + LEASE_REST;
        let text = bytes
            .get(at..end)
            .and_then(|it| std::str::from_utf8(it).ok());
        let Some(text) = text.map(str::to_owned) else {
            continue;
        };
        if found.len() < MOST_LEASES && !found.contains(&text) {
            found.push(text);
        }
    }
}

impl Filled {
    /// With another one.
    pub(super) fn add(&mut self, placeholder: String, value: Zeroizing<Vec<u8>>) {
        self.0.push((placeholder, value));
    }

    /// The text with the values; nothing, when no placeholder stands in it.
    pub(super) fn text(&self, bytes: &[u8], how: How) -> Option<Zeroizing<Vec<u8>>> {
        let mut out = Zeroizing::new(Vec::new());
        let mut rest = bytes;
        let mut changed = false;
        loop {
            let first = self.0.iter().filter_map(|(placeholder, value)| {
                let at = memmem::find(rest, placeholder.as_bytes())?;
                Some((at, placeholder.len(), value))
            });
            // Of two that begin at one place the longer one is meant.
            let Some((at, length, value)) =
                first.min_by_key(|(at, length, _)| (*at, usize::MAX - length))
            else {
                break;
            };
            changed = true;
            let (before, after) = rest.split_at(at);
            out.extend_from_slice(before);
            out.extend_from_slice(&written(value, how));
            rest = after.get(length..).unwrap_or_default();
        }
        out.extend_from_slice(rest);
        changed.then_some(out)
    }

    /// As [`Self::text`], and also within the Base64 of `Basic …`.
    pub(super) fn header(&self, value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        if let Some(inner) = basic(value)
            && let Some(filled) = self.text(&inner, How::Plain)
        {
            let text = Zeroizing::new(STANDARD.encode(&*filled));
            return Some(Zeroizing::new([b"Basic ", text.as_bytes()].concat()));
        }
        self.text(value, How::Plain)
    }
}

/// What stands in a header's `Basic …`.
pub(super) fn basic(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = value.split_at_checked(6)?;
    let rest = scheme.eq_ignore_ascii_case(b"basic ").then_some(rest)?;
    STANDARD.decode(rest.trim_ascii()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENT: &str = "lse_01h455vb4pex5vsknk084sn02q";

    fn filled(pairs: &[(&str, &str)]) -> Filled {
        let mut all = Filled::default();
        for (placeholder, value) in pairs {
            all.add(
                (*placeholder).to_owned(),
                Zeroizing::new(value.as_bytes().to_vec()),
            );
        }
        all
    }

    fn text(filled: &Filled, text: &str, how: How) -> Option<String> {
        filled
            .text(text.as_bytes(), how)
            .map(|it| String::from_utf8(it.to_vec()).unwrap())
    }

    #[test]
    fn a_value_stands_where_its_placeholder_stood() {
        let one = filled(&[(LENT, "a b\"/c")]);
        for (before, how, after) in [
            (format!("Bearer {LENT}"), How::Plain, Some("Bearer a b\"/c")),
            (
                format!("{LENT}{LENT}x"),
                How::Plain,
                Some("a b\"/ca b\"/cx"),
            ),
            (
                format!("/bot{LENT}/send?k={LENT}"),
                How::Percent,
                Some("/bota%20b%22%2Fc/send?k=a%20b%22%2Fc"),
            ),
            (
                format!("{{\"k\":\"{LENT}\"}}"),
                How::Json,
                Some("{\"k\":\"a b\\\"/c\"}"),
            ),
            ("nothing".to_owned(), How::Plain, None),
        ] {
            assert_eq!(text(&one, &before, how).as_deref(), after, "{before}");
        }
    }

    #[test]
    fn what_was_put_in_is_not_looked_at_again() {
        let two = filled(&[("placeholder-a", "placeholder-b"), ("placeholder-b", "x")]);
        assert_eq!(
            text(&two, "placeholder-a placeholder-b", How::Plain).unwrap(),
            "placeholder-b x"
        );
        let nested = filled(&[("placeholder", "short"), ("placeholder-long", "long")]);
        assert_eq!(
            text(&nested, "placeholder-long placeholder", How::Plain).unwrap(),
            "long short"
        );
    }

    #[test]
    fn one_in_a_basic_header_is_found() {
        let header = format!("basic {}", STANDARD.encode(format!("git:{LENT}")));
        let done = filled(&[(LENT, "key")]).header(header.as_bytes()).unwrap();
        let expected = format!("Basic {}", STANDARD.encode("git:key"));
        assert_eq!(&*done, expected.as_bytes());
        let mut found = Vec::new();
        leases(&basic(header.as_bytes()).unwrap(), &mut found);
        leases(b"lse_short", &mut found);
        leases(LENT.as_bytes(), &mut found);
        assert_eq!(found, [LENT]);
    }
}
