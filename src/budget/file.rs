//! The file of budgets, applied: what has to be done so that the accounts it names are as it says.
//! Owns: nothing. Runs on: the ledger's thread. Called by: the ledger, at the start and at each reload. Never: touches an account
//! that the file does not name; does a part of a file that has a mistake.
//!
//! The same file again does nothing. What it names it rules: a limit it does not set is none, and a lifetime budget that was
//! topped up otherwise is again what it says. Amounts in another currency are set at the rates of the reload.
use super::{
    manage::{Act, Changes, Known, Operation, Refused, apply, name_of},
    movement::{By, Movement},
    tree::{Owner, State, Tree},
};
use crate::config::{
    Mistake,
    budgets::{self, Buyer, Entry},
};

/// Makes the tree what a file says. The movements are to be stored together with the accounts they changed; the tree is to be
/// dropped if that fails.
///
/// # Errors
/// All that is wrong with the file; the tree is as it was.
pub fn apply_file(tree: &mut Tree, text: &str, known: &Known<'_>) -> Result<Vec<Movement>, Vec<Mistake>> {
    let entries = budgets::load(text)?;
    let (mut changed, mut movements, mut mistakes) = (tree.clone(), Vec::new(), Vec::new());
    for entry in &entries {
        match account(&mut changed, entry, known) {
            Ok(mut moved) => movements.append(&mut moved),
            Err(wrong) => mistakes.push(mistake(entry, &wrong)),
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    *tree = changed;
    Ok(movements)
}

/// Why an account cannot be as the file says.
enum Wrong {
    Refused(Refused),
    /// It belongs to another DSP, seat, cid or advertiser; this is to whom.
    Owner(String),
}

impl From<Refused> for Wrong {
    fn from(refused: Refused) -> Wrong {
        Wrong::Refused(refused)
    }
}

fn account(tree: &mut Tree, entry: &Entry, known: &Known<'_>) -> Result<Vec<Movement>, Wrong> {
    let mut movements = Vec::new();
    let mut act = |tree: &mut Tree, act| -> Result<(), Wrong> {
        let currency = entry.currency;
        let operation = Operation { account: entry.name.clone(), act, currency, who: String::new(), by: By::File };
        movements.extend(apply(tree, &operation, known)?);
        Ok(())
    };
    match tree.named(&entry.name) {
        None => act(tree, add(entry))?,
        Some(there) => {
            let owner = owner(tree, &there.owner);
            if owner != entry.buyer {
                return Err(Wrong::Owner(owner.map_or("an advertiser".to_owned(), |b| {
                    format!(
                        "a campaign of \"{}\": DSP \"{}\", seat \"{}\", cid \"{}\"",
                        b.advertiser, b.dsp, b.seat, b.cid
                    )
                })));
            }
            // Ended as it is to be: nothing of it matters any more.
            if there.state == State::Ended && entry.state == State::Ended {
                return Ok(Vec::new());
            }
            act(tree, Act::Set(entry.changes.clone()))?;
        }
    }
    let state = match entry.state {
        State::Active => Act::Resume,
        State::Paused => Act::Pause,
        State::Ended => Act::End,
    };
    act(tree, state)?;
    Ok(movements)
}

fn add(entry: &Entry) -> Act {
    let changes: Changes = entry.changes.clone();
    match entry.buyer.clone() {
        None => Act::AddAdvertiser(changes),
        Some(Buyer { advertiser, dsp, seat, cid }) => Act::AddCampaign { advertiser, dsp, seat, cid, changes },
    }
}

fn owner(tree: &Tree, owner: &Owner) -> Option<Buyer> {
    match owner {
        Owner::Advertiser => None,
        Owner::Campaign { advertiser, dsp, seat, cid } => {
            let advertiser = name_of(tree, *advertiser);
            Some(Buyer { advertiser, dsp: dsp.clone(), seat: seat.clone(), cid: cid.clone() })
        }
    }
}

fn mistake(entry: &Entry, wrong: &Wrong) -> Mistake {
    let (line, column) = entry.place;
    let (found, allowed) = match wrong {
        Wrong::Owner(is) => {
            (format!("another owner than it has; it is {is}"), "the owner it was added with".to_owned())
        }
        Wrong::Refused(refused) => {
            let text = refused.to_string();
            match text.split_once("; allowed: ") {
                Some((found, allowed)) => (found.to_owned(), allowed.to_owned()),
                None => (text, "what `outcry budget` would take".to_owned()),
            }
        }
    };
    let key = if entry.buyer.is_some() { "advertiser.campaign" } else { "advertiser" };
    Mistake { line, column, key: format!("{key} \"{}\"", entry.name.escape_debug()), found, allowed, nearest: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{
        AccountId,
        manage::tests::{configured, known},
        movement::Deed,
    };

    const FILE: &str = r#"[[advertiser]]
name = "acme"
zone = "Europe/Berlin"
daily = 1000

[[advertiser.campaign]]
name = "acme.summer"
dsp = "north"
seat = "s1"
cid = "c-1"
daily = "250.5"
hourly = 20
lifetime = 5000
currency = "EUR"
pacing = "even"

[[advertiser.campaign]]
name = "acme.winter"
dsp = "south"
daily = 1
state = "paused"
"#;

    fn deeds(movements: &[Movement]) -> Vec<(Deed, &str)> {
        movements.iter().map(|m| (m.deed, m.after.name.as_str())).collect()
    }

    #[test]
    fn a_file_is_done_once() {
        let (mut tree, config) = (Tree::default(), configured());
        let moved = apply_file(&mut tree, FILE, &known(&config)).unwrap();
        let want =
            [(Deed::Add, "acme"), (Deed::Add, "acme.summer"), (Deed::Add, "acme.winter"), (Deed::Pause, "acme.winter")];
        assert_eq!(deeds(&moved), want);
        let summer = tree.campaign("north", "s1", "c-1").unwrap();
        assert_eq!((summer.daily.to_string(), summer.zone().name()), ("271.46685".into(), "Europe/Berlin"));
        assert_eq!(apply_file(&mut tree, FILE, &known(&config)), Ok(vec![]), "the same again");
        // What it does not say is no limit; what it does not name stays.
        let less = FILE.replace("hourly = 20\nlifetime = 5000\n", "").replace("state = \"paused\"\n", "");
        let less = less.replace("name = \"acme.summer\"", "name = \"acme.summer\"\nstate = \"ended\"");
        let moved = apply_file(&mut tree, &less, &known(&config)).unwrap();
        let want = [(Deed::Set, "acme.summer"), (Deed::End, "acme.summer"), (Deed::Resume, "acme.winter")];
        assert_eq!(deeds(&moved), want);
        assert_eq!(moved[0].after.limits.lifetime, None);
        assert_eq!(apply_file(&mut tree, &less, &known(&config)), Ok(vec![]));
        assert_eq!(apply_file(&mut tree, "", &known(&config)), Ok(vec![]));
        assert_eq!(tree.len(), 3);
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_nothing_is_done() {
        let (mut tree, config) = (Tree::default(), configured());
        let wrong = FILE.replace("daily = 1000\n", "daily = -1\ndayly = 2\n").replace("\"EUR\"", "\"euro\"");
        let wrong = wrong.replace("\"acme.winter\"", "\"acme\"");
        let told: Vec<String> =
            apply_file(&mut tree, &wrong, &known(&config)).unwrap_err().iter().map(|m| m.to_string()).collect();
        let want = [
            "line 4, column 9: advertiser.daily: found -1; allowed: 0 to 1000000000 with at most nine decimals, as a number or as text",
            "line 5, column 1: advertiser.dayly: found an unknown key; allowed: name, daily, hourly, lifetime, currency, zone, state, \
             pacing, campaign; did you mean `daily`?",
            "line 15, column 12: advertiser.campaign.currency: found \"euro\"; allowed: an ISO-4217 code such as \"USD\"",
            "line 19, column 8: advertiser.campaign.name: found \"acme\" again, first on line 2; allowed: each one once",
        ];
        assert_eq!(told, want);
        let wrong = FILE
            .replace("Europe/Berlin", "Europe/Berlni")
            .replace("\"south\"", "\"sooth\"")
            .replace("\"EUR\"", "\"JPY\"");
        let told: Vec<String> =
            apply_file(&mut tree, &wrong, &known(&config)).unwrap_err().iter().map(|m| m.to_string()).collect();
        assert!(
            told[0].starts_with(
                "line 2, column 8: advertiser \"acme\": found no time zone is named \"Europe/Berlni\", did you mean"
            ),
            "{told:?}"
        );
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(tree.is_empty());
    }

    #[test]
    fn a_campaign_keeps_its_owner() {
        let (mut tree, config) = (Tree::default(), configured());
        apply_file(&mut tree, FILE, &known(&config)).unwrap();
        let before: Vec<_> = tree.list().cloned().collect();
        let moved = FILE.replace("cid = \"c-1\"", "cid = \"c-2\"").replace("daily = 1000", "daily = 7");
        let told = apply_file(&mut tree, &moved, &known(&config)).unwrap_err();
        assert!(told.len() == 1 && told[0].to_string().contains("cid \"c-1\""), "{told:?}");
        assert!(tree.list().eq(before.iter()), "not in part either");
        assert_eq!(tree.get(AccountId(1)).map(|a| a.daily.to_string()), Some("1000".into()));
    }
}
