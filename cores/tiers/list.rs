//! `outcry tiers list`: what is in a store, by the names of its manifests alone.
use super::{Of, TiersError, listed, nodes, store::Store};
use crate::out::out;
use clap::Args;
use outcry::{
    record::{
        show::{columns::Columns, json::Object},
        when::utc,
    },
    tiers::plan,
};

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    #[command(flatten)]
    of: Of,
    /// A JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
}

/// True: no segment is missing between two that are there.
pub(super) fn run(args: &ListArgs) -> Result<bool, TiersError> {
    let store = Store::open(&args.of.url, false)?;
    let all = listed(&store, None)?;
    let mut text = String::new();
    let mut columns = Columns::new(&["node", ">segments", ">to", "from", "until", "tier"]);
    let mut whole = true;
    for node in nodes(&all, args.of.node) {
        let mut expected: Option<u64> = None;
        for known in plan::known(all.clone(), node) {
            let batch = &known.batch;
            if let Some(next) = expected.filter(|next| *next < batch.first) {
                whole = false;
                let last = batch.first - 1;
                if args.json {
                    text += &format!("{{\"node\":\"{node:08x}\",\"missing_first\":{next},\"missing_last\":{last}}}\n");
                } else {
                    let [from, until, tier] = ["", "", "MISSING"].map(String::from);
                    columns.row([format!("{node:08x}"), next.to_string(), last.to_string(), from, until, tier]);
                }
            }
            expected = Some(batch.last + 1);
            let tier = if known.cooled { "cold" } else { "warm and cold" };
            if args.json {
                Object::write(&mut text, |o| {
                    o.word("node", format_args!("{node:08x}"));
                    o.number("first", batch.first);
                    o.number("last", batch.last);
                    o.word("from", utc(batch.from_ms));
                    o.word("to", utc(batch.to_ms));
                    o.word("tier", tier);
                    o.text("manifest", batch.manifest().as_bytes());
                });
                text.push('\n');
            } else {
                let (from, until) = (utc(batch.from_ms), utc(batch.to_ms));
                let (first, last) = (batch.first.to_string(), batch.last.to_string());
                columns.row([format!("{node:08x}"), first, last, from, until, tier.to_string()]);
            }
        }
    }
    if all.is_empty() && !args.json {
        text += "nothing is in this store\n";
    }
    if !columns.is_empty() {
        columns.write(&mut text);
    }
    out(&text);
    Ok(whole)
}
