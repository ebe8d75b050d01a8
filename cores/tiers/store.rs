//! A directory or an S3 bucket, behind one door that blocks.
//! Owns: the client, a runtime of one thread, counts of what was read and written. Runs on: the main thread of `outcry tiers` and
//! `outcry audit`. Called by: everything in this folder. Never: changes an object that is there with other bytes, unless told to.
use super::lock::{Hold, Locking};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{
    Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum},
    local::LocalFileSystem,
    path::Path,
    prefix::PrefixStore,
};
use std::{cell::Cell, io, ops::Range, path::PathBuf, sync::Arc};
use tokio::runtime::{Builder, Runtime};

/// Reads and writes that are under way at once: a store answers each in tens of milliseconds, and all of them side by side.
const AT_ONCE: usize = 16;

/// Why a store does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is no address of a store.
    #[error("{0}: no address of a store. Write s3://BUCKET, s3://BUCKET/FOLDER or the path of a directory")]
    Address(String),
    /// A directory that cannot be used.
    #[error("{path}: {source}. Name a directory that is there and that this user may use")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be begun with.
    #[error(
        "{url}: {source}. S3 takes AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, where it is not Amazon's, AWS_ENDPOINT from the environment"
    )]
    Open {
        /// Which.
        url: String,
        /// Why.
        source: Box<Error>,
    },
    /// The store refuses, or cannot be reached.
    #[error("{name}: {source}. Is the store there, are its keys in the environment, and may they do this?")]
    Failed {
        /// Of which object.
        name: String,
        /// Why.
        source: Box<Error>,
    },
    /// An object is there under this name, with other bytes.
    #[error(
        "{0}: is there already, with other bytes, and is not overwritten: another export wrote it. Compare it with `outcry tiers verify`"
    )]
    Other(String),
    /// No runtime.
    #[error("no thread for the store: {0}")]
    Runtime(io::Error),
}

impl StoreError {
    /// There is no such object.
    pub fn missing(&self) -> bool {
        matches!(self, StoreError::Failed { source, .. } if matches!(**source, Error::NotFound { .. }))
    }

    fn of(name: &str, source: Error) -> StoreError {
        StoreError::Failed { name: name.to_string(), source: Box::new(source) }
    }
}

/// What went through the door.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Objects read.
    pub read: u64,
    /// Bytes of them.
    pub read_bytes: u64,
    /// Objects written.
    pub written: u64,
    /// Bytes of them.
    pub written_bytes: u64,
    /// Objects that were there already as they should be.
    pub kept: u64,
    /// Lists asked for.
    pub lists: u64,
}

/// An object to be written.
#[derive(Debug)]
pub struct Put {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// It is to be locked.
    pub hold: Option<Hold>,
    /// Other bytes under its name give way: what an export that was cut off left behind.
    pub replaces: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    runtime: Runtime,
    url: String,
    counts: Cell<Counts>,
    locking: Option<Locking>,
}

impl Store {
    /// Opens one; `create`: a directory that is missing is made.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(url: &str, create: bool) -> Result<Store, StoreError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(StoreError::Runtime)?;
        let (inner, locking) = match url.split_once("://") {
            Some(("s3", rest)) => {
                let (store, locking) = s3(url, rest)?;
                (store, Some(locking))
            }
            Some(("file", path)) => (directory(path, create)?, None),
            None if !url.is_empty() => (directory(url, create)?, None),
            _ => return Err(StoreError::Address(url.to_string())),
        };
        Ok(Store { inner, runtime, url: url.to_string(), counts: Cell::default(), locking })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What went through so far.
    pub fn counts(&self) -> Counts {
        self.counts.get()
    }

    /// How it locks objects; `None`: a directory does not.
    pub fn locking(&self) -> Option<&Locking> {
        self.locking.as_ref()
    }

    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    /// An object's bytes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        let bytes = self.runtime.block_on(get(&self.inner, name, None))?;
        self.count(|c| (c.read, c.read_bytes) = (c.read + 1, c.read_bytes + bytes.len() as u64));
        Ok(bytes)
    }

    /// Many objects, read side by side, handed out in this order; one that cannot be read is handed out as what was wrong.
    ///
    /// # Errors
    /// What `each` says.
    pub fn get_all<E>(
        &self,
        names: &[String],
        each: impl FnMut(usize, Result<Bytes, StoreError>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.read_all(names.iter().map(|name| (&name[..], None)), each)
    }

    /// The same, of each object from a byte to another.
    ///
    /// # Errors
    /// What `each` says.
    pub fn get_parts<E>(
        &self,
        parts: &[(&str, Range<u64>)],
        each: impl FnMut(usize, Result<Bytes, StoreError>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.read_all(parts.iter().map(|(name, part)| (*name, Some(part.clone()))), each)
    }

    fn read_all<'a, E>(
        &self,
        wanted: impl Iterator<Item = (&'a str, Option<Range<u64>>)>,
        mut each: impl FnMut(usize, Result<Bytes, StoreError>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.runtime.block_on(async {
            let reads = stream::iter(wanted).map(|(name, part)| get(&self.inner, name, part));
            let mut all = reads.buffered(AT_ONCE).enumerate();
            while let Some((at, read)) = all.next().await {
                if let Ok(bytes) = &read {
                    self.count(|c| (c.read, c.read_bytes) = (c.read + 1, c.read_bytes + bytes.len() as u64));
                }
                each(at, read)?;
            }
            Ok(())
        })
    }

    /// Writes objects, side by side. Those that are there with the same bytes stay as they are.
    ///
    /// # Errors
    /// The first that went wrong; others may have been written.
    pub fn put_all(&self, puts: Vec<Put>) -> Result<(), StoreError> {
        self.runtime.block_on(async {
            let mut all = stream::iter(puts).map(|one| self.put_one(one)).buffer_unordered(AT_ONCE);
            while let Some(done) = all.next().await {
                done?;
            }
            Ok(())
        })
    }

    /// Writes one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put(&self, put: Put) -> Result<(), StoreError> {
        self.runtime.block_on(self.put_one(put))
    }

    async fn put_one(&self, Put { name, bytes, hold, replaces }: Put) -> Result<(), StoreError> {
        super::cut_off_here();
        let path = parse(&name)?;
        let options = |mode| {
            let mut options = PutOptions { mode, ..PutOptions::default() };
            if let Some(hold) = hold {
                options.extensions.insert(hold);
            }
            options
        };
        let written =
            |c: &mut Counts| (c.written, c.written_bytes) = (c.written + 1, c.written_bytes + bytes.len() as u64);
        match self.inner.put_opts(&path, bytes.clone().into(), options(PutMode::Create)).await {
            Ok(_) => self.count(written),
            Err(Error::AlreadyExists { .. }) => {
                if get(&self.inner, &name, None).await? == bytes {
                    self.count(|c| c.kept += 1);
                } else if replaces {
                    let again = self.inner.put_opts(&path, bytes.clone().into(), options(PutMode::Overwrite)).await;
                    again.map_err(|e| StoreError::of(&name, e))?;
                    self.count(written);
                } else {
                    return Err(StoreError::Other(name));
                }
            }
            Err(e) => return Err(StoreError::of(&name, e)),
        }
        Ok(())
    }

    /// How long an object is; `None`: there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn sizes(&self, names: &[String]) -> Result<Vec<Option<u64>>, StoreError> {
        let one = |name: &String| {
            let name = name.clone();
            async move {
                match self.inner.head(&parse(&name)?).await {
                    Ok(meta) => Ok(Some(meta.size)),
                    Err(Error::NotFound { .. }) => Ok(None),
                    Err(e) => Err(StoreError::of(&name, e)),
                }
            }
        };
        self.runtime.block_on(stream::iter(names).map(one).buffered(AT_ONCE).try_collect())
    }

    /// Removes objects; those that are gone already are no mistake.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn delete_all(&self, names: &[String]) -> Result<(), StoreError> {
        let one = |name: &String| {
            let name = name.clone();
            async move {
                match self.inner.delete(&parse(&name)?).await {
                    Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                    Err(e) => Err(StoreError::of(&name, e)),
                }
            }
        };
        self.runtime.block_on(stream::iter(names).map(one).buffer_unordered(AT_ONCE).try_collect())
    }

    /// Names and sizes of what is below a folder, in order; `from`: those behind this name alone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn list(&self, folder: &str, from: Option<&str>) -> Result<Vec<(String, u64)>, StoreError> {
        let prefix = Some(parse(folder)?).filter(|p| !p.as_ref().is_empty());
        let found = match from {
            Some(from) => self.inner.list_with_offset(prefix.as_ref(), &parse(from)?),
            None => self.inner.list(prefix.as_ref()),
        };
        let found = found.map_ok(|meta| (meta.location.to_string(), meta.size));
        let mut all: Vec<_> = self.runtime.block_on(found.try_collect()).map_err(|e| StoreError::of(folder, e))?;
        self.count(|c| c.lists += 1);
        all.sort_unstable();
        Ok(all)
    }

    /// Folders directly below one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let path = parse(folder)?;
        let found = self.runtime.block_on(self.inner.list_with_delimiter(Some(&path)));
        self.count(|c| c.lists += 1);
        let found = found.map_err(|e| StoreError::of(folder, e))?;
        let mut all: Vec<String> = found.common_prefixes.iter().map(Path::to_string).collect();
        all.sort_unstable();
        Ok(all)
    }
}

fn parse(name: &str) -> Result<Path, StoreError> {
    Path::parse(name).map_err(|e| StoreError::of(name, e.into()))
}

async fn get(store: &Arc<dyn ObjectStore>, name: &str, part: Option<Range<u64>>) -> Result<Bytes, StoreError> {
    let options = GetOptions { range: part.map(GetRange::Bounded), ..GetOptions::default() };
    let read = store.get_opts(&parse(name)?, options).await;
    match read {
        Ok(found) => found.bytes().await.map_err(|e| StoreError::of(name, e)),
        Err(e) => Err(StoreError::of(name, e)),
    }
}

fn directory(path: &str, create: bool) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let failed = |source| StoreError::Directory { path: PathBuf::from(path), source };
    if create {
        std::fs::create_dir_all(path).map_err(failed)?;
    }
    std::fs::read_dir(path).map_err(failed)?;
    // The manifest says that the others are there: a power cut must not take them.
    let store = LocalFileSystem::new_with_prefix(path)
        .map_err(|source| StoreError::Open { url: path.to_string(), source: Box::new(source) })?
        .with_fsync(true)
        .with_automatic_cleanup(true);
    Ok(Arc::new(store))
}

fn s3(url: &str, rest: &str) -> Result<(Arc<dyn ObjectStore>, Locking), StoreError> {
    let (bucket, folder) = rest.trim_end_matches('/').split_once('/').unwrap_or((rest.trim_end_matches('/'), ""));
    if bucket.is_empty() {
        return Err(StoreError::Address(url.to_string()));
    }
    // Another part of the process may have chosen before; one is as good as the other.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_checksum_algorithm(Checksum::SHA256);
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_string());
    let locking = Locking::default();
    let store = builder
        .with_http_connector(locking.connector())
        .build()
        .map_err(|source| StoreError::Open { url: url.to_string(), source: Box::new(source) })?;
    locking.signs_with(store.credentials().clone(), region);
    let store: Arc<dyn ObjectStore> =
        if folder.is_empty() { Arc::new(store) } else { Arc::new(PrefixStore::new(store, parse(folder)?)) };
    Ok((store, locking))
}
