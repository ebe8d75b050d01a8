//! gzip bodies: what unpacks is what another reader of the same format unpacks, within the bound; what we pack comes back.
use flate2::bufread::GzDecoder;
use outcry::{
    http1::{Deflate, Inflate, InflateError},
    limits::{INFLATED_BYTES_FREE, INFLATED_RATIO_MAX},
};
use std::io::Read;

/// The first byte chooses the bound; the rest is both a body that came packed and one that we pack.
pub fn check(data: &[u8]) {
    let Some((&choice, input)) = data.split_first() else { return };
    let max = if choice < 128 { 1 << 18 } else { usize::from(choice - 128) };
    let mut inflate = Inflate::new();
    let mut out = b"before".to_vec();
    let ours = inflate.inflate(input, &mut out, max);
    assert_eq!(out[..6], *b"before");
    assert!(out.len() - 6 <= max, "more than allowed");
    let mut theirs = Vec::new();
    let mut decoder = GzDecoder::new(input);
    let read = decoder.by_ref().take(max as u64 + 1).read_to_end(&mut theirs);
    match ours {
        Ok(()) => {
            assert!(read.is_ok(), "to another reader it is broken: {read:?}");
            assert_eq!(out[6..], theirs);
        }
        Err(e) => {
            assert_eq!(out.len(), 6, "an error leaves the output alone");
            // Theirs leaves what stands behind the member, and reserved flags, to others.
            let whole = read.is_ok() && theirs.len() <= max && decoder.get_ref().is_empty();
            let ours_alone = match e {
                InflateError::Broken => input.get(3).is_some_and(|flags| flags & 0xe0 != 0),
                InflateError::TooDense => theirs.len() > INFLATED_BYTES_FREE.max(input.len() * INFLATED_RATIO_MAX),
                InflateError::TooLarge | InflateError::Truncated => false,
            };
            assert!(!whole || ours_alone, "another reader takes it: {e:?}");
        }
    }
    let mut packed = Vec::new();
    Deflate::new().gzip(input, &mut packed);
    out.clear();
    // The same codec, after whatever went before.
    assert_eq!(inflate.inflate(&packed, &mut out, input.len()), Ok(()));
    assert_eq!(out, input);
}
