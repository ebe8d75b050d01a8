//! The secrets that sign notice URLs, from their file; where none is named, one in `state_dir` that is made once.
//! Owns: that file. Runs on: the main thread at boot, control at a reload. Never: shows a secret; overwrites a file.
use outcry::{
    config::{Config, Dsp},
    notice::{
        keys::{Keys, KeysError, SECRET_MIN},
        sealed::Seal,
    },
};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Bytes of a secret that is made.
const SECRET_BYTES: usize = 32;
/// Longest secret, as many bytes as SHA-256 takes at a time.
const SECRET_MAX: usize = 64;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum NoticeKeysError {
    /// The file.
    #[error(
        "{path}: {source}. Keys are in it: make it readable for this user, or change `notices.keys` or `price_keys`"
    )]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line.
    #[error("{path} line {line}: {why}. A line is a number from 0 to 255 and {min} to {max} hexadecimal digits; `openssl rand -hex 32` makes some", min = 2 * SECRET_MIN, max = 2 * SECRET_MAX)]
    Line {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// All of them.
    #[error("{path}: {why}")]
    Keys {
        /// Which file.
        path: PathBuf,
        /// What is wrong with them.
        why: KeysError,
    },
    /// A DSP's keys for prices.
    #[error(
        "{path} line {line}: {why}. The file has two lines, 32 to 128 hexadecimal digits each: for encryption, for integrity"
    )]
    Price {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Others may read it.
    #[error(
        "{path} can be read by everybody (mode {mode:o}): `chmod 640 {path}`, and make new keys if others have seen these"
    )]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// The keys of this configuration; none where no notice URL is ours. `entropy` is asked for a secret when one is to be made.
///
/// # Errors
/// [`NoticeKeysError`]
pub fn load(
    config: &Config,
    entropy: impl FnOnce(&mut [u8]) -> io::Result<()>,
) -> Result<Option<Keys>, NoticeKeysError> {
    if config.notices.url.is_none() {
        return Ok(None);
    }
    let own = config.state_dir.join("notice.keys");
    let path = config.notices.keys.as_deref().unwrap_or(&own);
    let io = |source| NoticeKeysError::Io { path: path.to_path_buf(), source };
    if config.notices.keys.is_none() && matches!(fs::metadata(path), Err(e) if e.kind() == io::ErrorKind::NotFound) {
        make(path, entropy).map_err(io)?;
    }
    let text = secret(path)?;
    let keys = read(&text).map_err(|(line, why)| NoticeKeysError::Line { path: path.to_path_buf(), line, why })?;
    let keys: Vec<(u8, &[u8])> = keys.iter().map(|(id, secret)| (*id, secret.as_slice())).collect();
    Keys::new(&keys).map(Some).map_err(|why| NoticeKeysError::Keys { path: path.to_path_buf(), why })
}

/// What a DSP reads prices with; none where it has no keys.
///
/// # Errors
/// [`NoticeKeysError`]
pub fn seal(dsp: &Dsp) -> Result<Option<Seal>, NoticeKeysError> {
    let Some(path) = &dsp.price_keys else { return Ok(None) };
    let text = secret(path)?;
    let wrong = |line, why| NoticeKeysError::Price { path: path.clone(), line, why };
    let mut keys = Vec::new();
    for (at, line) in lines(&text) {
        keys.push(unhex(line).ok_or_else(|| wrong(at, "no hexadecimal digits, or an odd number of them"))?);
    }
    let [encryption, integrity] = &keys[..] else { return Err(wrong(keys.len(), "there are to be two keys")) };
    Seal::new(encryption, integrity).map(Some).ok_or_else(|| wrong(1, "a key that is too short or too long"))
}

/// The text of a file that is nobody else's.
fn secret(path: &Path) -> Result<String, NoticeKeysError> {
    let io = |source| NoticeKeysError::Io { path: path.to_path_buf(), source };
    let text = fs::read_to_string(path).map_err(io)?;
    let mode = fs::metadata(path).map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(NoticeKeysError::Open { path: path.to_path_buf(), mode });
    }
    Ok(text)
}

/// Lines with their numbers. Empty ones and those that begin with `#` are passed over.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Whole or not at all, and never over one that is there.
fn make(path: &Path, entropy: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<()> {
    let mut secret = [0; SECRET_BYTES];
    entropy(&mut secret)?;
    let beside = path.with_extension("keys.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
    writeln!(file, "1 {hex}")?;
    file.sync_all()?;
    fs::hard_link(&beside, path)?;
    fs::remove_file(&beside)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

type Line = (usize, &'static str);

/// Numbers and secrets.
fn read(text: &str) -> Result<Vec<(u8, Vec<u8>)>, Line> {
    lines(text)
        .map(|(at, line)| {
            let (id, hex) = line.split_once(char::is_whitespace).ok_or((at, "no number and secret"))?;
            let id = id.parse().map_err(|_| (at, "no number"))?;
            let secret = unhex(hex.trim()).ok_or((at, "no hexadecimal digits, or an odd number of them"))?;
            if secret.len() > SECRET_MAX {
                return Err((at, "a secret that is too long"));
            }
            Ok((id, secret))
        })
        .collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path, more: &str) -> Config {
        let text = format!("state_dir = {dir:?}\n[notices]\nurl = \"http://we.example\"\n{more}");
        outcry::config::load(&text, 1).unwrap()
    }

    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("outcry-keys-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_key_is_made_once_and_stays() {
        let dir = folder("made");
        let with = |n: u8| {
            move |secret: &mut [u8]| {
                secret.fill(n);
                Ok(())
            }
        };
        assert_eq!(load(&outcry::config::load("", 1).unwrap(), with(9)).unwrap(), None);
        let first = load(&config(&dir, ""), with(1)).unwrap();
        assert!(first.is_some() && first == load(&config(&dir, ""), with(2)).unwrap());
        assert_eq!(fs::read_to_string(dir.join("notice.keys")).unwrap(), format!("1 {}\n", "01".repeat(32)));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_dsps_keys_are_two() {
        let dir = folder("price");
        let path = dir.join("k");
        let text = format!("[[dsp]]\nname = \"a\"\nurl = \"http://a.example\"\nprice_keys = {path:?}\n");
        let config = outcry::config::load(&text, 1).unwrap();
        let of = |text: &str| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            seal(&config.dsps[0])
        };
        let good = format!("# of dsp a\n{}\n{}\n", "ab".repeat(32), "cd".repeat(32));
        assert_eq!(of(&good).unwrap(), Seal::new(&[0xab; 32], &[0xcd; 32]));
        for (text, says) in [
            ("", "two keys"),
            ("ab\ncd", "too short"),
            ("x\n", "line 1: no hexadecimal"),
            (&good.repeat(2), "two keys"),
        ] {
            let said = of(text).unwrap_err().to_string();
            assert!(said.contains(says), "{said}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn files_and_what_is_wrong_with_them() {
        let dir = folder("wrong");
        let path = dir.join("k");
        let more = format!("keys = {path:?}\n");
        let try_ = |text: Option<&str>, mode: u32| {
            let _ = fs::remove_file(&path);
            if let Some(text) = text {
                fs::write(&path, text).unwrap();
                fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            }
            load(&config(&dir, &more), |_| unreachable!("a file is named"))
        };
        let good = format!("# the new one\n7 {}\n\n 3  {}\n", "ab".repeat(32), "cd".repeat(16));
        assert_eq!(try_(Some(&good), 0o640).unwrap().map(|k| k.signing()), Some(7));
        for (text, mode, says) in [
            (None, 0, "No such file"),
            (Some(good.as_str()), 0o644, "chmod 640"),
            (Some("7"), 0o600, "line 1: no number and secret"),
            (Some("\nx ab"), 0o600, "line 2: no number"),
            (Some("256 abab"), 0o600, "line 1: no number"),
            (Some("7 abc"), 0o600, "odd number"),
            (Some("7 abcd"), 0o600, "fewer than 16 bytes"),
            (Some(""), 0o600, "no key"),
        ] {
            let said = try_(text, mode).unwrap_err().to_string();
            assert!(said.contains(says), "{said}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
