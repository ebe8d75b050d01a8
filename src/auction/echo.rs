//! Does a DSP's answer name the request that it came upon?
//! Owns: nothing. Runs on: each bidder core, as an answer comes. Called by: `bidder/flight`.
//!
//! Answers are read when the auction is decided, but a connection whose answers are those of other requests must not be
//! asked again until then. Nearly every answer begins with its id, so one comparison is enough for nearly all.
use crate::openrtb::{request::Request, response::Response, text::Text};

/// Will the whole answer come to [`crate::openrtb::codes::Outcome::WrongId`]? `body` is what the request's view points
/// into; `view` is working memory.
pub fn names_another(request: &Request, body: &[u8], answer: &[u8], view: &mut Response) -> bool {
    if begins_with_id(answer, request.id.raw(body)) || answer.iter().all(u8::is_ascii_whitespace) {
        return false;
    }
    // What cannot be read names nobody.
    view.parse(answer).is_ok() && is_of_another(view, answer, request.id, body)
}

/// An answer that names another request, or bids without naming any.
pub(super) fn is_of_another(view: &Response, answer: &[u8], id: Text, body: &[u8]) -> bool {
    let bids = view.bids_seen as usize > 0 || !view.bids.is_empty();
    if view.id.is_some() { !view.id.same(answer, id, body) } else { bids }
}

/// `{"id":"<id>"`, with white space where JSON has it. A second `id` would make the answer unreadable.
fn begins_with_id(answer: &[u8], id: &[u8]) -> bool {
    let after = |rest: &'_ [u8], byte: u8| -> Option<usize> {
        let at = rest.iter().position(|b| !b.is_ascii_whitespace())?;
        (rest[at] == byte).then_some(at + 1)
    };
    let key = |rest: &[u8]| {
        let open = after(rest, b'{')?;
        let quote = open + after(&rest[open..], b'"')?;
        let colon = quote + rest[quote..].strip_prefix(b"id\"").map(|_| 3)?;
        let value = colon + after(&rest[colon..], b':')?;
        Some(value + after(&rest[value..], b'"')?)
    };
    let exact = answer.strip_prefix(b"{\"id\":\"").or_else(|| Some(&answer[key(answer)?..]));
    exact.and_then(|rest| rest.strip_prefix(id)).is_some_and(|rest| rest.first() == Some(&b'"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bumpalo::Bump;

    #[test]
    fn answers_to_other_requests_are_known_however_they_are_written() {
        let body = br#"{"id":"r-1","imp":[{"id":"1","banner":{}}]}"#;
        let mut request = Request::default();
        request.parse(body, 0, &Bump::new()).unwrap_or_else(|e| panic!("{e:?}"));
        let bid = r#""seatbid":[{"bid":[{"id":"b","impid":"1","price":1}]}]"#;
        let rows = [
            (format!(r#"{{"id":"r-1",{bid}}}"#), false),
            (format!(" {{\n \"id\" : \"r-1\" , {bid} }}"), false),
            (format!(r#"{{{bid},"id":"r-1"}}"#), false),
            (format!(r#"{{"id":"r\u002d1",{bid}}}"#), false),
            (format!(r#"{{"id":"r-2",{bid}}}"#), true),
            (format!(r#"{{"id":"r-11",{bid}}}"#), true),
            (format!(r#"{{"id":"r-1\"",{bid}}}"#), true),
            (format!(r#"{{"id":"r",{bid}}}"#), true),
            (format!(r#"{{{bid},"id":"r-2"}}"#), true),
            (format!("{{{bid}}}"), true),
            ("{}".to_owned(), false),
            (r#"{"id":"r-2"}"#.to_owned(), true),
            (r#"{"id":null}"#.to_owned(), false),
            (r#"{"nbr":2}"#.to_owned(), false),
            (r#"{"seatbid":7}"#.to_owned(), true),
            ("  ".to_owned(), false),
            (r#"{"id":"r-1","id":"r-2"}"#.to_owned(), false), // not readable
            (r#"{"id":"r-2""#.to_owned(), false),
        ];
        for (answer, want) in rows {
            assert_eq!(names_another(&request, body, answer.as_bytes(), &mut Response::default()), want, "{answer}");
        }
    }
}
