//! Requests on which two readers could disagree about where they end (request smuggling), and what each must get.
//! Behind or inside of each stands a request of its own, [`HIDDEN`]: whoever answers it has been smuggled to.
//! Owns: constants. Called by: the command line, the tests of attacks. Never: relies on what a DSP would say: a request
//! that is taken as one has a body that is no JSON.

/// The request that nobody may answer: a path that is not there.
pub const HIDDEN: &[u8] = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
/// What a request that is taken as one gets: its body is no JSON.
const TAKEN: u16 = 400;

/// One shape.
#[derive(Clone, Debug)]
pub struct Shape {
    /// What it is.
    pub name: String,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// The answers it must get, in their order.
    pub statuses: Vec<u16>,
    /// Must the connection end with the last of them? Else the next request on it is answered.
    pub closes: bool,
}

/// Header lines of a POST that must be refused, with their status. Both framings, if it has two, would hide something.
const FIELDS: &[(&str, &[u8], u16)] = &[
    ("length and chunks", b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
    ("chunks and length", b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400),
    ("length 0 and chunks", b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", 400),
    ("length and chunks in tabs", b"Content-Length: 5\r\nTransfer-Encoding:\tchunked\t\r\n", 400),
    ("length and chunks without a space", b"Content-Length: 5\r\nTransfer-Encoding:chunked\r\n", 400),
    ("length and chunks in odd case", b"Content-Length: 5\r\ntRANSFER-eNCODING: cHUNKED\r\n", 400),
    ("a coding like chunked", b"Transfer-Encoding: xchunked\r\n", 400),
    ("chunked in quotes", b"Transfer-Encoding: \"chunked\"\r\n", 400),
    ("chunked with a parameter", b"Transfer-Encoding: chunked;q=1\r\n", 400),
    ("chunked and a comma", b"Transfer-Encoding: chunked,\r\n", 400),
    ("chunked and not", b"Transfer-Encoding: chunked, identity\r\n", 400),
    ("identity and chunked", b"Transfer-Encoding: identity, chunked\r\n", 501),
    ("gzip and chunked", b"Transfer-Encoding: gzip, chunked\r\n", 501),
    ("gzip alone", b"Transfer-Encoding: gzip\r\n", 400),
    ("no coding", b"Transfer-Encoding: \r\n", 400),
    ("chunked twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
    ("chunked, then another coding", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", 400),
    ("chunked behind a vertical tab", b"Transfer-Encoding: \x0bchunked\r\n", 400),
    ("chunked behind a form feed", b"Transfer-Encoding: \x0cchunked\r\n", 400),
    ("chunked behind a NUL", b"Transfer-Encoding: \0chunked\r\n", 400),
    ("chunked behind a no-break space", b"Transfer-Encoding: \xa0chunked\r\n", 400),
    ("chunked on the next line", b"Transfer-Encoding:\r\n chunked\r\n", 400),
    ("a space before the colon", b"Transfer-Encoding : chunked\r\n", 400),
    ("a tab before the colon", b"Transfer-Encoding\t: chunked\r\n", 400),
    ("a no-break space before the colon", b"Transfer-Encoding\xa0: chunked\r\n", 400),
    ("a NUL in the name", b"Transfer\0-Encoding: chunked\r\n", 400),
    ("a name on two lines", b"Transfer-\r\nEncoding: chunked\r\n", 400),
    ("no name", b": chunked\r\n", 400),
    ("no colon", b"Transfer-Encoding chunked\r\n", 400),
    ("a folded line", b"X: y\r\n Transfer-Encoding: chunked\r\n", 400),
    ("a folded line, by a tab", b"X: y\r\n\tTransfer-Encoding: chunked\r\n", 400),
    ("a space before the first name", b" Transfer-Encoding: chunked\r\n", 400),
    ("a lone LF between lines", b"X: y\nTransfer-Encoding: chunked\r\n", 400),
    ("a lone CR between lines", b"X: y\rTransfer-Encoding: chunked\r\n", 400),
    ("two CRs", b"X: y\r\r\nTransfer-Encoding: chunked\r\n", 400),
    ("a head that ends in two LFs", b"X: y\n\n", 400),
    ("two lengths", b"Content-Length: 5\r\nContent-Length: 50\r\n", 400),
    ("two lengths in a list", b"Content-Length: 5, 50\r\n", 400),
    ("a length and nothing", b"Content-Length: 5,\r\n", 400),
    ("a length with a plus", b"Content-Length: +5\r\n", 400),
    ("a length with a minus", b"Content-Length: -5\r\n", 400),
    ("a hexadecimal length", b"Content-Length: 0x5\r\n", 400),
    ("a length with an exponent", b"Content-Length: 5e0\r\n", 400),
    ("a length with a point", b"Content-Length: 5.0\r\n", 400),
    ("a length of two numbers", b"Content-Length: 5 0\r\n", 400),
    ("a length with an underscore", b"Content-Length: 5_0\r\n", 400),
    ("a length in other digits", b"Content-Length: \xd9\xa5\r\n", 400),
    ("a length behind a vertical tab", b"Content-Length: \x0b5\r\n", 400),
    ("a length of 2^64", b"Content-Length: 18446744073709551616\r\n", 400),
    ("a length of 2^64 and 5", b"Content-Length: 18446744073709551621\r\n", 400),
    ("an empty length", b"Content-Length:\r\n", 400),
    ("a length above the limit", b"Content-Length: 9223372036854775807\r\n", 413),
    ("two hosts", b"Host: y\r\nContent-Length: 5\r\n", 400),
    ("two credentials", b"Authorization: a\r\nAuthorization: b\r\nContent-Length: 5\r\n", 400),
];

/// What stands instead of a POST's first lines, with its status; `%` is the path.
const LINES: &[(&str, &[u8], u16)] = &[
    ("a leading space", b" POST % HTTP/1.1\r\nHost: x\r\n", 400),
    ("a leading LF", b"\nPOST % HTTP/1.1\r\nHost: x\r\n", 400),
    ("a leading NUL", b"\0POST % HTTP/1.1\r\nHost: x\r\n", 400),
    ("two spaces", b"POST  % HTTP/1.1\r\nHost: x\r\n", 400),
    ("a tab for a space", b"POST\t% HTTP/1.1\r\nHost: x\r\n", 400),
    ("a space behind the version", b"POST % HTTP/1.1 \r\nHost: x\r\n", 400),
    ("a request in the target", b"POST % HTTP/1.1 HTTP/1.1\r\nHost: x\r\n", 400),
    ("a lone LF behind the first line", b"POST % HTTP/1.1\nHost: x\r\n", 400),
    ("no version", b"POST %\r\nHost: x\r\n", 400),
    ("a version in lower case", b"POST % http/1.1\r\nHost: x\r\n", 400),
    ("a version of two digits", b"POST % HTTP/1.10\r\nHost: x\r\n", 400),
    ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("HTTP/0.9", b"GET %\r\n", 400),
    ("no host", b"POST % HTTP/1.1\r\n", 400),
    ("a host of two", b"POST % HTTP/1.1\r\nHost: x, y\r\n", 400),
    ("a host with a path", b"POST % HTTP/1.1\r\nHost: x/y\r\n", 400),
    ("a host with a user", b"POST % HTTP/1.1\r\nHost: a@x\r\n", 400),
    ("chunks in HTTP/1.0", b"POST % HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n", 400),
    ("CONNECT", b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n", 400),
    ("a target without a slash", b"POST hidden HTTP/1.1\r\nHost: x\r\n", 400),
    ("an asterisk", b"POST * HTTP/1.1\r\nHost: x\r\n", 400),
    ("another scheme", b"POST ftp://x% HTTP/1.1\r\nHost: x\r\n", 400),
    ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
];

/// Chunked bodies that must be refused, with their status.
const CHUNKS: &[(&str, &[u8], u16)] = &[
    ("a chunk size with 0x", b"0x1\r\n{\r\n0\r\n\r\n", 400),
    ("a chunk size with a plus", b"+1\r\n{\r\n0\r\n\r\n", 400),
    ("a chunk size with a minus", b"-1\r\n{\r\n0\r\n\r\n", 400),
    ("a chunk size behind a space", b" 1\r\n{\r\n0\r\n\r\n", 400),
    ("a chunk size before a space", b"1 \r\n{\r\n0\r\n\r\n", 400),
    ("a chunk size with an underscore", b"1_0\r\n{\r\n0\r\n\r\n", 400),
    ("no chunk size", b"\r\n{\r\n0\r\n\r\n", 400),
    // Above the limit before its last digit is read.
    ("a chunk size of 2^64 and 1", b"10000000000000001\r\n{\r\n0\r\n\r\n", 413),
    ("a chunk size of 2^64 less 1", b"ffffffffffffffff\r\n{\r\n0\r\n\r\n", 413),
    ("a chunk size behind zeros", b"00000000000000001\r\n{\r\n0\r\n\r\n", 400),
    ("a chunk line that ends in LF", b"1\n{\r\n0\r\n\r\n", 400),
    ("an extension that ends in LF", b"1;a\n{\r\n0\r\n\r\n", 400),
    ("an extension that ends in CR", b"1;a\rb\r\n{\r\n0\r\n\r\n", 400),
    ("an extension with a NUL", b"1;\0\r\n{\r\n0\r\n\r\n", 400),
    ("a chunk longer than its size", b"1\r\n{}\r\n0\r\n\r\n", 400),
    ("a chunk that ends in LF", b"1\r\n{\n0\r\n\r\n", 400),
    ("a chunk that ends in two bytes more", b"1\r\n{XX0\r\n\r\n", 400),
    ("a body that ends in LF", b"1\r\n{\r\n0\r\n\n", 400),
    ("a last chunk that ends in LF", b"1\r\n{\r\n0\n\r\n", 400),
    ("a trailer without a colon", b"1\r\n{\r\n0\r\nGET /hidden HTTP/1.1\r\n\r\n", 400),
    ("a folded trailer", b"1\r\n{\r\n0\r\nX: y\r\n z\r\n\r\n", 400),
    ("a trailer that ends in LF", b"1\r\n{\r\n0\r\nX: y\n\r\n", 400),
];

/// Messages that are what they say: one answer each, the hidden request is their body, and the connection goes on.
/// Header lines and body; `%` is the path in the first line.
const TAKEN_AS_ONE: &[(&str, &[u8], &[u8], u16)] = &[
    ("a request in a body", b"POST % HTTP/1.1\r\nHost: x\r\n", HIDDEN, TAKEN),
    ("a request in a body for nobody", b"POST /nobody HTTP/1.1\r\nHost: x\r\n", HIDDEN, 404),
    ("a request in a GET's body", b"GET % HTTP/1.1\r\nHost: x\r\n", HIDDEN, 405),
    ("a request in a DELETE's body", b"DELETE % HTTP/1.1\r\nHost: x\r\n", HIDDEN, 405),
    ("a request in a text", b"POST % HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n", HIDDEN, 415),
    ("a request in another encoding", b"POST % HTTP/1.1\r\nHost: x\r\nContent-Encoding: br\r\n", HIDDEN, 415),
    ("a request that is no gzip", b"POST % HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\n", HIDDEN, 400),
    ("a request instead of a miracle", b"POST % HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n", HIDDEN, 417),
    ("the whole URL of another", b"POST http://y.example% HTTP/1.1\r\nHost: x\r\n", HIDDEN, TAKEN),
    ("two slashes", b"POST /%/../.. HTTP/1.1\r\nHost: x\r\n", HIDDEN, 404),
    ("empty lines first", b"\r\n\r\n\r\nPOST % HTTP/1.1\r\nHost: x\r\n", HIDDEN, TAKEN),
    ("an upgrade to HTTP/2", b"POST % HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n", HIDDEN, TAKEN),
    ("a coding by another name", b"POST % HTTP/1.1\r\nHost: x\r\nTransfer_Encoding: chunked\r\n", HIDDEN, TAKEN),
    ("a length that is dropped", b"POST % HTTP/1.1\r\nHost: x\r\nConnection: Content-Length\r\n", HIDDEN, TAKEN),
];

/// Chunked bodies that are odd and right.
const TAKEN_CHUNKS: &[(&str, &[u8])] = &[
    ("a request in a chunk", b"21\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n\r\n0\r\n\r\n"),
    ("a request in an extension", b"1;GET /hidden HTTP/1.1\r\n{\r\n0\r\n\r\n"),
    ("lengths in a trailer", b"1\r\n{\r\n0\r\nContent-Length: 100\r\nTransfer-Encoding: x\r\n\r\n"),
    ("zeros", b"0001\r\n{\r\n000\r\n\r\n"),
];

/// All of them, for the bidder at this path.
pub fn all(path: &str) -> Vec<Shape> {
    let mut shapes = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, statuses: &[u16], closes| {
        shapes.push(Shape { name: name.to_owned(), bytes, statuses: statuses.to_vec(), closes });
    };
    let post = with_path(b"POST % HTTP/1.1\r\nHost: x\r\n", path);
    for (name, fields, status) in FIELDS {
        // To who reads chunks the body ends before the hidden request, to who reads a length of 5 or 0 too.
        add(name, [&post[..], fields, b"\r\n0\r\n\r\n", HIDDEN].concat(), &[*status], true);
    }
    for (name, lines, status) in LINES {
        let lines = with_path(lines, path);
        add(name, [&lines[..], b"Content-Length: 1\r\n\r\n{", HIDDEN].concat(), &[*status], true);
    }
    let chunked = [&post[..], b"Transfer-Encoding: chunked\r\n\r\n"].concat();
    for (name, body, status) in CHUNKS {
        add(name, [&chunked[..], body, HIDDEN].concat(), &[*status], true);
    }
    let long = [b"1;".as_slice(), &[b'a'; 5_000], b"\r\n{\r\n0\r\n\r\n"].concat();
    add("an extension of 5 KB", [&chunked[..], &long, HIDDEN].concat(), &[400], true);
    let many = b"1;abcdefgh\r\n{\r\n".repeat(600);
    add("600 extensions", [&chunked[..], &many, b"0\r\n\r\n", HIDDEN].concat(), &[400], true);
    let fields = b"a:\r\n".repeat(100);
    add("100 headers", [&post[..], &fields, b"\r\n", HIDDEN].concat(), &[431], true);
    let field = [b"a: ".as_slice(), &[b'a'; 70_000], b"\r\n\r\n"].concat();
    add("a header of 70 KB", [&post[..], &field, HIDDEN].concat(), &[431], true);

    for (name, lines, body, status) in TAKEN_AS_ONE {
        let length = format!("Content-Length: {}\r\n\r\n", body.len());
        add(name, [&with_path(lines, path), length.as_bytes(), body].concat(), &[*status], false);
    }
    let same = b"Content-Length: 1, 1\r\nContent-Length: 01\r\n\r\n{";
    add("the same length three times", [&post[..], same].concat(), &[TAKEN], false);
    for (name, body) in TAKEN_CHUNKS {
        add(name, [&chunked[..], body].concat(), &[TAKEN], false);
    }
    // What ends the connection answers nothing behind it.
    let close = b"Connection: close\r\nContent-Length: 1\r\n\r\n{";
    add("a request behind the last", [&post[..], close, HIDDEN].concat(), &[TAKEN], true);
    let old = with_path(b"POST % HTTP/1.0\r\nContent-Length: 1\r\n\r\n{", path);
    add("a request behind HTTP/1.0", [&old[..], HIDDEN].concat(), &[TAKEN], true);
    let head = with_path(b"HEAD % HTTP/1.1\r\nHost: x\r\n\r\n", path);
    add("a request behind HEAD", [&head[..], HIDDEN].concat(), &[405], true);
    let expect = b"POST /nobody HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 33\r\n\r\n";
    add("a body that was to be asked for", [&expect[..], HIDDEN].concat(), &[404], true);
    // Neither framing: there is no body, and what follows is a request to every reader.
    add("no body at all", [&post[..], b"\r\n", HIDDEN].concat(), &[411, 404], false);
    shapes
}

fn with_path(bytes: &[u8], path: &str) -> Vec<u8> {
    let mut parts = bytes.split(|&b| b == b'%');
    let mut out = parts.next().unwrap_or(&[]).to_vec();
    for part in parts {
        out.extend_from_slice(path.as_bytes());
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{HIDDEN, all};

    #[test]
    fn names_tell_shapes_apart_and_each_hides_a_request() {
        let all = all("/p");
        for (i, shape) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|s| s.name != shape.name && s.bytes != shape.bytes), "{}", shape.name);
            let hides = shape.bytes.windows(11).any(|w| w == &HIDDEN[..11]);
            assert!(hides || !shape.closes, "{}", shape.name);
            assert!(!shape.bytes.contains(&b'%'), "{}", shape.name);
        }
        assert!(all.len() > 120, "{}", all.len());
    }
}
