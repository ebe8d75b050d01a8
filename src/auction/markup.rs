//! Markup that lies behind a `nurl` (section 4.2.3: a bid without `adm`): whose is to be fetched, whether what came will do, and
//! where in the bid it goes.
//! Owns: nothing. Runs on: each bidder core. Called by: `bidder/fetching`; the answer.
//! Never: takes what an impression that is `secure` would refuse in an `adm`.
//!
//! Fetching tells the DSP that it has won: the member that held its `nurl` holds the markup afterwards.
use super::{Answers, Auction, Start, macros::fill_plain, secure::loads_insecurely};
use crate::{
    config::resolved::Dsp,
    limits::MARKUP_BYTES_MAX,
    notice::target::target,
    openrtb::{
        member::member,
        response::Bid,
        text::{Span, Text, escape},
    },
};
use memchr::memmem;

/// Is this bid's markup what its `nurl` answers?
pub(super) fn is_behind_nurl(bid: &Bid) -> bool {
    bid.adm.is_empty() && bid.nurl.is_some()
}

/// Where fetched markup goes in its bid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Into the empty string that is its `adm`; the `nurl` becomes empty.
    Adm,
    /// In the place of the whole `nurl`, key and value, which becomes an `adm`.
    Nurl(Span),
}

impl Place {
    pub(super) fn of(bid: &Bid, bytes: &[u8]) -> Option<Place> {
        if bid.adm.is_some() {
            return Some(Place::Adm);
        }
        // An `adm` that is no string stays where it is, and there cannot be two.
        if memmem::find(bid.whole.of(bytes), b"adm").is_some() && member(bytes, bid.whole, b"adm").is_some() {
            return None;
        }
        let nurl = member(bytes, bid.whole, b"nurl")?;
        Some(Place::Nurl(Span { at: nurl.key.at, len: nurl.value.end() as u32 - nurl.key.at }))
    }
}

impl Auction {
    /// Hands out, of each winner whose markup is behind its `nurl`, which of [`super::Decision::wins`] it is and what is to be
    /// called, macros filled; `None`: it cannot be fetched, and is passed on. `dsps` are those of the configuration that the
    /// auction began with.
    pub fn markups(
        &self,
        (answers, s): (&impl Answers, &Start<'_>),
        dsps: &[Dsp],
        scratch: &mut [Vec<u8>; 2],
        mut want: impl FnMut(u8, Option<&[u8]>),
    ) {
        for (at, win) in self.decision().wins.iter().enumerate() {
            let (response, bytes) = answers.leg(win.leg);
            let Some(bid) = response.bids.get(usize::from(win.bid)).filter(|bid| is_behind_nurl(bid)) else { continue };
            let leg = self.inputs().legs.get(usize::from(win.leg));
            let hosts = leg.and_then(|leg| dsps.get(usize::from(leg.dsp.0))).map_or(&[][..], |dsp| &dsp.notice_hosts);
            let [meant, url] = &mut *scratch;
            meant.clear();
            url.clear();
            meant.extend(bid.nurl.bytes(bytes));
            fill_plain(meant, &self.values(s, (win, bid, bytes)), url);
            let can = target(url, hosts).is_ok() && Place::of(bid, bytes).is_some();
            want(at as u8, can.then_some(url.as_slice()));
        }
    }

    /// Is this what may stand as the markup of a win, and if so: appended to `out` as the inside of a JSON string.
    pub fn takes_markup(&mut self, win: u8, s: &Start<'_>, body: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(win) = self.record.decision.wins.get(usize::from(win)) else { return false };
        let imp = s.request.imps.get(usize::from(win.imp)).copied().unwrap_or_default();
        if body.len() > MARKUP_BYTES_MAX || body.trim_ascii().is_empty() || simdutf8::basic::from_utf8(body).is_err() {
            return false;
        }
        let whole = Text::new(0, body.len(), false);
        if imp.secure && loads_insecurely(whole, body, &mut self.rules.scan) {
            return false;
        }
        escape(body, out);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixtures::{Fix, Replies, Reply},
        *,
    };
    use crate::openrtb::response::Response;

    /// Replies, with markup for the first win.
    struct Fetched<'a>(Replies<'a>, &'a [u8]);

    impl Answers for Fetched<'_> {
        fn leg(&self, leg: u8) -> (&Response, &[u8]) {
            self.0.leg(leg)
        }

        fn markup(&self, win: usize) -> Option<&[u8]> {
            (win == 0).then_some(self.1)
        }
    }

    fn reply(members: &str) -> Vec<(usize, Reply)> {
        let bid = format!(r#"{{"id":"b","impid":"imp0","price":1,{members}}}"#);
        vec![(0, Reply::read(&format!(r#"{{"id":"req-1","seatbid":[{{"bid":[ {bid} ]}}]}}"#)))]
    }

    fn fix(secure: bool) -> Fix {
        let mut fix = Fix::new();
        fix.imp("0.5").secure = secure;
        fix
    }

    fn wanted(fix: &Fix, replies: &[(usize, Reply)]) -> Vec<(u8, Option<String>)> {
        let (a, mut out) = (fix.run(replies), Vec::new());
        a.markups((&Replies::of(replies), &fix.start()), &fix.dsps, &mut Default::default(), |win, url| {
            out.push((win, url.map(|url| String::from_utf8(url.to_vec()).unwrap())));
        });
        out
    }

    #[test]
    fn what_came_takes_the_place_of_the_url() {
        const URL: &str = r#""nurl":"http:\/\/dsp.example\/m?p=${AUCTION_PRICE}""#;
        let plain = b"<a href='?${AUCTION_PRICE}'>\"\\\n\x01\xc3\xbc";
        let want = "<a href='?0.5'>\"\\\n\u{1}\u{fc}";
        let fix = fix(false);
        for (members, fetched) in [
            (format!("{URL},\"crid\":\"c\""), true),
            (format!("\"crid\":\"c\", {}", URL.replace("nurl\":", "nurl\" : ")), true),
            (format!("\"ext\":{{\"nurl\":\"x\",\"adm\":1}},{}", URL.replace("nurl", "n\\u0075rl")), true),
            (format!("\"adm\":\"\",{URL}"), true),
            (format!("{URL},\"adm\":\"\""), true),
            // Whose adm is no text has none, and cannot be given another.
            (format!("\"adm\":null,{URL}"), false),
            (format!("{URL},\"adm\":{{\"native\":1}}"), false),
        ] {
            let replies = reply(&members);
            let url = fetched.then(|| "http://dsp.example/m?p=0.5".to_owned());
            assert_eq!(wanted(&fix, &replies), [(0, url)], "{members}");
            let mut a = fix.run(&replies);
            let (mut markup, mut out) = (Vec::new(), Vec::new());
            assert!(a.takes_markup(0, &fix.start(), plain, &mut markup));
            a.write_answer(&Fetched(Replies::of(&replies), &markup), &fix.start(), None, &mut out);
            let text = String::from_utf8(out).unwrap();
            let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
            let bid = &answer["seatbid"][0]["bid"][0];
            assert_eq!(bid["adm"] == want, fetched, "{text}");
            let url = if fetched { "" } else { "http://dsp.example/m?p=0.5" };
            assert_eq!(bid["nurl"].as_str().unwrap_or_default(), url, "{text}");
            assert_eq!(text.matches("\"adm\":").count(), if members.contains("ext") { 2 } else { 1 }, "{text}");
        }
    }

    #[test]
    fn what_is_not_to_be_had_is_passed() {
        let fix = fix(false);
        let at = |url: &str| wanted(&fix, &reply(&format!("\"nurl\":\"{url}\"")));
        assert_eq!(at("https://dsp.example/m"), [(0, None)]);
        assert_eq!(at("http://other.example/m"), [(0, None)]);
        assert_eq!(at("http://win.dsp.example/m"), [(0, None)], "not in the clear");
        assert_eq!(at("https://win.dsp.example/m"), [(0, Some("https://win.dsp.example/m".to_owned()))]);
        assert_eq!(at("http://dsp.example/m"), [(0, Some("http://dsp.example/m".to_owned()))]);
        assert_eq!(wanted(&fix, &reply("\"nurl\":\"http://dsp.example/\",\"adm\":\"<b>\"")), []);
        assert_eq!(wanted(&fix, &reply("\"adomain\":[]")), []);
    }

    #[test]
    fn not_everything_is_markup() {
        let long = vec![b'x'; MARKUP_BYTES_MAX + 1];
        let replies = reply("\"nurl\":\"http://dsp.example/m\"");
        for secure in [false, true] {
            let fix = fix(secure);
            let mut a = fix.run(&replies);
            let mut takes = |body: &[u8]| {
                let mut out = Vec::new();
                a.takes_markup(0, &fix.start(), body, &mut out) && !out.is_empty()
            };
            assert!(takes(&long[1..]) && !takes(&long) && !takes(b"") && !takes(b" \r\n") && !takes(b"\xff"));
            assert_eq!(takes(b"<img src='http://cdn.example/x'>"), !secure);
        }
        assert!(!fix(false).run(&[]).takes_markup(0, &fix(false).start(), b"x", &mut Vec::new()));
    }
}
