//! What a lookup of an id opens of an archive.
use super::{AUCTIONS, At, LATE, Scratch, event, export, id, objects, outcry, stores, waits, written};
use outcry::tiers::{hex, sha256};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// So many segments the archive has, and so many of them were opened, says a lookup.
pub(super) fn opened(err: &str) -> (usize, usize) {
    let line = err.lines().find(|line| line.contains("says which of ")).unwrap_or_else(|| panic!("{err}"));
    let number = |text: &str| text.split_whitespace().next().and_then(|n| n.parse().ok());
    let (of, many) = line.split_once("says which of ").expect("it").1.split_once(" to open: ").expect("two numbers");
    (number(of).expect("a number"), number(many).expect("a number"))
}

/// The bytes of the segments in an archive, by the names of their objects.
fn archived(at: &At) -> BTreeMap<String, Vec<u8>> {
    let packed = objects(at).into_iter().filter(|(name, _)| name.ends_with(".log.zst"));
    packed.map(|(name, bytes)| (name, zstd::decode_all(&bytes[..]).expect("zstd"))).collect()
}

#[test]
fn a_lookup_of_an_id_opens_what_can_hold_it() {
    for at in stores("ids") {
        let dir = Scratch::new("ids");
        written(&dir, AUCTIONS, None);
        assert_eq!(export(&dir, &at, &["--segments", "4"]).0, 0);
        let ask =
            |text: &str, more: &[&str]| outcry(&[&["audit", "request", text, dir.str(), "--json"], more].concat());
        let asked: Vec<(u64, String, (i32, String, String))> = (1..AUCTIONS)
            .step_by(89)
            .flat_map(|n| [(n, id(n)), (n, event(n).to_string())])
            .map(|(n, text)| (n, text.clone(), ask(&text, &[])))
            .collect();
        let tiers = ["--tiers", &at.url];
        let (_, _, err) = ask(&asked[0].1, &tiers);
        assert!(err.contains("read from the journal alone"), "what the journal has no store is asked for: {err}");
        dir.segments().iter().for_each(|path| fs::remove_file(path).expect("a segment"));
        let (mut all, mut in_all, mut segments) = (0, 0, 0);
        for (n, text, (code, expected, _)) in &asked {
            let (found, out, err) = ask(text, &tiers);
            assert_eq!((found, &out), (*code, expected), "{text}: {err}");
            let (of, many) = opened(&err);
            // What is awaited may go home in another segment; both may be the last of theirs.
            assert!(many <= if waits(*n) || *n == LATE { 5 } else { 2 }, "{text}: {many} of {of} segments");
            (all, in_all, segments) = (all + 1, in_all + many, of);
        }
        println!("{all} lookups opened {in_all} of {} segments", all * segments);
        assert!(segments > 8);
        // Of what was never asked nothing is opened, or next to nothing.
        let vain: usize = (0..20).map(|n| opened(&ask(&format!("nobody-{n}"), &tiers).2).1).sum();
        assert!(vain <= 20 * segments / 50, "{vain} of {} segments", 20 * segments);
        if at.url.starts_with("s3://") {
            continue;
        }

        // It is so: the others need not be there.
        let (n, text, (_, expected, _)) = asked.iter().find(|(n, ..)| !waits(*n)).expect("one");
        let whole = archived(&at);
        let holds = |bytes: &[u8]| {
            [id(*n), event(*n).to_string()].iter().any(|id| bytes.windows(id.len()).any(|w| w == id.as_bytes()))
        };
        let others: Vec<&String> = whole.iter().filter(|(_, bytes)| !holds(bytes)).map(|(name, _)| name).collect();
        let hidden = Scratch::new("ids-hidden");
        for name in &others {
            let (path, aside) =
                (Path::new(&at.url).join(name), hidden.0.join(Path::new(name).file_name().expect("a name")));
            fs::copy(&path, aside).and_then(|_| fs::remove_file(path)).expect("aside");
        }
        assert!(others.len() + 3 > segments, "{} of {segments}", others.len());
        let (_, out, err) = ask(text, &tiers);
        if opened(&err).1 == segments - others.len() {
            assert_eq!(&out, expected, "{err}");
        }
        for name in &others {
            fs::copy(hidden.0.join(Path::new(name).file_name().expect("a name")), Path::new(&at.url).join(name))
                .expect("back");
        }

        // An index that is damaged, or was never made, is not believed; with a time the archive is searched without it.
        let day = ["--tiers", &at.url, "--from", "2026-01-31", "--to", "2026-02-03"];
        let indices: Vec<PathBuf> = objects(&at)
            .into_keys()
            .filter(|name| name.contains("/ids-"))
            .map(|name| Path::new(&at.url).join(name))
            .collect();
        for path in &indices {
            let mut bytes = fs::read(path).expect("an index");
            bytes.iter_mut().step_by(16).for_each(|byte| *byte ^= 1);
            fs::write(path, bytes).expect("written");
        }
        let (code, _, err) = ask(text, &tiers);
        assert!(code == 1 && err.contains("is missing or damaged") && err.contains("were not searched"), "{err}");
        let (_, out, err) = ask(text, &day);
        assert!(&out == expected && err.contains("their segments of that time are opened"), "{err}");
        indices.iter().for_each(|path| fs::remove_file(path).expect("an index"));
        assert_eq!(&ask(text, &day).1, expected);
        for (name, bytes) in objects(&at).into_iter().filter(|(name, _)| name.starts_with("manifests/")) {
            fs::write(Path::new(&at.url).join(name), version_1(&String::from_utf8_lossy(&bytes))).expect("written");
        }
        assert_eq!(outcry(&["tiers", "verify", &at.url]).0, 0, "what earlier releases wrote is whole");
        let (code, _, err) = ask(text, &tiers);
        assert!(code == 1 && err.contains("were not searched") && !err.contains("damaged"), "{err}");
        let (_, out, err) = ask(text, &day);
        assert!(&out == expected && err.contains("their segments of that time are opened"), "{err}");
    }
}

/// A manifest as a release wrote it that knew no index of ids.
fn version_1(manifest: &str) -> String {
    let (before, _) = manifest.split_once(",\"ids\":").expect("an index");
    let before = before.replacen("\"version\":2", "\"version\":1", 1);
    let digest = hex(&sha256(before.as_bytes()));
    format!("{before},\"sha256\":\"{digest}\"}}\n")
}
