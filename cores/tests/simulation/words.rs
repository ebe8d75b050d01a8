//! What clients of the simulation say, cut anywhere, and what they read of the answers; and the draws behind all of it.
#![allow(unreachable_pub)] // part of one test file
use super::TMAX_MS;

/// SplitMix64. One stream per concern, so that a draw more in one does not reshuffle the others.
pub struct Rng(u64);

impl Rng {
    pub fn stream(seed: u64, concern: u64) -> Rng {
        Rng(outcry::units::mix(seed ^ outcry::units::mix(concern)))
    }
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        outcry::units::mix(self.0)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

pub fn request(id: &str, rng: &mut Rng) -> String {
    let imps = 1 + rng.below(3);
    let imp = |i: u64| {
        let media = match i % 3 {
            0 => r#""banner":{"w":300,"h":250}"#,
            1 => r#""video":{"mimes":["video/mp4"],"w":640,"h":360}"#,
            _ => r#""banner":{"format":[{"w":728,"h":90}]},"audio":{"mimes":["audio/mp4"]}"#,
        };
        format!(r#"{{"id":"{i}","bidfloor":0.{},{media}}}"#, 1 + i)
    };
    let list: Vec<String> = (0..imps).map(imp).collect();
    format!(
        r#"{{"id":"{id}","tmax":{TMAX_MS},"imp":[{}],"site":{{"domain":"a.example"}},"device":{{"ua":"x"}},"ext":{{"n":"{}"}}}}"#,
        list.join(","),
        "f".repeat(rng.below(300) as usize)
    )
}

/// The HTTP around it: lengths or chunks, any case, now and then something refused.
pub fn post(id: &str, rng: &mut Rng, cuts: &mut Rng) -> (Vec<u8>, bool) {
    let valid = !rng.chance(8);
    let body = if valid { request(id, rng) } else { format!(r#"{{"id":"{id}","imp":[]}}"#) };
    let mut out = "POST /openrtb2/auction HTTP/1.1\r\nHoSt: x\r\ncontent-type: application/json\r\n".to_string();
    if cuts.chance(30) {
        out += "transfer-encoding: chunked\r\n\r\n";
        let mut rest = body.as_str();
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at((1 + cuts.below(400) as usize).min(rest.len()));
            out += &format!("{:x}\r\n{piece}\r\n", piece.len());
            rest = tail;
        }
        out += "0\r\n\r\n";
    } else {
        out += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    }
    (out.into_bytes(), valid)
}

pub fn cut(bytes: Vec<u8>, cuts: &mut Rng) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut rest = bytes.as_slice();
    let many = cuts.below(4);
    for _ in 0..many {
        if rest.len() < 2 {
            break;
        }
        let (a, b) = rest.split_at(1 + cuts.below(rest.len() as u64 - 1) as usize);
        pieces.push(a.to_vec());
        rest = b;
    }
    pieces.push(rest.to_vec());
    pieces
}

pub fn parse_answer(bytes: &[u8]) -> Option<(u16, Vec<u8>, usize)> {
    let text = String::from_utf8_lossy(bytes);
    let head = text.find("\r\n\r\n")?;
    let status: u16 = text.get(9..12)?.parse().ok()?;
    let length: usize = text[..head]
        .lines()
        .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:").map(|v| v.trim().to_string()))
        .and_then(|v| v.parse().ok())
        .unwrap_or(0);
    let end = head + 4 + length;
    (bytes.len() >= end).then(|| (status, bytes[head + 4..end].to_vec(), end))
}
