//! What must not stand in the sources: ARCHITECTURE.md's absences that no run could show.
use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// The sources below a folder that are part of the product.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.extend((name != "tests").then_some(path));
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") && name != "fixtures.rs" {
                found.push(path);
            }
        }
    }
    found
}

/// Its code without comments and without the tests at its end.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source");
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines().filter(|l| !l.trim_start().starts_with("//"));
    lines.map(|l| format!("{l}\n")).collect()
}

/// None of these words stands in the code below `folder`, but for the files named.
#[track_caller]
fn absent(folder: &str, words: &[&str], but: &[&str]) {
    let files = sources(folder);
    assert!(!files.is_empty(), "{folder} is there");
    for path in files {
        let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        let code = code(&path);
        let stands = |word: &str| {
            // A word of the language, or a part of a path.
            if word.contains(':') {
                return code.contains(word);
            }
            code.split(|c: char| c != '_' && !c.is_alphanumeric()).any(|w| w == word)
        };
        let found: Vec<_> = words.iter().filter(|w| stands(w)).collect();
        assert_eq!(!found.is_empty(), but.contains(&name.as_str()), "{name}: {found:?}");
    }
}

#[test]
fn what_decides_touches_nothing() {
    let world = [
        "fs",
        "std::thread",
        "thread::",
        "std::env",
        "std::process",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "UnixDatagram",
        "Instant",
        "SystemTime",
        "getrandom",
        "RandomState",
        "Mutex",
        "RwLock",
        "Condvar",
        "mpsc",
        "async",
        "await",
    ];
    absent("src", &world, &[]);
}

/// Names of quantiles are no money.
#[test]
fn no_float_decides() {
    absent("src", &["f32", "f64"], &["src/record/table.rs"]);
    absent("cores/bidder", &["f32", "f64"], &[]);
}

#[test]
fn a_bidder_core_shares_nothing() {
    let shared = [
        "Arc",
        "Mutex",
        "RwLock",
        "Condvar",
        "Barrier",
        "mpsc",
        "AtomicBool",
        "AtomicU32",
        "AtomicU64",
        "AtomicUsize",
        "fs",
        "tokio",
        "Instant",
        "SystemTime",
    ];
    // rustls takes nothing else; what it points to is made and dropped on the same core.
    absent("cores/bidder", &shared, &["cores/bidder/egress/tls.rs"]);
}

#[test]
fn every_ring_is_made_in_one_place() {
    absent("cores", &["RingBuffer"], &["cores/wiring.rs"]);
    absent("src", &["RingBuffer", "rtrb"], &[]);
}
