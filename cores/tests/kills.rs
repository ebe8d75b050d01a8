//! The program killed under load, again and again, its journal judged from outside by `scripts/kills` and `scripts/judge`:
//! every answered auction is in it, exactly once. And the judge finds what is planted.
use std::process::{Command, Output};

/// Kills in the ordinary run; `OUTCRY_KILLS` sets another number. The proof is `scripts/kills --kills 1000`, at the speed of a
/// release build.
const KILLS: &str = "40";
const KILLS_WITH_BUDGETS: &str = "24";
const KILLS_WITH_NOTICES: &str = "16";
/// A fault that was not found within so many is not found.
const KILLS_FOR_A_FAULT: &str = "100";

fn kills(args: &[&str], fault: Option<&str>) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/kills");
    let mut command = Command::new("python3");
    command.arg(script).args(["--outcry", env!("CARGO_BIN_EXE_outcry"), "--rate", "1500"]).args(args);
    // Whoever plants a fault for the whole run would have every other test fail.
    command.env_remove("OUTCRY_TEST_FAULT");
    if let Some(fault) = fault {
        command.env("OUTCRY_TEST_FAULT", fault);
    }
    command.output().expect("python3 runs")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn nothing_that_was_answered_is_missing_whenever_it_is_killed() {
    let many = std::env::var("OUTCRY_KILLS").unwrap_or_else(|_| KILLS.to_owned());
    let output = kills(&["--kills", &many], None);
    println!("{}", text(&output));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

/// The same with budgets that end during the run: what was answered, what is recorded and what the ledger says are one sum.
#[test]
fn no_money_is_missing_or_spent_twice_whenever_it_is_killed() {
    let many = std::env::var("OUTCRY_KILLS").unwrap_or_else(|_| KILLS_WITH_BUDGETS.to_owned());
    let output = kills(&["--budgets", "--kills", &many], None);
    println!("{}", text(&output));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

/// The same with notices that are called, some twice, some forged: what was acknowledged is recorded and told, and what was
/// billed is what was spent.
#[test]
fn no_notice_is_forgotten_or_believed_that_is_not_ours_whenever_it_is_killed() {
    let many = std::env::var("OUTCRY_KILLS").unwrap_or_else(|_| KILLS_WITH_NOTICES.to_owned());
    let args = ["--settle", "--budgets", "--notices", "--kills", &many, "--rate", "400"];
    let output = kills(&args, None);
    println!("{}", text(&output));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

/// Only a debug build can be made to err.
#[cfg(debug_assertions)]
#[track_caller]
fn finds(fault: &str, says: &str, args: &[&str]) {
    let common = ["--kills", KILLS_FOR_A_FAULT, "--round", "10", "--serve-ms", "100"];
    let output = kills(&[&common, args].concat(), Some(fault));
    let text = text(&output);
    println!("{fault}:\n{text}");
    assert_eq!(output.status.code(), Some(1), "{fault} was not found:\n{text}");
    assert!(text.contains(says), "{fault} was not found as what it is:\n{text}");
}

#[cfg(debug_assertions)]
#[test]
fn a_record_that_is_published_after_its_answer_was_sent_is_found() {
    finds("published-late", "an answered auction is not recorded", &[]);
}

#[cfg(debug_assertions)]
#[test]
fn a_black_box_that_forgets_what_is_not_on_disk_is_found() {
    finds("released-early", "an answered auction is not recorded", &["--commit-ms", "5"]);
}

#[cfg(debug_assertions)]
#[test]
fn frames_without_a_checksum_are_found() {
    finds("no-checksum", "an answered auction is not recorded", &[]);
}

/// Most are seen when a start dies that has read out much of what there was.
#[cfg(debug_assertions)]
#[test]
fn a_start_that_reads_out_what_the_journal_has_is_found() {
    finds("no-deduplication", "is there twice", &["--in-start", "0.5", "--start-ms", "120", "--commit-ms", "5"]);
}

/// A black box that is full most of the time.
#[cfg(debug_assertions)]
#[test]
fn auctions_without_room_for_their_records_are_found() {
    let small = ["--box-bytes", "524288", "--commit-ms", "1000", "--serve-ms", "400"];
    finds("no-reservation", "an answered auction is not recorded", &small);
}

#[cfg(debug_assertions)]
#[test]
fn money_that_comes_home_though_it_was_spent_is_found() {
    finds("settled-unread", "ledger", &["--budgets"]);
}

#[cfg(debug_assertions)]
#[test]
fn money_that_is_used_before_its_grant_is_durable_is_found() {
    finds("grant-not-kept", "ledger", &["--budgets"]);
}

#[cfg(debug_assertions)]
#[test]
fn notices_that_are_acknowledged_and_not_recorded_are_found() {
    finds("notice-unrecorded", "an acknowledged notice is not recorded", &["--notices", "--rate", "400"]);
}

#[cfg(debug_assertions)]
#[test]
fn notices_that_are_acted_on_twice_are_found() {
    finds("notice-twice", "the exchange did not die between", &["--notices", "--rate", "400"]);
}

#[cfg(debug_assertions)]
#[test]
fn notices_that_a_start_does_not_read_are_found() {
    finds("notices-unread", "a DSP was not told of an acknowledged notice", &["--notices", "--rate", "400"]);
}

#[cfg(debug_assertions)]
#[test]
fn holds_that_a_start_forgets_are_found() {
    finds("holds-forgotten", "the ledger", &["--settle", "--budgets", "--notices", "--rate", "400"]);
}
