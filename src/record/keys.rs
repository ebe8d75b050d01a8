//! What a frame can be looked up by, and so what an index holds: of an auction the request's id and the event id, of what
//! follows it the event id.
//! Owns: nothing. Runs on: whoever makes an index, `outcry audit`. Never: reads more of a payload than that.
use super::frame::{Frame, Kind};
use crate::{
    auction::{Delivery, Record},
    notice::told::{Notice, Told},
};

/// Hands out the keys of a frame: texts, as a person asks for them. None of a frame that cannot be read or has none.
///
/// A request's id that is longer than a record keeps is a key as far as it is kept:
/// [`kept_of`](crate::auction::input::kept_of).
pub fn keys(frame: &Frame<'_>, key: &mut dyn FnMut(&[u8])) {
    match frame.kind() {
        Some(Kind::Auction) => {
            if let Ok(head) = Record::head(frame.payload()) {
                key(head.text(head.request_id));
                key(&head.event.text());
            }
        }
        Some(Kind::Delivery) => {
            if let Ok(known) = Delivery::decode(frame.payload()) {
                key(&known.event.text());
            }
        }
        Some(Kind::Notice) => {
            if let Ok(notice) = Notice::decode(frame.payload()) {
                key(&notice.name.event.text());
            }
        }
        Some(Kind::Told) => {
            if let Ok(told) = Told::decode(frame.payload()) {
                key(&told.name.event.text());
            }
        }
        _ => {}
    }
}
