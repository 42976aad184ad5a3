//! Two files that grew out of one, put together: what one side changed is taken from there, and what both
//! changed, each in its own way, is for people to decide.

use std::collections::BTreeSet;

use crate::{CREDENTIALS, Entries, LockError, Open, Recipient};

/// What became of a merge.
pub enum Merged {
    /// One file, to be finished.
    Clean(Box<Open>),
    /// What both sides changed: layers, entries of the credentials, recipients.
    Conflicts(Vec<String>),
}

/// The side that counts; none when both changed it, each in its own way.
fn either<'a, T: PartialEq>(base: &T, ours: &'a T, theirs: &'a T) -> Option<&'a T> {
    match (ours == theirs, ours == base, theirs == base) {
        (true, _, _) | (_, _, true) => Some(ours),
        (_, true, _) => Some(theirs),
        _ => None,
    }
}

/// A layer, if it is there.
fn layer(open: &Open, name: &str) -> Result<Option<Entries>, LockError> {
    match open.layer(name) {
        Ok(entries) => Ok(Some(entries)),
        Err(LockError::NoLayer(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The entries of both sides, one by one.
fn entries([base, ours, theirs]: [&Entries; 3], conflicts: &mut Vec<String>) -> Entries {
    let names: BTreeSet<&String> = [base, ours, theirs]
        .iter()
        .flat_map(|it| it.keys())
        .collect();
    let mut merged = Entries::new();
    for name in names {
        match either(&base.get(name), &ours.get(name), &theirs.get(name)) {
            Some(Some(value)) => {
                merged.insert(name.clone(), (*value).clone());
            }
            Some(None) => {}
            None => conflicts.push(format!("{CREDENTIALS}/{name}")),
        }
    }
    merged
}

/// The recipients of both sides, who all have keys of the same root.
fn recipients(sides: [&[Recipient]; 3], conflicts: &mut Vec<String>) -> Vec<Recipient> {
    let names: BTreeSet<&str> = sides
        .iter()
        .flat_map(|it| it.iter().map(|it| it.name.as_str()))
        .collect();
    let mut merged = Vec::new();
    for name in names {
        let [base, ours, theirs] = sides.map(|side| side.iter().find(|it| it.name == name));
        match either(&base, &ours, &theirs) {
            Some(recipient) => merged.extend(recipient.cloned()),
            None => conflicts.push(format!("recipient {name}")),
        }
    }
    merged
}

impl Open {
    /// Merges two files that follow `base`. Each must be opened by somebody who opens every layer.
    ///
    /// # Errors
    /// [`LockError::NotAll`], [`LockError::ReadOnly`], [`LockError::OtherAgent`], [`LockError::Written`] when a
    /// side was not written by who wrote the base, nor by who follows, and what a layer's reading and writing gives.
    pub fn merge(base: &Self, ours: &Self, theirs: &Self) -> Result<Merged, LockError> {
        let sides = [base, ours, theirs];
        for side in sides {
            side.root()?;
            side.writer()?;
            if side.lock.agent.id != base.lock.agent.id {
                return Err(LockError::OtherAgent);
            }
            // A side that somebody made who may not write is none.
            if !side.lock.follows(base.lock.writer()) {
                return Err(LockError::Written);
            }
        }
        let mut conflicts = Vec::new();
        let turned = |side: &Self| side.lock.root_epoch != base.lock.root_epoch;
        // Whoever made a new root has wrapped it for everybody: the other side's keys are of the old one.
        let (mut merged, other) = match turned(theirs) {
            true => (theirs.clone(), ours),
            false => (ours.clone(), theirs),
        };
        if turned(ours) && turned(theirs) {
            conflicts.push("the root, which both sides made anew".to_owned());
        } else if turned(&merged) {
            if other.lock.recipients != base.lock.recipients {
                conflicts.push("the recipients, since one side has a new root".to_owned());
            }
        } else {
            let all = sides.map(|side| &side.lock.recipients[..]);
            merged.lock.recipients = recipients(all, &mut conflicts);
        }
        match either(&base.lock.agent, &ours.lock.agent, &theirs.lock.agent) {
            Some(agent) => merged.lock.agent = agent.clone(),
            None => conflicts.push("the agent's name".to_owned()),
        }
        merged.lock.epoch = ours.lock.epoch.max(theirs.lock.epoch);
        merged.changed = true;
        let names: BTreeSet<&str> = sides
            .iter()
            .flat_map(|side| side.lock.layers.iter().map(|it| it.name.as_str()))
            .collect();
        for name in names {
            let [before, our, their] =
                [layer(base, name)?, layer(ours, name)?, layer(theirs, name)?];
            let whole = either(&before, &our, &their).cloned();
            let value = match (whole, our, their) {
                (Some(value), _, _) => value,
                (None, Some(our), Some(their)) if name == CREDENTIALS => {
                    let before = before.unwrap_or_default();
                    Some(entries([&before, &our, &their], &mut conflicts))
                }
                _ => {
                    conflicts.push(format!("layer {name}"));
                    continue;
                }
            };
            match (value, layer(&merged, name)?) {
                (Some(value), has) if has.as_ref() != Some(&value) => merged.put(name, &value)?,
                (None, Some(_)) => merged.remove(name)?,
                _ => {}
            }
        }
        Ok(match conflicts.is_empty() {
            true => Merged::Clean(Box::new(merged)),
            false => Merged::Conflicts(conflicts),
        })
    }
}
