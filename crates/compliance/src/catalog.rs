//! The frameworks and their catalogs: OSCAL documents that the binary carries.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use crate::Check;

/// Whose properties are Skep's own, in catalogs and results. A name, not a place.
pub(crate) const NAMESPACE: &str = "https://skep.example/ns/compliance";
const DAY: u64 = 24 * 3_600;

/// What is to be complied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framework {
    /// The General Data Protection Regulation of the European Union.
    Gdpr,
    /// The Security Rule of the Health Insurance Portability and Accountability Act.
    Hipaa,
    /// The Sarbanes-Oxley Act.
    Sox,
    /// The Trust Services Criteria of SOC 2.
    Soc2,
}

impl Framework {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gdpr, Self::Hipaa, Self::Sox, Self::Soc2];

    /// Its name, as commands and paths have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gdpr => "gdpr",
            Self::Hipaa => "hipaa",
            Self::Sox => "sox",
            Self::Soc2 => "soc2",
        }
    }

    /// Its catalog as an OSCAL document.
    #[must_use]
    pub const fn document(self) -> &'static str {
        match self {
            Self::Gdpr => include_str!("../catalogs/gdpr.json"),
            Self::Hipaa => include_str!("../catalogs/hipaa.json"),
            Self::Sox => include_str!("../catalogs/sox.json"),
            Self::Soc2 => include_str!("../catalogs/soc2.json"),
        }
    }
}

impl fmt::Display for Framework {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Framework {
    type Err = CatalogError;

    fn from_str(text: &str) -> Result<Self, CatalogError> {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|it| it.as_str() == text);
        found.ok_or_else(|| CatalogError::Unknown(text.chars().take(64).collect()))
    }
}

/// Why there is no catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// No framework has this name.
    #[error("no framework is called `{0}`; there are gdpr, hipaa, sox and soc2")]
    Unknown(String),
    /// The binary carries a document that is none.
    #[error("the catalog is malformed")]
    Malformed(#[source] serde_json::Error),
    /// A control lacks something, or has what nobody knows.
    #[error("control {id} has no right {what}")]
    Control {
        /// Which.
        id: String,
        /// What of it.
        what: &'static str,
    },
}

/// The controls of a framework.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalog {
    /// Of which framework.
    pub framework: Framework,
    /// The document's id.
    pub uuid: String,
    /// What it is called.
    pub title: String,
    /// What it is, and what it is not.
    pub about: String,
    /// Its controls.
    pub controls: Vec<Control>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    /// Its id in the catalog: `gdpr-3`.
    pub id: String,
    /// What it is called.
    pub title: String,
    /// The article or criterion that it comes from.
    pub reference: String,
    /// What is wanted.
    pub statement: String,
    /// What a person has to bring, whatever the check says.
    pub person: String,
    /// What software can say about it; absent when it can say nothing.
    pub check: Option<Check>,
}

#[derive(Deserialize)]
struct Document {
    catalog: Body,
}

#[derive(Deserialize)]
struct Body {
    uuid: String,
    metadata: Metadata,
    controls: Vec<Stored>,
}

#[derive(Deserialize)]
struct Metadata {
    title: String,
    remarks: String,
}

#[derive(Deserialize)]
struct Stored {
    id: String,
    title: String,
    props: Vec<Prop>,
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Prop {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct Part {
    name: String,
    prose: String,
}

impl Stored {
    fn prop(&self, name: &str) -> Option<&str> {
        let found = self.props.iter().find(|it| it.name == name);
        found.map(|it| it.value.as_str())
    }

    fn part(&self, name: &str) -> Option<String> {
        let found = self.parts.iter().find(|it| it.name == name);
        found.map(|it| it.prose.clone())
    }

    fn read(self) -> Result<Control, CatalogError> {
        let without = |what| CatalogError::Control {
            id: self.id.clone(),
            what,
        };
        let days = self.prop("least-days").map(str::parse::<u64>);
        let days = days.transpose().map_err(|_| without("least-days"))?;
        let least = days.map(|days| Duration::from_secs(days * DAY));
        let check = match self.prop("check") {
            None => None,
            Some(name) => Some(Check::named(name, least).ok_or_else(|| without("check"))?),
        };
        Ok(Control {
            reference: self
                .prop("label")
                .ok_or_else(|| without("label"))?
                .to_owned(),
            statement: self.part("statement").ok_or_else(|| without("statement"))?,
            person: self.part("guidance").ok_or_else(|| without("guidance"))?,
            check,
            id: self.id,
            title: self.title,
        })
    }
}

impl Catalog {
    /// The catalog of a framework.
    ///
    /// # Errors
    /// [`CatalogError`], when the binary was made with a wrong one.
    pub fn of(framework: Framework) -> Result<Self, CatalogError> {
        let document: Document =
            serde_json::from_str(framework.document()).map_err(CatalogError::Malformed)?;
        let Body {
            uuid,
            metadata,
            controls,
        } = document.catalog;
        let controls = controls.into_iter().map(Stored::read);
        Ok(Self {
            framework,
            uuid,
            title: metadata.title,
            about: metadata.remarks,
            controls: controls.collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_catalog_is_whole_and_every_check_is_asked_for() {
        let mut asked = BTreeSet::new();
        for framework in Framework::ALL {
            let catalog = Catalog::of(framework).unwrap();
            assert!((8..=12).contains(&catalog.controls.len()), "{framework}");
            let ids: BTreeSet<&str> = catalog.controls.iter().map(|it| it.id.as_str()).collect();
            assert_eq!(ids.len(), catalog.controls.len());
            let silent = catalog.controls.iter().filter(|it| it.check.is_none());
            assert!(
                silent.count() > 0,
                "{framework} has what nobody can compute"
            );
            for control in &catalog.controls {
                assert!(control.id.starts_with(framework.as_str()));
                asked.extend(control.check.map(Check::name));
            }
            assert_eq!(
                framework.to_string().parse::<Framework>().unwrap(),
                framework
            );
        }
        let known: BTreeSet<&str> = Check::NAMES.into_iter().collect();
        assert_eq!(asked, known);
        assert!("pci".parse::<Framework>().is_err());
    }
}
