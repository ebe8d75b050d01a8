//! What the fuzzers have found, in the ordinary tests: the inputs that reach different code, and those that were once
//! wrong. `scripts/fuzz` adds to the first, a person with a mended fault to the second.
use std::{
    panic::catch_unwind,
    path::{Path, PathBuf},
};

fn inputs(kind: &str, target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target);
    let entries = std::fs::read_dir(&folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    files.sort();
    files
}

#[test]
fn every_kept_input_holds() {
    let mut wrong = Vec::new();
    for (target, check) in outcry_fuzz::TARGETS {
        let corpus = inputs("corpus", target);
        assert!(!corpus.is_empty(), "{target}: no corpus");
        for file in corpus.into_iter().chain(inputs("regressions", target)) {
            let bytes = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            if catch_unwind(|| check(&bytes)).is_err() {
                wrong.push(file);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
