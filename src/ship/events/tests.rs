use super::*;
use crate::ship::schema::Event;
use crate::{
    auction::delivery::Freed,
    budget::LineKey,
    notice::{holds::Of, price::Said, token::Kind as NoticeKind, told::Name},
    record::frame::{self, Header},
    units::{Cpm, Money},
};
use prost::Message as _;

struct Called;

impl Names for Called {
    fn advertiser(&mut self, account: AccountId) -> String {
        format!("advertiser of {}", account.0)
    }
}

const EVENT: EventId = EventId { node: 1, epoch: 2, core: 3, seq: 4 };
const BIDID: &str = "000000010000000200030000000000000004";

fn framed(kind: Kind, encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    let at = frame::begin(&mut out);
    encode(&mut out);
    frame::finish(&mut out, at, &Header { seq: 9, epoch: 2, writer: 3, kind: kind as u8, version: 1, hlc: 7 << 16 });
    out
}

/// A message, kept.
struct Sent {
    topic: Topic,
    kind: &'static str,
    key: String,
    id: String,
}

/// What a frame becomes, each message with what is in it.
fn sent(bytes: &[u8]) -> Vec<(Sent, Event)> {
    let frame = frame::decode(bytes).expect("a frame");
    let mut out = Vec::new();
    messages(&frame, 0xab, &mut Called, &mut Room::default(), &mut |message: Message<'_>| {
        let event = Event::decode(message.payload).expect("an event");
        assert_eq!((&event.id[..], &event.key[..]), (message.id, message.key));
        assert_eq!(event.encode_to_vec(), message.payload, "as whoever has the schema would write it");
        assert_eq!((event.node, event.epoch, event.writer, event.seq, event.hlc), (0xab, 2, 3, 9, 7 << 16));
        let Message { topic, key, id, payload } = message;
        let kind = schema::kind(payload).expect("a body");
        out.push((Sent { topic, kind, key: key.to_owned(), id: id.to_owned() }, event));
    })
    .expect("it is read");
    out
}

fn brief(sent: &[(Sent, Event)]) -> Vec<(Topic, &str, &str, &str)> {
    sent.iter().map(|(m, _)| (m.topic, m.kind, &m.key[..], &m.id[..])).collect()
}

/// Auctions of every version, as they were written.
fn auctions() -> Vec<Vec<u8>> {
    let golden = [
        include_str!("../../auction/record/v1.golden.txt"),
        include_str!("../../auction/record/v2.golden.txt"),
        include_str!("../../auction/record/v3.golden.txt"),
        include_str!("../../auction/record/v4.golden.txt"),
        include_str!("../../auction/record/v5.golden.txt"),
    ];
    let of =
        |line: &str| (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect();
    golden.iter().flat_map(|text| text.lines()).map(of).collect()
}

#[test]
fn an_auction_is_one_event_and_one_result_for_each_win() {
    let (mut paid, mut unpaid, mut house, mut chances) = (0, 0, 0, 0);
    for payload in auctions() {
        let record = Record::decode(&payload).unwrap();
        let sent = sent(&framed(Kind::Auction, |out| out.extend_from_slice(&payload)));
        let (first, event) = &sent[0];
        let bidid = text_of(&record.inputs.event.text()).to_owned();
        let Some(Body::Auction(whole)) = &event.body else { panic!("{event:?}") };
        assert_eq!(
            (first.topic, first.kind, &first.id, &first.key),
            (Topic::Auctions, "auction", &bidid, &whole.request_id)
        );
        assert_eq!(whole.bid.len(), record.inputs.bids.len());
        assert_eq!(whole.dsp.len(), record.inputs.legs.len() + record.inputs.not_asked.len());
        let asked = record.inputs.legs.iter().map(|leg| leg.asked_probability);
        let asked = asked.chain(record.inputs.not_asked.iter().map(|not| not.asked_probability));
        for (dsp, probability) in whole.dsp.iter().zip(asked) {
            let said = if dsp.asked_probability == 0 { 10_000 } else { dsp.asked_probability };
            assert_eq!(said, u32::from(probability.of_10_000()));
            chances += u32::from(said < 10_000);
        }
        assert_eq!(whole.house.len(), record.house.len());
        for (said, ad) in whole.house.iter().zip(&record.house) {
            let i = &record.inputs;
            assert_eq!((said.imp, said.price), (ad.imp.into(), ad.price.0));
            assert_eq!(
                (said.impid.as_bytes(), said.crid.as_bytes()),
                (i.text(i.imps[said.imp as usize].id), i.text(ad.crid))
            );
            house += 1;
        }
        let won = whole.bid.iter().filter(|bid| bid.loss == 0).count();
        assert_eq!((won, sent.len() - 1), (record.decision.wins.len(), record.decision.wins.len()));
        for (win, (message, event)) in record.decision.wins.iter().zip(&sent[1..]) {
            let Some(Body::AuctionResult(result)) = &event.body else { panic!("{event:?}") };
            assert_eq!((message.topic, message.kind), (Topic::Results, "auction_result"));
            assert_eq!(message.id, format!("{bidid}/{}", win.imp));
            assert_eq!((result.price, result.charge, result.account), (win.price.0, win.charge.0, win.account.0));
            let bid = whole.bid.iter().find(|bid| bid.loss == 0 && bid.impid == result.impid).expect("the bid");
            assert_eq!((&bid.dsp, &bid.seat, &bid.id), (&result.dsp, &result.seat, &result.bid));
            if win.account.is_some() {
                paid += 1;
                assert_eq!(message.key, format!("advertiser of {}", win.account.0));
            } else {
                unpaid += 1;
                assert_eq!(message.key, format!("{}/{}", result.dsp, result.seat));
            }
        }
    }
    assert!(paid > 3 && unpaid > 3, "{paid} of accounts, {unpaid} of nobody's");
    assert!(house > 0 && chances > 0, "{house} house ads, {chances} by chance");
}

fn noticed(account: u32, buyer: &[u8]) -> Vec<u8> {
    framed(Kind::Notice, |out| {
        Notice {
            name: Name { event: EVENT, imp: 1, kind: NoticeKind::Billed },
            expired: false,
            said: Said::Lower,
            price: Cpm(1_250_000),
            charge: Money(1_250_000),
            held: Some(Money(1_500_000)),
            account: AccountId(account),
            period: Period(29_000_000),
            expires_s: 5,
            buyer,
            url: b"http://dsp.example/b",
        }
        .encode(out);
    })
}

#[test]
fn what_follows_an_auction_goes_where_its_money_is() {
    let of_account = sent(&noticed(7, b""));
    let id = format!("{BIDID}/1/billed");
    assert_eq!(brief(&of_account), [(Topic::Results, "notice", "advertiser of 7", &id[..])]);
    let Some(Body::Notice(said)) = &of_account[0].1.body else { panic!() };
    assert_eq!((said.charge, said.held, said.account, said.window), (1_250_000, Some(1_500_000), 7, 29_000_000));
    assert_eq!(brief(&sent(&noticed(0, b"north/s-7"))), [(Topic::Results, "notice", "north/s-7", &id[..])]);
    // Of before: nobody is named.
    assert_eq!(brief(&sent(&noticed(0, b""))), [(Topic::Results, "notice", BIDID, &id[..])]);

    let freed = |account| Freed { account: AccountId(account), period: Period(29_000_000), amount: Money(5) };
    let bytes = framed(Kind::Delivery, |out| Delivery::ClientLeft.encode(EVENT, &[freed(7), freed(8)], out));
    let [whole, first, second] = ["delivery", "freed/0", "freed/1"].map(|of| format!("{BIDID}/{of}"));
    let left = sent(&bytes);
    assert_eq!(
        brief(&left),
        [
            (Topic::Auctions, "delivery", BIDID, &whole[..]),
            (Topic::Results, "settlement", "advertiser of 7", &first[..]),
            (Topic::Results, "settlement", "advertiser of 8", &second[..]),
        ]
    );
    let Some(Body::Settlement(said)) = &left[1].1.body else { panic!() };
    assert_eq!((said.reason, said.amount, said.charged_epoch, &said.bidid[..]), (1, 5, 2, BIDID));

    for (minute, reason) in [(0, Reason::LowerPrice), (4, Reason::NoNotice)] {
        let line = LineKey { account: AccountId(9), period: Period(29_000_000) };
        let lapse = Lapse { of: Of { epoch: 6, line }, minute, amount: Money(3) };
        let sent = sent(&framed(Kind::Settlement, |out| lapse.encode(out)));
        assert_eq!(brief(&sent), [(Topic::Results, "settlement", "advertiser of 9", "frame/000000ab-2-3-9")]);
        let Some(Body::Settlement(said)) = &sent[0].1.body else { panic!() };
        assert_eq!((said.reason, said.amount, said.charged_epoch), (reason as i32, 3, 6));
    }
}

#[test]
fn what_is_not_for_others_stays_and_what_is_damaged_is_told() {
    for kind in [Kind::Start, Kind::Stop, Kind::Clean, Kind::Config, Kind::Told] {
        assert_eq!(sent(&framed(kind, |out| out.extend_from_slice(b"x"))).len(), 0, "{kind:?}");
    }
    for kind in [Kind::Auction, Kind::Delivery, Kind::Notice, Kind::Settlement] {
        let bytes = framed(kind, |out| out.push(1));
        let frame = frame::decode(&bytes).unwrap();
        assert!(messages(&frame, 1, &mut Called, &mut Room::default(), &mut |_| {}).is_err(), "{kind:?}");
    }
}
