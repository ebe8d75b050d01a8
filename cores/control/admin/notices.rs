//! The part of the admin port that has DSPs told once more.
//! Owns: nothing. Runs on: control. Called by: `admin`. Full: 503, and the caller tries again.
use super::{Answer, changes};
use crate::control::handle::ControlHandle;
use outcry::{
    notice::{
        token::{Kind, URL_MAX},
        told::Name,
    },
    units::EventId,
};
use simd_json::prelude::*;
use tokio::net::TcpStream;

/// Answers a request below `/notices/`; `received` is its head and what came with it.
pub(super) async fn answer(stream: &mut TcpStream, received: &[u8], handle: &ControlHandle) -> Answer {
    let mut call = match changes::read(stream, received).await {
        Ok(call) => call,
        Err(refused) => return refused,
    };
    if call.target != "/notices/replay" || !call.post {
        return Answer::text(404, "POST /notices/replay\n");
    }
    let Some((name, url)) = read(&mut call.body) else {
        return Answer::text(
            400,
            "an object with notice (won, billed, lost), bidid, imp and url is needed, as outcry notices dead --json prints it\n",
        );
    };
    match handle.replay(name, url) {
        Ok(()) => Answer::text(200, "it is told once more\n"),
        Err(why) => Answer::text(503, why),
    }
}

fn read(body: &mut [u8]) -> Option<(Name, Vec<u8>)> {
    let said = simd_json::to_borrowed_value(body).ok()?;
    let kind = said.get_str("notice")?;
    let kind = Kind::ALL.into_iter().find(|k| k.name() == kind)?;
    let event = EventId::parse(said.get_str("bidid")?.as_bytes())?;
    let imp = u8::try_from(said.get_u64("imp")?).ok()?;
    let url = said.get_str("url")?.as_bytes();
    (!url.is_empty() && url.len() <= URL_MAX).then(|| (Name { event, imp, kind }, url.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_list_prints_is_read_and_nothing_else() {
        let good = r#"{"at":"x","notice":"billed","bidid":"000000010000000200030000000000000004","imp":1,"end":"gave_up","attempts":3,"url":"http://d/"}"#;
        let event = EventId { node: 1, epoch: 2, core: 3, seq: 4 };
        let name = Name { event, imp: 1, kind: Kind::Billed };
        assert_eq!(read(&mut good.as_bytes().to_vec()), Some((name, b"http://d/".to_vec())));
        for (part, other) in [
            ("billed", "sold"),
            ("0000000100000002", "0001"),
            (":1,", ":256,"),
            ("http://d/", ""),
            ("\"url\"", "\"uri\""),
            ("{", "["),
        ] {
            assert_eq!(read(&mut good.replacen(part, other, 1).into_bytes()), None, "{other}");
        }
        let long = good.replace("http://d/", &"x".repeat(URL_MAX + 1));
        assert_eq!(read(&mut long.into_bytes()), None);
    }
}
