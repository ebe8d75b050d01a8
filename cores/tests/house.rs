//! House ads over sockets: where nobody wins, the place is not empty, nobody pays, and the record says so.
mod common;
use common::{Server, bid_for, bidder, dsp, ok};
use outcry::{openrtb::codes::Outcome, record::labels::Counter};

const HOUSE: &str = "[[house]]\ncrid = \"own-1\"\nmedia = \"banner\"\nw = 300\nh = 250\nadm = \"<b>own</b>\"\n\
                     adomain = [\"own.example\"]\nmax_price = \"2\"\n";

#[test]
fn where_nobody_wins_the_place_is_not_empty() {
    let none = dsp(|_| b"HTTP/1.1 204 No Content\r\n\r\n".to_vec());
    let server = Server::start_as(&[(none, "timeout_ms = 60\n")], HOUSE);
    let mut conn = server.connect();
    for round in 0..3 {
        let answer = bid_for(&mut conn, &format!("r-{round}"));
        let bid = &answer["seatbid"][0]["bid"][0];
        assert_eq!((&bid["crid"], &bid["adm"]), (&"own-1".into(), &"<b>own</b>".into()), "{answer}");
        assert!(bid["price"].as_f64().is_some_and(|price| price > 0.0), "{answer}");
        for url in ["nurl", "burl", "lurl"] {
            assert!(bid[url].is_null(), "{answer}");
        }
        assert_eq!(answer["id"], format!("r-{round}"));
    }
    drop(conn);
    let totals = server.totals();
    assert_eq!(totals.counter(Counter::HouseAnswers), 3);
    let row = totals.dsp_row(0);
    assert_eq!((row.no_bids, row.wins, row.charge_nanos), (3, 0, 0), "nobody has won, nobody pays");
    assert_eq!(totals.dsp_outcome(0, Outcome::Bid), 0);
}

#[test]
fn where_somebody_wins_it_is_not_seen() {
    let server = Server::start_as(&[(dsp(bidder), "timeout_ms = 60\n")], HOUSE);
    let answer = bid_for(&mut server.connect(), "r-1");
    assert_ne!(answer["seatbid"][0]["bid"][0]["crid"], "own-1", "{answer}");
    assert_eq!(server.totals().counter(Counter::HouseAnswers), 0);
}

/// What a DSP answers that cannot win is no reason to leave the place empty.
#[test]
fn a_bid_that_cannot_win_leaves_it_to_the_house() {
    let wide = dsp(|request| {
        let bid = serde_json::json!({"id": "1", "impid": request["imp"][0]["id"], "price": 5, "adm": "<b>", "crid": "c", "w": 728, "h": 90});
        ok(&serde_json::json!({"id": request["id"], "cur": "USD", "seatbid": [{"bid": [bid]}]}).to_string())
    });
    let server = Server::start_as(&[(wide, "timeout_ms = 60\n")], HOUSE);
    let answer = bid_for(&mut server.connect(), "r-1");
    let crid = &answer["seatbid"][0]["bid"][0]["crid"];
    assert_eq!(crid, "own-1", "{answer}");
}
