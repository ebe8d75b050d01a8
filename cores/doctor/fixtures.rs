//! For tests of the groups of knobs.
use super::{
    finding::Finding,
    machine::{Read, Unread},
};

/// The verdicts are these, and some finding says this.
#[track_caller]
pub(super) fn check(findings: &[Finding], verdicts: &[&str], says: &str) {
    let got: Vec<&str> = findings.iter().map(|f| f.verdict.name()).collect();
    assert_eq!(got, verdicts, "{findings:#?}");
    let told = |f: &Finding| f.found.contains(says) || f.wanted.contains(says) || f.mend.join("\n").contains(says);
    assert!(findings.iter().any(told), "no {says:?} in {findings:#?}");
}

/// A value that may not be read.
pub(super) fn unread<T>() -> Read<T> {
    Err(Unread { place: "/proc/x".to_owned(), why: "Permission denied".to_owned(), absent: false })
}

/// A value that this machine does not have.
pub(super) fn absent<T>() -> Read<T> {
    Err(Unread { place: "/sys/x".to_owned(), why: "No such file or directory".to_owned(), absent: true })
}
