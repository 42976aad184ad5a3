//! Backups in a bucket of S3 or what speaks like it: put there in parts, listed, fetched, and the
//! oldest removed. What a backup is, is told elsewhere: here it is a file with a name.

mod connector;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use skep_backup::folder::{self, Found};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connector::Connector;

/// Bytes of a part, unless the file is so large that there would be too many.
const PART: u64 = 16 << 20;
/// Parts that a bucket takes of one object, with room to spare.
const MOST_PARTS: u64 = 9_000;
/// A piece of an object comes within this time.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);
const SCHEME: &str = "s3://";

/// Where a bucket is, and who may use it.
#[derive(Clone, Default)]
pub struct Options {
    /// `s3://NAME` or `s3://NAME/PREFIX`.
    pub url: String,
    /// The service, when it is not Amazon's own.
    pub endpoint: Option<String>,
    /// The region.
    pub region: String,
    /// The id of the access key.
    pub access_key: String,
    /// The access key's secret.
    pub secret_key: String,
}

/// Why a bucket does not do what it is to do.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The address is none of a bucket.
    #[error("`{0}` is not the address of a bucket, such as s3://name/prefix")]
    Address(String),
    /// The bucket, or the way to it.
    #[error("the bucket: {0}")]
    Bucket(#[from] object_store::Error),
    /// The file on this side.
    #[error("the file: {0}")]
    File(#[from] std::io::Error),
    /// It stopped in the middle.
    #[error("the bucket is silent")]
    Silent,
}

/// A bucket, or what is below a prefix in one.
#[derive(Debug, Clone)]
pub struct Bucket {
    store: AmazonS3,
    prefix: Key,
}

/// Whether a text names a bucket and not a folder.
#[must_use]
pub fn is_bucket(text: &str) -> bool {
    text.starts_with(SCHEME)
}

impl Bucket {
    /// The bucket; nothing is sent yet.
    ///
    /// # Errors
    /// [`BucketError::Address`].
    pub fn new(options: &Options) -> Result<Self, BucketError> {
        let wrong = || BucketError::Address(options.url.clone());
        let rest = options.url.strip_prefix(SCHEME).ok_or_else(wrong)?;
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if name.is_empty() {
            return Err(wrong());
        }
        let mut builder = AmazonS3Builder::new()
            .with_http_connector(Connector)
            .with_bucket_name(name)
            .with_region(&options.region)
            .with_access_key_id(&options.access_key)
            .with_secret_access_key(&options.secret_key);
        if let Some(endpoint) = &options.endpoint {
            let plain = endpoint.starts_with("http://");
            builder = builder.with_endpoint(endpoint).with_allow_http(plain);
        }
        Ok(Self {
            store: builder.build()?,
            prefix: Key::parse(prefix).map_err(|_| wrong())?,
        })
    }

    fn key(&self, name: &str) -> Key {
        self.prefix.clone().join(name)
    }

    /// Puts a file there under a name. It is there when it is whole.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn put(&self, file: &Path, name: &str) -> Result<(), BucketError> {
        let mut file = File::open(file).await?;
        let size = file.metadata().await?.len();
        let part = PART.max(size.div_ceil(MOST_PARTS));
        let mut upload = self.store.put_multipart(&self.key(name)).await?;
        match put_parts(&mut file, upload.as_mut(), part).await {
            Ok(()) => Ok(upload.complete().await.map(drop)?),
            Err(error) => {
                // What was put so far costs money until somebody removes it.
                if let Err(stays) = upload.abort().await {
                    tracing::warn!(name, error = %stays, "parts of a backup stay in the bucket");
                }
                Err(error)
            }
        }
    }

    /// The backups that are there, the oldest first.
    ///
    /// # Errors
    /// [`BucketError::Bucket`].
    pub async fn list(&self) -> Result<Vec<Found>, BucketError> {
        let prefix = Some(&self.prefix).filter(|prefix| !prefix.as_ref().is_empty());
        let listed = self.store.list_with_delimiter(prefix).await?;
        let mut found: Vec<Found> = listed
            .objects
            .iter()
            .filter_map(|object| {
                let name = object.location.filename()?.to_owned();
                let bytes = object.size;
                // What it is like inside is not known before it is fetched.
                let encrypted = None;
                folder::is_name(&name).then_some(Found {
                    name,
                    bytes,
                    encrypted,
                })
            })
            .collect();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// Fetches a backup into this file, which is new.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn fetch(&self, name: &str, to: &Path) -> Result<(), BucketError> {
        let mut file = File::create(to).await?;
        let object = self.store.get(&self.key(name)).await?;
        let size = object.meta.size;
        let mut at = 0;
        // By ranges, so that none of them has to be in memory and a lost connection costs one.
        while at < size {
            let range = at..size.min(at + PART);
            let next = range.end;
            let key = self.key(name);
            let piece = tokio::time::timeout(PIECE_TIMEOUT, self.store.get_range(&key, range));
            file.write_all(&piece.await.map_err(|_| BucketError::Silent)??)
                .await?;
            at = next;
        }
        Ok(file.sync_all().await?)
    }

    /// Removes all but the newest `keep` backups; tells which went.
    ///
    /// # Errors
    /// [`BucketError::Bucket`].
    pub async fn prune(&self, keep: usize) -> Result<Vec<String>, BucketError> {
        let mut names: Vec<String> = self.list().await?.into_iter().map(|it| it.name).collect();
        names.truncate(names.len().saturating_sub(keep));
        for name in &names {
            self.store.delete(&self.key(name)).await?;
        }
        Ok(names)
    }
}

async fn put_parts(
    file: &mut File,
    upload: &mut dyn MultipartUpload,
    part: u64,
) -> Result<(), BucketError> {
    loop {
        let mut bytes = Vec::new();
        (&mut *file).take(part).read_to_end(&mut bytes).await?;
        if bytes.is_empty() {
            return Ok(());
        }
        upload
            .put_part(PutPayload::from_bytes(Bytes::from(bytes)))
            .await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_buckets() {
        let open = |url: &str| {
            let url = url.to_owned();
            Bucket::new(&Options {
                url,
                region: "eu-1".to_owned(),
                ..Options::default()
            })
        };
        assert_eq!(open("s3://name/a/b").unwrap().key("x").as_ref(), "a/b/x");
        assert_eq!(open("s3://name").unwrap().key("x").as_ref(), "x");
        for wrong in ["s3://", "s3:///x", "/folder", "https://name"] {
            assert!(
                matches!(open(wrong), Err(BucketError::Address(_))),
                "{wrong}"
            );
        }
    }
}
