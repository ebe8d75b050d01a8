//! What is kept whole of a message, without the person: JSON on one line, of which nothing is left to replace.
use outcry::{
    json::Cursor,
    record::personal::{Personal, compact},
};

/// A message that is a request too: its ids are looked for in itself.
pub fn check(data: &[u8]) {
    let mut cursor = Cursor::new(data, 0);
    let is_json = cursor.as_mut().is_ok_and(|c| c.skip().is_ok() && c.finish().is_ok());
    let mut personal = Personal::default();
    personal.learn(data);
    let mut kept = b"before".to_vec();
    assert_eq!(personal.replace(data, &mut kept).is_ok(), is_json);
    let mut whole = b"before".to_vec();
    assert_eq!(compact(data, &mut whole).is_ok(), is_json);
    if !is_json {
        assert!(kept == b"before" && whole == b"before", "an error leaves the output alone");
        return;
    }
    for out in [&kept[6..], &whole[6..]] {
        assert!(!out.contains(&b'\n') && serde_json::from_slice::<serde::de::IgnoredAny>(out).is_ok());
    }
    // Places and addresses that are coarse already stay as they are; so does what is on one line.
    let (mut again, mut same) = (Vec::new(), Vec::new());
    assert!(Personal::default().replace(&kept[6..], &mut again).is_ok() && again == kept[6..]);
    assert!(compact(&whole[6..], &mut same).is_ok() && same == whole[6..]);
}
