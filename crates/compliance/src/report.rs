//! All controls of a framework, with what the evidence says of each.

use crate::{Catalog, Control, Evidence, Finding, State};

/// A control with what was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Assessed {
    /// The control.
    pub control: Control,
    /// What the evidence says.
    pub finding: Finding,
}

/// A report.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The catalog's own document.
    pub catalog: Catalog,
    /// What it rests on.
    pub evidence: Evidence,
    /// The controls, in the catalog's order.
    pub controls: Vec<Assessed>,
}

impl Report {
    /// How many controls stand so.
    #[must_use]
    pub fn count(&self, state: State) -> usize {
        let all = self.controls.iter();
        all.filter(|it| it.finding.state == state).count()
    }
}

/// Asks the evidence about each control.
#[must_use]
pub fn assess(catalog: Catalog, evidence: Evidence) -> Report {
    let silent = || Finding {
        state: State::NotAssessable,
        said: "not assessable by software".to_owned(),
        question: None,
        count: 0,
        entries: Vec::new(),
    };
    let assessed = |control: &Control| Assessed {
        control: control.clone(),
        finding: control
            .check
            .map_or_else(silent, |check| check.run(&evidence)),
    };
    let controls = catalog.controls.iter().map(assessed).collect();
    Report {
        catalog,
        evidence,
        controls,
    }
}
