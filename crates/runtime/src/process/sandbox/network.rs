//! Where an agent may connect to. Landlock allows by port only, one rule for each, so the list is
//! every port below those that agents listen on; what it costs is in `docs/sandbox.md`.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use landlock::{
    AccessFs, AccessNet, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError,
};
use parking_lot::Mutex;

use crate::port;
use crate::spec::PortRange;

/// A ruleset made ahead: making one takes longer than starting an agent does.
#[derive(Debug, Clone, Default)]
pub(in crate::process) struct Spare(Arc<Mutex<Option<RulesetCreated>>>);

fn empty() -> Result<RulesetCreated, RulesetError> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessNet::ConnectTcp)?
        // Some kernels deny moving files between folders in every ruleset that does not allow it.
        .handle_access(AccessFs::Refer)?
        .create()?;
    if let Ok(root) = PathFd::new("/") {
        ruleset = ruleset.add_rule(PathBeneath::new(root, AccessFs::Refer))?;
    }
    Ok(ruleset)
}

fn allow(ruleset: &mut RulesetCreated, ports: PortRange) -> Result<(), RulesetError> {
    for port in ports.first..=ports.last {
        (&mut *ruleset).add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    Ok(())
}

fn open() -> Result<RulesetCreated, RulesetError> {
    let mut ruleset = empty()?;
    let below = PortRange {
        first: 1,
        last: port::LOWEST - 1,
    };
    allow(&mut ruleset, below)?;
    Ok(ruleset)
}

impl Spare {
    /// A ruleset that allows these ports and, unless it is to be narrow, those that no agent
    /// listens on.
    pub(in crate::process) fn take(
        &self,
        narrow: bool,
        ports: &[PortRange],
    ) -> Result<Option<OwnedFd>, RulesetError> {
        let ready = match narrow {
            true => None,
            false => self.0.lock().take(),
        };
        let mut ruleset = match ready {
            Some(ruleset) => ruleset,
            None if narrow => empty()?,
            None => open()?,
        };
        for &ports in ports {
            allow(&mut ruleset, ports)?;
        }
        Ok(ruleset.into())
    }

    /// Makes the next one, unless it is there. Takes milliseconds.
    pub(in crate::process) fn refill(&self) {
        if self.0.lock().is_some() {
            return;
        }
        if let Ok(ruleset) = open() {
            self.0.lock().get_or_insert(ruleset);
        }
    }
}
