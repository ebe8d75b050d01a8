//! Is what is here what `outcry.proto` says, and can readers and writers of all versions understand each other?
//!
//! `versions/vN.proto` is the file as it was when version N was given away, `versions/vN.golden.txt` messages as they were written
//! then: neither is ever made anew. A change of `outcry.proto` that is given away gets a copy of the file, a line in [`VERSIONS`] and
//! its messages: `OUTCRY_BLESS=1 cargo test -p outcry schema` writes them where there are none yet.
use super::*;
use prost::Message as _;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    ReflectMessage, Value,
};
use protox::{
    Compiler, Error,
    file::{File, FileResolver},
};
use std::collections::BTreeMap;

/// Versions that readers may have, each with its file; the last one is today's.
const VERSIONS: &[(&str, &str)] =
    &[("v1", include_str!("../versions/v1.proto")), ("v2", include_str!("../versions/v2.proto"))];

struct Text(String);

impl FileResolver for Text {
    fn open_file(&self, name: &str) -> Result<File, Error> {
        File::from_source(name, &self.0)
    }
}

fn pool(text: &str) -> DescriptorPool {
    let mut compiler = Compiler::with_file_resolver(Text(text.to_owned()));
    compiler.open_file("outcry.proto").unwrap_or_else(|e| panic!("{e:?}"));
    compiler.descriptor_pool()
}

fn event(pool: &DescriptorPool) -> MessageDescriptor {
    pool.get_message_by_name("outcry.v1.Event").expect("it is there")
}

/// One of each kind, every field of it with a value that no other has.
fn samples() -> Vec<Event> {
    let mut n = 0;
    let mut next = || {
        n += 1;
        n
    };
    let mut text = |what: &str| format!("{what}-{}", next());
    let auction = Auction {
        bidid: text("bidid"),
        request_id: text("request"),
        wall_ms: 1_795_219_200_123,
        exchange: text("exchange"),
        region: text("region"),
        tid: text("tid"),
        publisher: text("publisher"),
        channel: "site".to_owned(),
        country: "DEU".to_owned(),
        devicetype: 4,
        user_hash: 0xfedc_ba98_7654_3210,
        user_salt: 20_260,
        test: true,
        late: true,
        cur: "USD".to_owned(),
        accounting_cur: "EUR".to_owned(),
        at: 2,
        nbr: Some(0),
        decided_us: 21_345,
        imp: vec![Impression { id: text("imp"), tagid: text("tag"), bidfloor: -1, bidfloorcur: "JPY".to_owned() }],
        dsp: vec![Dsp {
            name: text("dsp"),
            outcome: "bid".to_owned(),
            asked: true,
            sent_us: 101,
            done_us: 20_202,
            bids: 3,
            asked_probability: 500,
        }],
        bid: vec![Bid {
            dsp: text("dsp"),
            seat: text("seat"),
            id: text("bid"),
            impid: text("imp"),
            price: 1_250_000,
            cur: "CHF".to_owned(),
            cid: text("cid"),
            crid: text("crid"),
            adomain: text("adomain"),
            dealid: text("deal"),
            loss: 102,
        }],
        house: vec![HouseAd { imp: 4, impid: text("imp"), crid: text("crid"), price: 10_000 }],
    };
    let result = AuctionResult {
        bidid: text("bidid"),
        request_id: text("request"),
        wall_ms: 1_795_219_200_124,
        exchange: text("exchange"),
        publisher: text("publisher"),
        country: "FRA".to_owned(),
        imp: 1,
        impid: text("imp"),
        tagid: text("tag"),
        dsp: text("dsp"),
        seat: text("seat"),
        bid: text("bid"),
        cid: text("cid"),
        crid: text("crid"),
        adomain: text("adomain"),
        dealid: text("deal"),
        price: 1_240_000,
        bid_price: 1_250_001,
        cur: "USD".to_owned(),
        charge: 1_145_000,
        accounting_cur: "EUR".to_owned(),
        account: 7,
        window: 29_920_320,
        awaited_s: 1_795_222_800,
        test: true,
    };
    let notice = Notice {
        bidid: text("bidid"),
        imp: 2,
        of: "billed".to_owned(),
        expired: true,
        price: 1_230_000,
        charge: 1_145_001,
        held: Some(0),
        account: 8,
        window: 29_920_321,
        expires_s: 1_795_222_801,
    };
    let settlement = Settlement {
        reason: Reason::LowerPrice as i32,
        bidid: text("bidid"),
        account: 9,
        window: 29_920_322,
        amount: 5,
        charged_epoch: 6,
    };
    let delivery = Delivery { bidid: text("bidid"), what: "client_left".to_owned() };
    let bodies = [
        Body::Auction(Box::new(auction)),
        Body::AuctionResult(Box::new(result)),
        Body::Notice(notice),
        Body::Settlement(settlement),
        Body::Delivery(delivery),
    ];
    let of = |(n, body): (u32, Body)| Event {
        id: format!("id-{n}"),
        key: format!("key-{n}"),
        node: 0xab00_0000 + n,
        epoch: 100 + n,
        writer: 65_535,
        seq: 1 << 40,
        hlc: 117_651_485_081_600_000 + u64::from(n),
        body: Some(body),
    };
    (1..).zip(bodies).map(of).collect()
}

/// Every field that is set, by its path.
fn flat(message: &DynamicMessage, path: &str, out: &mut BTreeMap<String, String>) {
    for (field, value) in message.fields() {
        let path = format!("{path}{}", field.name());
        match value {
            Value::Message(message) => flat(message, &format!("{path}."), out),
            Value::List(items) => items.iter().enumerate().for_each(|(n, item)| match item {
                Value::Message(message) => flat(message, &format!("{path}[{n}]."), out),
                item => drop(out.insert(format!("{path}[{n}]"), format!("{item:?}"))),
            }),
            value => drop(out.insert(path, format!("{value:?}"))),
        }
    }
}

fn read(pool: &DescriptorPool, bytes: &[u8]) -> BTreeMap<String, String> {
    let message = DynamicMessage::decode(event(pool), bytes).expect("it is read");
    let mut out = BTreeMap::new();
    flat(&message, "", &mut out);
    out
}

/// Fields that are not set in a message or in what is below it; and those that the schema does not know.
fn unset(message: &DynamicMessage, out: &mut Vec<String>) {
    out.extend(message.unknown_fields().map(|field| format!("{}: unknown {field:?}", message.descriptor().name())));
    for field in message.descriptor().fields() {
        let alternative = field.containing_oneof().is_some_and(|oneof| oneof.fields().len() > 1);
        match message.has_field(&field) {
            false if alternative => {}
            false => out.push(field.full_name().to_owned()),
            true => match &*message.get_field(&field) {
                Value::Message(message) => unset(message, out),
                Value::List(items) => items.iter().filter_map(Value::as_message).for_each(|m| unset(m, out)),
                _ => {}
            },
        }
    }
}

#[test]
fn what_is_written_is_what_the_file_says() {
    let pool = pool(PROTO);
    let bodies = event(&pool).oneofs().next().expect("bodies").fields().len();
    assert_eq!(samples().len(), bodies, "one of each");
    for sample in samples() {
        let bytes = sample.encode_to_vec();
        let message = DynamicMessage::decode(event(&pool), &bytes[..]).unwrap();
        let mut missing = Vec::new();
        unset(&message, &mut missing);
        assert_eq!(missing, Vec::<String>::new(), "the file has fields that are not written, or the other way round");
        assert_eq!(message.encode_to_vec(), bytes, "types and order");
        assert_eq!(Event::decode(&bytes[..]).unwrap(), sample);
    }
    let reason = pool.get_enum_by_name("outcry.v1.Settlement.Reason").expect("it is there");
    for value in reason.values() {
        let known = Reason::try_from(value.number()).unwrap();
        assert_eq!(format!("{known:?}").to_uppercase(), value.name().replace('_', ""));
    }
}

/// What a change must not do; each that `new` does is named.
fn broken(old: &DescriptorPool, new: &DescriptorPool) -> Vec<String> {
    let mut out = Vec::new();
    for message in old.all_messages() {
        match new.get_message_by_name(message.full_name()) {
            Some(now) => message.fields().for_each(|field| field_of(&field, &now, &mut out)),
            None => out.push(format!("{} is gone", message.full_name())),
        }
    }
    for known in old.all_enums() {
        match new.get_enum_by_name(known.full_name()) {
            Some(now) => values_of(&known, &now, &mut out),
            None => out.push(format!("{} is gone", known.full_name())),
        }
    }
    out
}

fn type_of(field: &FieldDescriptor) -> (Cardinality, String, Option<String>) {
    let kind = match field.kind() {
        Kind::Message(of) => of.full_name().to_owned(),
        Kind::Enum(of) => of.full_name().to_owned(),
        kind => format!("{kind:?}"),
    };
    // To move a field into a choice, or out of one, is another type.
    let oneof = field.containing_oneof().map(|oneof| oneof.name().to_owned());
    (field.cardinality(), kind, oneof)
}

fn field_of(field: &FieldDescriptor, now: &MessageDescriptor, out: &mut Vec<String>) {
    let name = field.full_name();
    match now.get_field(field.number()) {
        Some(same) if same.name() != field.name() => out.push(format!("{name}: its number is {}'s", same.name())),
        Some(same) if type_of(&same) != type_of(field) => out.push(format!("{name}: another type")),
        Some(_) => {}
        None => {
            if !now.reserved_ranges().any(|range| range.contains(&field.number())) {
                out.push(format!("{name}: gone, and its number not reserved"));
            }
            if !now.reserved_names().any(|reserved| reserved == field.name()) {
                out.push(format!("{name}: gone, and its name not reserved"));
            }
        }
    }
}

fn values_of(old: &EnumDescriptor, new: &EnumDescriptor, out: &mut Vec<String>) {
    for value in old.values() {
        let name = value.full_name();
        match new.get_value(value.number()) {
            Some(same) if same.name() != value.name() => out.push(format!("{name}: its number is {}'s", same.name())),
            Some(_) => {}
            None if new.reserved_ranges().any(|range| range.contains(&value.number())) => {}
            None => out.push(format!("{name}: gone, and its number not reserved")),
        }
    }
}

#[test]
fn nothing_that_was_given_away_is_given_again() {
    let now = pool(PROTO);
    for (version, text) in VERSIONS {
        assert_eq!(broken(&pool(text), &now), Vec::<String>::new(), "beside {version}");
    }
    let (last, text) = VERSIONS.last().expect("one");
    assert_eq!(PROTO, *text, "outcry.proto has changed since {last}: see the top of this file");
}

#[test]
fn a_change_that_breaks_readers_is_named() {
    let old = pool(PROTO);
    let changed = |from: &str, to: &str| {
        assert!(PROTO.contains(from), "{from}");
        broken(&old, &pool(&PROTO.replacen(from, to, 1)))
    };
    let event = "outcry.v1.Event";
    for (from, to, wrong) in [
        ("uint32 epoch = 4;", "uint64 epoch = 4;", vec![format!("{event}.epoch: another type")]),
        ("uint32 epoch = 4;", "repeated uint32 epoch = 4;", vec![format!("{event}.epoch: another type")]),
        ("uint32 epoch = 4;", "uint32 start = 4;", vec![format!("{event}.epoch: its number is start's")]),
        (
            "uint32 epoch = 4;",
            "",
            vec![
                format!("{event}.epoch: gone, and its number not reserved"),
                format!("{event}.epoch: gone, and its name not reserved"),
            ],
        ),
        ("uint32 epoch = 4;", "reserved 4; reserved \"epoch\";", vec![]),
        ("uint32 epoch = 4;", "uint32 epoch = 4; uint32 more = 8;", vec![]),
        ("optional int64 held = 7;", "int64 held = 7;", vec!["outcry.v1.Notice.held: another type".to_owned()]),
        ("NO_NOTICE = 2;", "", vec!["outcry.v1.Settlement.NO_NOTICE: gone, and its number not reserved".to_owned()]),
        ("NO_NOTICE = 2;", "OTHER = 2;", vec!["outcry.v1.Settlement.NO_NOTICE: its number is OTHER's".to_owned()]),
    ] {
        assert_eq!(changed(from, to), wrong, "{from} -> {to}");
    }
    let gone =
        PROTO.replace("message Delivery {", "message Deliveries {").replace("Delivery delivery", "Deliveries delivery");
    assert_eq!(broken(&old, &pool(&gone)), ["outcry.v1.Event.delivery: another type", "outcry.v1.Delivery is gone"]);
}

#[test]
fn readers_of_every_version_read_what_is_written_today() {
    let now = pool(PROTO);
    for (version, text) in VERSIONS {
        let old = pool(text);
        for sample in samples() {
            let bytes = sample.encode_to_vec();
            let (new, seen) = (read(&now, &bytes), read(&old, &bytes));
            assert!(!seen.is_empty());
            for (path, value) in seen {
                assert_eq!(new.get(&path), Some(&value), "{version}: {path}");
            }
        }
    }
}

/// A line each: the bytes in hexadecimal, then every field as it was meant.
#[test]
fn what_was_written_in_every_version_is_read_today() {
    let now = pool(PROTO);
    for (version, _) in VERSIONS {
        let path = format!("{}/src/ship/versions/{version}.golden.txt", env!("CARGO_MANIFEST_DIR"));
        if !std::path::Path::new(&path).exists() && std::env::var_os("OUTCRY_BLESS").is_some() {
            let line = |sample: Event| {
                let bytes = sample.encode_to_vec();
                let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                let fields: Vec<String> =
                    read(&now, &bytes).into_iter().map(|(path, v)| format!("{path}={v}")).collect();
                format!("{hex} {}\n", fields.join(" "))
            };
            std::fs::write(&path, samples().into_iter().map(line).collect::<String>()).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        assert_eq!(golden.lines().count(), samples().len());
        for line in golden.lines() {
            let (hex, fields) = line.split_once(' ').unwrap();
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            let seen = read(&now, &bytes);
            for field in fields.split(' ') {
                let (path, value) = field.split_once('=').unwrap();
                assert_eq!(seen.get(path).map(String::as_str), Some(value), "{version}: {path}");
            }
            Event::decode(&bytes[..]).unwrap();
        }
    }
}
