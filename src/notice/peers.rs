//! Notices of auctions that another server answered: recorded and acknowledged here, and handed to it as a call of its own
//! notice URL, by the same outbox that tells DSPs. So it is tried again, it ends as done or as a dead letter, and whoever is
//! called tells notices apart as always: what came to both counts once.
//! Owns: who the others are. Runs on: flush, a start. Called by: `cores/notices`. Never: hands over what it cannot sign; sends
//! a notice to a server that is not named.
//!
//! A relay on another transport has this to do: take a [`Notice`] that is on record here, and come back once it is on record there.
use super::{
    keys::Keys,
    token::{Kind, Token},
    told::Notice,
};
use crate::units::Cpm;
use std::borrow::Cow;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    node: u32,
    /// By their nodes: where they take notices, `host:port`.
    others: Vec<(u32, String)>,
    /// They have the same.
    keys: Option<Keys>,
}

impl Peers {
    /// Of the server `node`.
    pub fn new(node: u32, others: Vec<(u32, String)>, keys: Option<Keys>) -> Peers {
        Peers { node, others, keys }
    }

    /// Is this one handed to another server?
    pub fn is_theirs(&self, notice: &Notice<'_>) -> bool {
        let node = notice.name.event.node;
        node != self.node && self.keys.is_some() && self.others.iter().any(|(other, _)| *other == node)
    }

    /// What is to be called for a notice, the first of its kind: the DSP, the server whose auction it was, or nobody.
    pub fn whom<'n>(&self, notice: &Notice<'n>) -> Option<Cow<'n, [u8]>> {
        let own = || (!notice.url.is_empty()).then_some(Cow::Borrowed(notice.url));
        if !self.is_theirs(notice) {
            return own();
        }
        // Nobody there waits for a win that no DSP is told of.
        if notice.url.is_empty() && notice.name.kind != Kind::Billed {
            return None;
        }
        let (_, authority) = self.others.iter().find(|(node, _)| *node == notice.name.event.node)?;
        let mut url = format!("http://{authority}/notice/").into_bytes();
        let token = Token {
            kind: notice.name.kind,
            event: notice.name.event,
            imp: notice.name.imp,
            price: notice.price,
            floor: Cpm::ZERO,
            // Of what is held there, what is more than this goes home with its minute.
            charge: notice.charge,
            account: notice.account,
            period: notice.period,
            open: false,
            awaited: notice.held.is_some(),
            expires_s: notice.expires_s,
            buyer: notice.buyer,
            url: notice.url,
        };
        match token.write(self.keys.as_ref()?, &mut url) {
            Ok(()) => Some(Cow::Owned(url)),
            Err(_) => own(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        budget::{AccountId, Period},
        notice::{
            price::Said,
            target::{CALL_URL_MAX, Host, target},
            token::URL_MAX,
            told::Name,
        },
        units::{EventId, Money},
    };

    fn notice(node: u32, kind: Kind, url: &[u8]) -> Notice<'_> {
        Notice {
            name: Name { event: EventId { node, epoch: 2, core: 3, seq: 4 }, imp: 1, kind },
            expired: false,
            said: Said::Lower,
            price: Cpm(900_000),
            charge: Money(900),
            held: Some(Money(1_000)),
            account: AccountId(5),
            period: Period(6),
            expires_s: 7,
            buyer: b"",
            url,
        }
    }

    #[test]
    fn a_notice_goes_to_whose_auction_it_was() {
        let keys = || Keys::new(&[(3, b"0123456789abcdef0123456789abcdef")]).expect("keys");
        let peers = Peers::new(1, vec![(9, "10.0.0.9:8080".to_owned())], Some(keys()));
        let dsp = b"http://dsp.example/b";
        for own in [1, 8] {
            assert_eq!(peers.whom(&notice(own, Kind::Billed, dsp)).as_deref(), Some(&dsp[..]), "node {own}");
            assert_eq!(peers.whom(&notice(own, Kind::Billed, b"")), None);
        }
        assert_eq!(peers.whom(&notice(9, Kind::Won, b"")), None);
        let longest = [&dsp[..], &vec![b'x'; URL_MAX - dsp.len()]].concat();
        for url in [&dsp[..], b"", &longest] {
            let sent = notice(9, Kind::Billed, url);
            let call = peers.whom(&sent).expect("it is handed over").into_owned();
            assert!(
                call.len() <= CALL_URL_MAX
                    && target(&call, &[Host { secure: false, name: "10.0.0.9".to_owned(), port: 8080 }]).is_ok()
            );
            let text = call.strip_prefix(b"http://10.0.0.9:8080/notice/").expect("its own URL");
            let mut bytes = Vec::new();
            let token = Token::read(text, &keys(), &mut bytes).expect("signed by one of them");
            assert_eq!(token.name(), sent.name);
            assert_eq!((token.price, token.charge, token.awaited, token.open), (sent.price, sent.charge, true, false));
            assert_eq!((token.account, token.period, token.expires_s), (sent.account, sent.period, sent.expires_s));
            assert_eq!(token.url, url);
        }
        let alone = Peers::new(1, vec![(9, "10.0.0.9:8080".to_owned())], None);
        assert_eq!(alone.whom(&notice(9, Kind::Billed, dsp)).as_deref(), Some(&dsp[..]), "nothing to sign with");
    }
}
