//! The marker on disk that tells a start how the last process ended (`outcry::record::marker`).
//! Owns: the file `running` in `state_dir`. Runs on: the main thread, at boot and at the end.
use crate::state;
use outcry::record::{
    blackbox::BootId,
    marker::{Marker, MarkerError},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

const NAME: &str = "running";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why the marker cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MarkerFileError {
    /// A file cannot be used.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It says nothing that can be read.
    #[error(
        "{path}: {source}. Remove it if black boxes need not be read: how the last process ended is not known then"
    )]
    Garbled {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: MarkerError,
    },
}

/// Reads the marker; `None`: there is none yet.
pub fn read(state_dir: &Path) -> Result<Option<Marker>, MarkerFileError> {
    let path = state_dir.join(NAME);
    match fs::read_to_string(&path) {
        Ok(text) => Marker::parse(&text).map(Some).map_err(|source| MarkerFileError::Garbled { path, source }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(MarkerFileError::Io { path, source }),
    }
}

/// Writes the marker: when this returns it is on disk, whole.
pub fn write(state_dir: &Path, marker: &Marker) -> Result<(), MarkerFileError> {
    let written = state::write(state_dir, NAME, marker.text().trim_end());
    written.map_err(|source| MarkerFileError::Io { path: state_dir.join(NAME), source })
}

/// This run of the operating system.
pub fn boot_id() -> Result<BootId, MarkerFileError> {
    let io = |source| MarkerFileError::Io { path: BOOT_ID.into(), source };
    let text = fs::read_to_string(BOOT_ID).map_err(io)?;
    BootId::parse(&text).ok_or_else(|| io(io::Error::other("no boot id")))
}
