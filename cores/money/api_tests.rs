use super::*;
use crate::money::{ledger::Ledger, store::FILE};
use outcry::{config, units::Now};
use std::path::PathBuf;

/// 2026-11-21T12:00Z.
const NOON_MS: u64 = (20_778 * 1440 + 720) * 60_000;

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn books(name: &str) -> (Ledger, impl Sized) {
    let dir = std::env::temp_dir().join(format!("outcry-api-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a folder");
    (open(&dir), Folder(dir))
}

fn open(dir: &std::path::Path) -> Ledger {
    let text = "[rates]\nid = \"2026-11-21\"\n[rates.table]\nEUR = 1.0837\n[[dsp]]\nname = \"north\"\nurl = \"http://127.0.0.1:1/\"\n";
    let text = format!("state_dir = {dir:?}\n{text}");
    let config = config::load(&text, 1).expect("a configuration");
    Ledger::open(&config, || Now { boot_ns: 0, wall_offset_ns: (NOON_MS * 1_000_000) as i64 }).expect("a ledger")
}

fn get(books: &mut Ledger, target: &str) -> Answer {
    answer(&Call { post: false, target: target.into(), body: Vec::new() }, books)
}

fn post(books: &mut Ledger, body: &str) -> Answer {
    answer(&Call { post: true, target: "/budget/operations".into(), body: body.into() }, books)
}

fn value(answer: &Answer) -> serde_json::Value {
    assert!(answer.json, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap_or_else(|e| panic!("{e}: {}", answer.body))
}

const ACME: &str = r#"{"account":"acme","do":"add_advertiser","daily":100,"zone":"Europe/Berlin","who":"ann"}"#;
const SUMMER: &str = r#"{"account":"summer","do":"add_campaign","advertiser":"acme","dsp":"north","seat":"s","cid":"c","daily":"10.5","currency":"EUR"}"#;

#[test]
fn budgets_are_added_changed_and_shown() {
    let (mut books, _folder) = books("shown");
    assert_eq!(value(&post(&mut books, ACME))["change"]["after"]["daily"], 100);
    assert_eq!(value(&post(&mut books, SUMMER))["change"]["converted"]["rate"], 1.0837);
    let paused = value(&post(&mut books, r#"{"account":"acme","do":"pause"}"#));
    assert_eq!((&paused["changed"], &paused["change"]["after"]["state"]), (&true.into(), &"paused".into()));
    assert_eq!(value(&post(&mut books, r#"{"account":"acme","do":"pause"}"#)), serde_json::json!({"changed": false}));
    let more = r#"{"account":"summer","do":"top_up","of":"today","amount":5}"#;
    assert_eq!(post(&mut books, more).status, 200);

    let all = value(&get(&mut books, "/budget/accounts"));
    assert_eq!(all["accounts"].as_array().map(Vec::len), Some(2));
    let summer = value(&get(&mut books, "/budget/accounts/summer"));
    assert_eq!(summer, all["accounts"][1]);
    assert_eq!((&summer["daily"], &summer["advertiser_is"]), (&11.37885.into(), &"paused".into()));
    assert_eq!(
        summer["today"],
        serde_json::json!({"ceiling": 16.37885, "committed": 0, "spent": 0, "held": 0, "leased": 0, "quarantined": 0, "forfeit": 0})
    );
    let first = value(&get(&mut books, "/budget/accounts?most=1"));
    assert_eq!((first["accounts"].as_array().map(Vec::len), &first["next"]), (Some(1), &2.into()));
    let rest = value(&get(&mut books, "/budget/accounts?from=2&most=1"));
    assert_eq!((&rest["accounts"][0]["name"], rest.get("next")), (&"summer".into(), None));

    let history = value(&get(&mut books, "/budget/accounts/acme/history"));
    let deeds: Vec<_> = history["history"].as_array().expect("a list").iter().map(|m| m["did"].as_str()).collect();
    assert_eq!(deeds, [Some("pause"), Some("add")]);
}

#[test]
fn people_get_tables() {
    let (mut books, _folder) = books("tables");
    assert_eq!(post(&mut books, ACME).status, 200);
    assert_eq!(post(&mut books, SUMMER).status, 200);
    assert_eq!(post(&mut books, r#"{"account":"summer","do":"set","hourly":"2","who":"ann"}"#).status, 200);
    let table = |books: &mut Ledger, target: &str| get(books, target).body;
    assert_eq!(
        table(&mut books, "/budget/accounts?format=table"),
        "  account  state      daily     today  committed  spent  hourly  lifetime  zone           pacing  dsp    seat  cid\n  \
           acme     active       100       100          0      0       -         -  Europe/Berlin  asap    -      -     -\n  \
           summer   active  11.37885  11.37885          0      0       2         -  Europe/Berlin  asap    north  s     c\n"
    );
    let shown = table(&mut books, "/budget/accounts/summer?format=table");
    assert!(shown.ends_with("\n  zone and hourly limit as shown hold from 2026-11-21T13:00:00.000Z on\n"), "{shown}");
    assert_eq!(
        table(&mut books, "/budget/accounts/summer/history?format=table"),
        "  when                      account  did  by     who  what\n  \
           2026-11-21T12:00:00.000Z  summer   set  admin  ann  hourly - -> 2\n  \
           2026-11-21T12:00:00.000Z  summer   add  admin  -    daily 11.37885, zone Europe/Berlin, state active, pacing asap, \
         given in EUR at 1.0837 (2026-11-21)\n"
    );
}

#[test]
fn what_cannot_be_is_told_with_its_status() {
    let (mut books, _folder) = books("refused");
    post(&mut books, ACME);
    for (body, status, want) in [
        ("{", 400, "unexpected end of JSON"),
        (ACME, 422, "there is an account named \"acme\""),
        (r#"{"account":"acmee","do":"pause"}"#, 404, "did you mean \"acme\"?"),
        (r#"{"account":"acme","do":"set","daily":1,"currency":"JPY"}"#, 422, "there is no rate for JPY"),
    ] {
        let answer = post(&mut books, body);
        assert_eq!(answer.status, status, "{}", answer.body);
        let told = value(&answer)["error"].as_str().map(str::to_owned).expect("an error");
        assert!(told.contains(want), "{told}");
    }
    assert_eq!(get(&mut books, "/budget/accounts/nobody").status, 404);
    assert_eq!(get(&mut books, "/budget/operations").status, 404);
    let line = get(&mut books, "/budget/accounts/acmee?format=table");
    assert_eq!((line.json, line.body.as_str()), (false, "no account is named \"acmee\", did you mean \"acme\"?\n"));
}

#[test]
fn a_file_of_budgets_is_kept() {
    let (mut books, folder) = books("file");
    let text = "[[advertiser]]\nname = \"acme\"\ndaily = 5\n";
    assert_eq!(books.apply_file(text).expect("it can be"), 1);
    assert_eq!(books.apply_file(text).expect("again"), 0);
    let wrong = books.apply_file("[[advertiser]]\nname = \"acme\"\n").expect_err("no budget").to_string();
    assert!(wrong.contains("\n  line 1, column 1: advertiser.daily: found nothing"), "{wrong}");
    drop(books);
    let dir = std::env::temp_dir().join(format!("outcry-api-file-{}", std::process::id()));
    assert!(dir.join(FILE).exists());
    assert_eq!(open(&dir).tree().named("acme").map(|a| a.daily), Some(Money(5_000_000_000)));
    drop(folder);
}
