//! Files that SOPS encrypts (github.com/getsops/sops), for age: read with their MAC checked, and written so that
//! SOPS itself reads them.
//!
//! A data key encrypts each value by itself, bound to the path of its names; age recipients have the data key.
//! A MAC over all values, in their order, says that nothing was moved or taken away. Other key services (PGP,
//! clouds) and groups of keys are not known here, and rules by comments neither: such a file is refused.

mod rules;
mod value;

use sha2::{Digest, Sha512};
use skep_crypto::age::{Identity, Recipient, file};
use skep_crypto::{Key, same};
use zeroize::Zeroizing;

use crate::node::{self, Node, quote};
use crate::{Entry, ExchangeError, MOST_DEPTH, dotenv, json, yaml};
use rules::Rules;
use value::Plain;

/// The name that SOPS keeps for itself.
const OWN: &str = "sops";
const OWN_FLAT: &str = "sops_";
/// What the names of values end with that stay in the open, unless a file says otherwise.
const OPEN_SUFFIX: &str = "_unencrypted";
/// The version of SOPS whose form is written.
const VERSION: &str = "3.9.0";
/// What the MAC of encrypted values alone begins with: the SHA-256 of `sops`.
const ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b,
    0x0b, 0x97, 0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

/// In which form a file of SOPS is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
    /// `.env`, of SOPS' own simpler kind.
    Dotenv,
}

/// A file of SOPS that is still encrypted.
pub(crate) struct Tree {
    fields: Vec<(String, Node)>,
    about: Node,
}

/// The file as a tree, when it is one of SOPS.
pub(crate) fn tree(store: Store, text: &str, must: bool) -> Result<Option<Tree>, ExchangeError> {
    let missing = || ExchangeError::sops("there is no `sops` in it: it is not encrypted");
    let (fields, about) = match store {
        Store::Dotenv => {
            let is_own = |line: &str| line.starts_with("sops_mac=");
            if !text.lines().any(is_own) {
                return if must { Err(missing()) } else { Ok(None) };
            }
            flat(text)?
        }
        Store::Yaml | Store::Json => {
            let root = match store {
                Store::Json => json::read(text)?,
                _ => yaml::read(text)?,
            };
            let Node::Map(mut fields) = root else {
                return if must { Err(missing()) } else { Ok(None) };
            };
            let at = fields.iter().position(|(name, value)| {
                name == OWN && value.field("mac").is_some() && value.field("lastmodified").is_some()
            });
            match at {
                Some(at) => {
                    let (_, about) = fields.remove(at);
                    (fields, about)
                }
                None if must => return Err(missing()),
                None => return Ok(None),
            }
        }
    };
    Ok(Some(Tree { fields, about }))
}

/// Fields in order, and what SOPS says of them.
type Parts = (Vec<(String, Node)>, Node);

/// SOPS' own `.env`: no quotes, and `\n` for a line's end. Its own fields are flattened.
fn flat(text: &str) -> Result<Parts, ExchangeError> {
    let (mut fields, mut about, mut age) = (Vec::new(), Vec::new(), Vec::new());
    for (number, line) in text.split('\n').enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or_else(|| {
            ExchangeError::wrong(Some(number + 1), None, "there is no `=` in the line")
        })?;
        let value = Node::Text(Zeroizing::new(value.replace("\\n", "\n")));
        match name.strip_prefix(OWN_FLAT) {
            None => fields.push((name.to_owned(), value)),
            Some(own) => {
                if own.starts_with("age__list_") && own.ends_with("__map_enc") {
                    age.push(Node::Map(vec![("enc".to_owned(), value)]));
                } else if own.starts_with("key_groups__") || own.starts_with("shamir_") {
                    about.push(("key_groups".to_owned(), Node::List(vec![value])));
                } else {
                    about.push((own.to_owned(), value));
                }
            }
        }
    }
    about.push(("age".to_owned(), Node::List(age)));
    Ok((fields, Node::Map(about)))
}

/// What is set in the part that SOPS keeps for itself.
fn said(about: &Node, name: &str) -> Option<Zeroizing<String>> {
    let text = about.field(name).and_then(Node::scalar);
    text.filter(|text| !text.is_empty())
}

fn data_key(about: &Node, identities: &[Identity]) -> Result<Key, ExchangeError> {
    let groups = about.field("key_groups");
    if matches!(groups, Some(Node::List(groups)) if !groups.is_empty()) {
        let what =
            "its key is parted among groups of keys (Shamir), which Skep does not put together";
        return Err(ExchangeError::sops(what));
    }
    let sealed: Vec<Zeroizing<String>> = match about.field("age") {
        Some(Node::List(all)) => {
            let texts = all.iter().filter_map(|it| it.field("enc")?.scalar());
            texts.collect()
        }
        _ => Vec::new(),
    };
    if sealed.is_empty() {
        let what = "it is encrypted for no age recipient (PGP and clouds' keys are not known): add one with \
                    `sops rotate --add-age`";
        return Err(ExchangeError::sops(what));
    }
    if identities.is_empty() {
        return Err(ExchangeError::NoIdentity);
    }
    let mut why = skep_crypto::CryptoError::WrongKey;
    for sealed in sealed.iter().take(file::MOST_KEYS) {
        match file::open(identities, sealed.as_bytes()) {
            Ok(key) => {
                let bytes = <[u8; 32]>::try_from(&key[..]);
                let bytes = bytes.map_err(|_| ExchangeError::sops("its key has not 32 bytes"))?;
                return Ok(Key::from_bytes(bytes));
            }
            Err(skep_crypto::CryptoError::WrongKey) => {}
            Err(error) => why = error,
        }
    }
    Err(ExchangeError::Age(why))
}

/// What goes through a tree: decrypts, and hashes for the MAC.
struct Walk {
    key: Key,
    rules: Rules,
    only_encrypted: bool,
    hash: Sha512,
}

impl Walk {
    fn node(&mut self, path: &mut Vec<String>, node: Node) -> Result<Node, ExchangeError> {
        if path.len() > MOST_DEPTH {
            let what = format!("it is over {MOST_DEPTH} levels deep");
            return Err(ExchangeError::wrong(None, None, what));
        }
        match node {
            Node::Null => Ok(Node::Null),
            Node::Map(fields) => self.fields(path, fields).map(Node::Map),
            Node::List(items) => {
                let items = items.into_iter().map(|item| self.node(path, item));
                Ok(Node::List(items.collect::<Result<_, _>>()?))
            }
            leaf => self.leaf(path, leaf),
        }
    }

    fn fields(
        &mut self,
        path: &mut Vec<String>,
        fields: Vec<(String, Node)>,
    ) -> Result<Vec<(String, Node)>, ExchangeError> {
        let mut out = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            path.push(name.clone());
            let value = self.node(path, value)?;
            path.pop();
            out.push((name, value));
        }
        Ok(out)
    }

    fn leaf(&mut self, path: &[String], leaf: Node) -> Result<Node, ExchangeError> {
        let encrypted = self.rules.encrypt(path);
        let plain = match (encrypted, leaf) {
            (true, Node::Text(text)) => value::open(&self.key, path, &text)?,
            (true, _) => {
                let name = path.join("/");
                let what = format!("the value of `{name}` should be encrypted and is not");
                return Err(ExchangeError::sops(what));
            }
            (false, leaf) => Plain::of(leaf),
        };
        if encrypted || !self.only_encrypted {
            self.hash.update(plain.hashed());
        }
        Ok(plain.into_node())
    }
}

fn hex(hash: Sha512) -> String {
    let digits = hash.finalize();
    digits.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Decrypts a tree.
pub(crate) fn read(tree: Tree, identities: &[Identity]) -> Result<Vec<Entry>, ExchangeError> {
    let key = data_key(&tree.about, identities)?;
    read_with(tree, key)
}

fn read_with(tree: Tree, key: Key) -> Result<Vec<Entry>, ExchangeError> {
    let about = tree.about;
    let rules = Rules::of(&about)?;
    let only_encrypted = said(&about, "mac_only_encrypted")
        .is_some_and(|text| matches!(text.as_str(), "true" | "True" | "1"));
    let mut hash = Sha512::new();
    if only_encrypted {
        hash.update(ONLY_ENCRYPTED);
    }
    let mut walk = Walk {
        key,
        rules,
        only_encrypted,
        hash,
    };
    let fields = walk.fields(&mut Vec::new(), tree.fields)?;
    let said = |name| said(&about, name).ok_or(ExchangeError::Mac);
    let mac = value::open_mac(&walk.key, &said("lastmodified")?, &said("mac")?)?;
    if !same(hex(walk.hash).as_bytes(), mac.as_bytes()) {
        return Err(ExchangeError::Mac);
    }
    node::entries(Node::Map(fields))
}

/// Decrypts a tree whose data key is known: SOPS' own reference files are for PGP.
#[cfg(test)]
pub(crate) fn read_by_key(tree: Tree, key: [u8; 32]) -> Result<Vec<Entry>, ExchangeError> {
    read_with(tree, Key::from_bytes(key))
}

/// A file that is put together.
struct Written {
    /// Names and encrypted values.
    fields: Vec<(String, String)>,
    /// Recipients and the data key for each.
    keys: Vec<(String, String)>,
    modified: String,
    mac: String,
    rule: (&'static str, &'static str),
}

/// Encrypts entries for recipients; `now` is a time of RFC 3339, in whole seconds.
pub(crate) fn write(
    store: Store,
    entries: &[Entry],
    recipients: &[Recipient],
    now: &str,
) -> Result<String, ExchangeError> {
    if recipients.is_empty() {
        return Err(ExchangeError::NoRecipient);
    }
    let names = match store {
        Store::Dotenv => dotenv::variables(entries)?,
        Store::Yaml | Store::Json => entries.iter().map(|it| it.name.clone()).collect(),
    };
    let own = |name: &String| match store {
        Store::Dotenv => name.starts_with(OWN_FLAT),
        Store::Yaml | Store::Json => name == OWN,
    };
    if let Some(name) = names.iter().find(|name| own(name)) {
        return Err(ExchangeError::Reserved { name: name.clone() });
    }
    let key = Key::random().map_err(ExchangeError::Age)?;
    let mut hash = Sha512::new();
    let mut fields = Vec::with_capacity(entries.len());
    for (entry, name) in entries.iter().zip(names) {
        let text = entry.text()?;
        hash.update(text.as_bytes());
        let sealed = value::seal(&key, &format!("{name}:"), text)?;
        fields.push((name, sealed));
    }
    let sealed_key = |recipient: &Recipient| -> Result<(String, String), ExchangeError> {
        let sealed = file::seal(&[*recipient], key.expose()).map_err(ExchangeError::Age)?;
        Ok((recipient.to_string(), file::armour(&sealed)))
    };
    let keys = recipients.iter().map(sealed_key);
    // A name that ends as those of open values do must not make its value one.
    let rule = match fields.iter().any(|(name, _)| name.ends_with(OPEN_SUFFIX)) {
        true => ("encrypted_regex", ".*"),
        false => ("unencrypted_suffix", OPEN_SUFFIX),
    };
    let written = Written {
        keys: keys.collect::<Result<_, _>>()?,
        mac: value::seal(&key, now, &hex(hash))?,
        modified: now.to_owned(),
        fields,
        rule,
    };
    Ok(match store {
        Store::Yaml => written.yaml(),
        Store::Json => written.json(),
        Store::Dotenv => written.dotenv(),
    })
}

impl Written {
    fn yaml(&self) -> String {
        let mut out = Zeroizing::new(String::new());
        for (name, value) in &self.fields {
            yaml::key(name, &mut out);
            out.push_str(&format!(": {value}\n"));
        }
        out.push_str("sops:\n    age:\n");
        for (recipient, sealed) in &self.keys {
            out.push_str(&format!(
                "        - recipient: {recipient}\n          enc: |\n"
            ));
            for line in sealed.lines() {
                out.push_str(&format!("            {line}\n"));
            }
        }
        let (modified, mac) = (&self.modified, &self.mac);
        let (rule, said) = self.rule;
        out.push_str(&format!(
            "    lastmodified: \"{modified}\"\n    mac: {mac}\n    {rule}: \"{said}\"\n    version: {VERSION}\n"
        ));
        out.as_str().to_owned()
    }

    fn json(&self) -> String {
        let mut out = Zeroizing::new(String::from("{\n"));
        let mut field = |indent: &str, name: &str, value: &str, end: &str| {
            out.push_str(indent);
            quote(name, &mut out);
            out.push_str(": ");
            match value {
                "{" | "[" => out.push_str(value),
                _ => quote(value, &mut out),
            }
            out.push_str(end);
        };
        for (name, value) in &self.fields {
            field("\t", name, value, ",\n");
        }
        field("\t", OWN, "{", "\n");
        field("\t\t", "age", "[", "");
        for (at, (recipient, sealed)) in self.keys.iter().enumerate() {
            let begin = if at == 0 { "\n\t\t\t{" } else { ",\n\t\t\t{" };
            field(begin, "recipient", recipient, ", ");
            field("", "enc", sealed, "}");
        }
        field("\n\t\t], ", "lastmodified", &self.modified, ",\n");
        field("\t\t", "mac", &self.mac, ",\n");
        field("\t\t", self.rule.0, self.rule.1, ",\n");
        field("\t\t", "version", VERSION, "\n\t}\n}\n");
        out.as_str().to_owned()
    }

    fn dotenv(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.fields {
            out.push_str(&format!("{name}={value}\n"));
        }
        for (at, (recipient, sealed)) in self.keys.iter().enumerate() {
            let sealed = sealed.replace('\n', "\\n");
            out.push_str(&format!("sops_age__list_{at}__map_enc={sealed}\n"));
            out.push_str(&format!("sops_age__list_{at}__map_recipient={recipient}\n"));
        }
        let (modified, mac) = (&self.modified, &self.mac);
        let (rule, said) = self.rule;
        out.push_str(&format!(
            "sops_lastmodified={modified}\nsops_mac={mac}\nsops_{rule}={said}\nsops_version={VERSION}\n"
        ));
        out
    }
}
