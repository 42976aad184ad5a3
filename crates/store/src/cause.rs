//! By whom a change is made: whoever orders one hands it along, and the unit that makes the change
//! leaves the entry that tells of it.

use std::fmt;
use std::sync::Arc;

use skep_core::Timestamp;

use crate::{Hash, Scope, StoreError};

/// A change as its unit knows it.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// What is done, when it is not what was ordered: a call that ends.
    pub action: Option<&'a str>,
    /// What it is done to: kind and id.
    pub resource: (&'a str, &'a str),
    /// What is new: `revision 4`.
    pub what: &'a str,
    /// The hash of what is new.
    pub hash: Option<Hash>,
}

/// Who ordered a change, and how that is written down.
pub trait Cause: Send + Sync {
    /// The entry that is committed with the change. What it needs besides is written in the same scope.
    ///
    /// # Errors
    /// As [`Scope::execute`]: then the change is not made.
    fn entry(
        &self,
        scope: &mut Scope<'_>,
        change: &Change<'_>,
        now: Timestamp,
    ) -> Result<Vec<u8>, StoreError>;
}

/// By whom a change is made.
#[derive(Clone)]
pub struct By(Option<Arc<dyn Cause>>);

impl By {
    /// By this cause.
    pub fn new(cause: Arc<dyn Cause>) -> Self {
        Self(Some(cause))
    }

    /// By nobody who is written down: tests, and what is told in another way.
    #[must_use]
    pub const fn nobody() -> Self {
        Self(None)
    }

    /// Leaves the entry of a change with it.
    ///
    /// # Errors
    /// As [`Scope::record`].
    pub fn did(
        &self,
        scope: &mut Scope<'_>,
        change: &Change<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match &self.0 {
            Some(cause) => {
                let entry = cause.entry(scope, change, now)?;
                scope.record(entry)
            }
            None => Ok(()),
        }
    }
}

impl fmt::Debug for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "By(cause)"
        } else {
            "By(nobody)"
        })
    }
}
