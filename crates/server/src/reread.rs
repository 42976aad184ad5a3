//! Files that say who comes in, read again when they change. What is new holds from then on; what cannot be used
//! changes nothing, and is told once in the log and always in health.

use std::cell::RefCell;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use tokio::time::MissedTickBehavior;

/// How often a file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Bytes of a file.
const MOST_FILE: u64 = 1 << 20;

/// What files held, byte for byte, as a hash.
type Held = [u8; 32];
type Make<R, T> = Box<dyn Fn(R, Option<&T>) -> T + Send + Sync>;

/// Reads files, and knows afterwards what it has read.
#[derive(Default)]
pub(crate) struct Reader(RefCell<Sha256>);

impl Reader {
    fn took(&self, bytes: &[u8]) {
        self.0.borrow_mut().update(Sha256::digest(bytes));
    }

    /// A file that nobody but its owner and group may write to.
    pub(crate) fn text(&self, path: &Path) -> Result<String, String> {
        let about = std::fs::metadata(path).map_err(|error| error.to_string())?;
        if about.permissions().mode() & 0o022 != 0 {
            return Err("others may write to it; `chmod go-w` it".to_owned());
        }
        if about.len() > MOST_FILE {
            return Err(format!("it has more than {MOST_FILE} bytes"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        self.took(text.as_bytes());
        Ok(text)
    }

    /// A file that nobody else may read.
    pub(crate) fn secret(&self, path: &Path) -> Result<Vec<u8>, String> {
        let about = std::fs::metadata(path).map_err(|error| error.to_string())?;
        if about.permissions().mode() & 0o077 != 0 {
            return Err("others may read it; `chmod 600` it".to_owned());
        }
        if about.len() > MOST_FILE {
            return Err(format!("it has more than {MOST_FILE} bytes"));
        }
        let secret = std::fs::read(path).map_err(|error| error.to_string())?;
        self.took(&secret);
        Ok(secret)
    }

    fn held(self) -> Held {
        self.0.into_inner().finalize().into()
    }
}

/// A file, and what is made of it.
pub(crate) struct Reread<R, T> {
    path: PathBuf,
    read: fn(&Path, &Reader) -> Result<R, String>,
    make: Make<R, T>,
    now: RwLock<Arc<T>>,
    /// The hash of what holds, and what is wrong with what is there now.
    looked: RwLock<(Held, Option<String>)>,
}

impl<R: Send + 'static, T> Reread<R, T> {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn open(
        path: &Path,
        read: fn(&Path, &Reader) -> Result<R, String>,
        make: Make<R, T>,
    ) -> Result<Self, String> {
        let reader = Reader::default();
        let first = read(path, &reader)?;
        Ok(Self {
            path: path.to_owned(),
            read,
            now: RwLock::new(Arc::new(make(first, None))),
            make,
            looked: RwLock::new((reader.held(), None)),
        })
    }

    /// What holds now.
    pub(crate) fn now(&self) -> Arc<T> {
        self.now.read().clone()
    }

    /// What is wrong with the file as it is now.
    pub(crate) fn wrong(&self) -> Option<String> {
        self.looked.read().1.clone()
    }

    /// Waits until something else holds.
    pub(crate) async fn changed(&self) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let (path, read) = (self.path.clone(), self.read);
            let looked = tokio::task::spawn_blocking(move || {
                let reader = Reader::default();
                let new = read(&path, &reader);
                new.map(|new| (new, reader.held()))
            });
            let looked = looked.await;
            if self.take(looked.unwrap_or_else(|error| Err(error.to_string()))) {
                return;
            }
        }
    }

    /// Takes what is new; true when something else holds from now on.
    fn take(&self, looked: Result<(R, Held), String>) -> bool {
        let path = self.path.display();
        match looked {
            Ok((_, held)) if held == self.looked.read().0 => {
                if self.looked.write().1.take().is_some() {
                    tracing::info!(%path, "the file is again as it was");
                }
                false
            }
            Ok((new, held)) => {
                let before = self.now();
                *self.now.write() = Arc::new((self.make)(new, Some(&before)));
                *self.looked.write() = (held, None);
                tracing::info!(%path, "the file was read again");
                true
            }
            Err(reason) => {
                let before = self.looked.write().1.replace(reason.clone());
                if before.as_ref() != Some(&reason) {
                    tracing::error!(%path, reason, "the file cannot be used; what it said before holds on");
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path, reader: &Reader) -> Result<String, String> {
        let text = reader.text(path)?;
        match text.contains("wrong") {
            true => Err("it is wrong".to_owned()),
            false => Ok(text),
        }
    }

    fn look(file: &Reread<String, String>) -> bool {
        let reader = Reader::default();
        let new = read(&file.path, &reader);
        file.take(new.map(|new| (new, reader.held())))
    }

    #[test]
    fn what_cannot_be_used_changes_nothing() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("file");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("one");
        let make = |text, before: Option<&String>| {
            format!("{}{text}", before.map(String::as_str).unwrap_or_default())
        };
        let file = Reread::open(&path, read, Box::new(make)).unwrap();
        assert!(!look(&file));
        write("two");
        assert!(look(&file));
        assert_eq!(*file.now(), "onetwo");
        write("wrong");
        assert!(!look(&file));
        assert_eq!(
            (file.now().as_str(), file.wrong().as_deref()),
            ("onetwo", Some("it is wrong"))
        );
        write("two");
        assert!(!look(&file));
        assert_eq!(file.wrong(), None);
        std::fs::remove_file(&path).unwrap();
        assert!(!look(&file) && file.wrong().is_some());
    }
}
