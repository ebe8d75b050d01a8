//! Bid requests as an exchange sends them: distinct, realistic, repeatable from a seed.
//! Owns: nothing. Called by: `load`, `demo`, tests. Never: runs while load is driven; all bodies are made before.
//!
//! Sizes and mixture follow what Prebid Server publishers send: about half banner, a fifth video, the rest native
//! and audio; site and app; one to five impressions; some deals; floors and bids in dollars, euros and pounds.
use super::{
    json::{Reader, top_level_span},
    rng::Rng,
};
use std::fmt::Write as _;

/// Length of a request id: 24 hexadecimal digits, 8 of the run and 16 of the request.
pub const ID_LEN: usize = 24;
/// Most different bodies that are made; at 2 KB each, 200 MB.
pub const DISTINCT_MAX: usize = 100_000;

/// What a request offers, as far as a check of its answer must know.
#[derive(Clone, Debug, PartialEq)]
pub struct ImpFacts {
    /// `imp.id`.
    pub id: String,
    /// `imp.bidfloor`, 0 where there is none.
    pub bidfloor: f64,
    /// `imp.bidfloorcur`, USD where there is none.
    pub bidfloorcur: String,
    /// Ids of the deals offered.
    pub deals: Vec<String>,
}

/// One body with a slot for its id.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// The JSON text.
    pub body: Vec<u8>,
    /// Where the [`ID_LEN`] bytes of the id stand in it.
    pub id_at: usize,
    /// Its impressions.
    pub imps: Vec<ImpFacts>,
    /// `cur`; empty: any currency.
    pub cur: Vec<String>,
    /// `tmax`, milliseconds.
    pub tmax_ms: Option<u32>,
}

/// Why a file cannot be sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTemplate {
    /// Not JSON, or no object.
    #[error("not a JSON object")]
    NotJson,
    /// No id to put ours in the place of.
    #[error("no id (text or number) at the top")]
    NoId,
}

/// The id of a request: unique for a run and a number.
pub fn write_id(slot: &mut [u8; ID_LEN], run: u32, seq: u64) {
    let all = (u128::from(run) << 64) | u128::from(seq);
    for (i, byte) in slot.iter_mut().enumerate() {
        *byte = b"0123456789abcdef"[(all >> (4 * (ID_LEN - 1 - i))) as usize & 15];
    }
}

impl Template {
    /// Takes a request as it is, but for its id.
    pub fn of(text: &[u8]) -> Result<Template, NoTemplate> {
        let span = top_level_span(text, "id").ok_or(NoTemplate::NoId)?;
        let mut body = text[..span.start].to_vec();
        body.push(b'"');
        let id_at = body.len();
        body.extend_from_slice(&[b'0'; ID_LEN]);
        body.push(b'"');
        body.extend_from_slice(&text[span.end..]);
        let owned = |t: Option<&str>| t.unwrap_or("").to_owned();
        let facts = Reader::default().read(&mut body.clone(), |root| {
            let imps = root.list("imp").map(|imp| ImpFacts {
                id: owned(imp.text_of("id")),
                bidfloor: imp.number_of("bidfloor").unwrap_or(0.0),
                bidfloorcur: imp.text_of("bidfloorcur").unwrap_or("USD").to_owned(),
                deals: imp
                    .get("pmp")
                    .into_iter()
                    .flat_map(|p| p.list("deals"))
                    .map(|d| owned(d.text_of("id")))
                    .collect(),
            });
            let cur = root.list("cur").filter_map(|c| c.text()).map(str::to_owned);
            root.is_object().then(|| (imps.collect(), cur.collect(), root.number_of("tmax").map(|ms| ms as u32)))
        });
        let (imps, cur, tmax_ms) = facts.flatten().ok_or(NoTemplate::NotJson)?;
        Ok(Template { body, id_at, imps, cur, tmax_ms })
    }

    /// Puts an id into a copy of the body that starts at `at` in `bytes`.
    pub fn patch(&self, bytes: &mut [u8], at: usize, run: u32, seq: u64) {
        let slot = bytes.get_mut(at + self.id_at..).and_then(|b| b.first_chunk_mut::<ID_LEN>());
        if let Some(slot) = slot {
            write_id(slot, run, seq);
        }
    }
}

/// `count` different requests (at most [`DISTINCT_MAX`]), the same ones for the same seed.
pub fn generate(seed: u64, count: usize) -> Vec<Template> {
    (0..count.min(DISTINCT_MAX) as u64)
        .filter_map(|i| {
            let mut maker = Maker { r: Rng::keyed(seed, &i.to_le_bytes()), out: String::with_capacity(4096) };
            maker.request(i);
            // Ours always has an id at the top: a test says so.
            Template::of(maker.out.as_bytes()).ok()
        })
        .collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Banner,
    Video,
    Audio,
    Native,
}

struct Maker {
    r: Rng,
    out: String,
}

/// Appends formatted text; writing to a `String` cannot fail.
macro_rules! put {
    ($maker:expr, $($arg:tt)*) => { let _ = write!($maker.out, $($arg)*); };
}

impl Maker {
    fn request(&mut self, number: u64) {
        let kind = match self.r.below(100) {
            0..52 => Kind::Banner,
            52..74 => Kind::Video,
            74..82 => Kind::Audio,
            _ => Kind::Native,
        };
        let app = self.r.chance(if kind == Kind::Audio { 700 } else { 350 });
        let imps =
            if kind == Kind::Banner { *self.r.pick(&[1, 1, 1, 2, 3, 4, 5]).unwrap_or(&1) } else { 1 + self.r.below(2) };
        self.out.push_str("{\"id\":\"\",\"imp\":[");
        for i in 1..=imps {
            self.comma(i > 1);
            self.imp(i, kind, app);
        }
        self.out.push_str("],");
        if app {
            self.app(number)
        } else {
            self.site(number)
        }
        self.device(app);
        self.user();
        self.rules();
        self.source_and_regs(number);
        self.out.push('}');
    }

    fn comma(&mut self, wanted: bool) {
        if wanted {
            self.out.push(',');
        }
    }

    fn imp(&mut self, number: u64, kind: Kind, app: bool) {
        let (tag, secure) = (self.r.below(90_000), u8::from(!self.r.chance(30)));
        put!(self, "{{\"id\":\"{number}\",\"tagid\":\"/21801234/slot_{tag}\",\"secure\":{secure},");
        match kind {
            Kind::Banner => {
                self.banner();
                if self.r.chance(80) {
                    self.out.push(',');
                    self.video(app);
                }
            }
            Kind::Video => self.video(app),
            Kind::Audio => self.audio(),
            Kind::Native => self.native(),
        }
        if self.r.chance(850) {
            let cents = 5 + self.r.exponential(60.0).min(400.0) as u64;
            put!(self, ",\"bidfloor\":{}.{:02}", cents / 100, cents % 100);
            let cur = *self.r.pick(&["USD", "USD", "USD", "USD", "EUR", "GBP"]).unwrap_or(&"USD");
            put!(self, ",\"bidfloorcur\":\"{cur}\"");
        }
        if app && self.r.chance(150) {
            self.out.push_str(",\"instl\":1");
        }
        if self.r.chance(400) {
            put!(self, ",\"exp\":{}", self.r.pick(&[300, 600, 900, 3600]).unwrap_or(&300));
        }
        if self.r.chance(180) {
            self.pmp();
        }
        let (gpid, a, b) = (self.r.below(90_000), self.r.draw(), self.r.draw());
        put!(self, ",\"displaymanager\":\"{}\"", if app { "applovin" } else { "prebid.js" });
        put!(
            self,
            ",\"ext\":{{\"gpid\":\"/21801234/slot_{gpid}\",\"tid\":\"{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}\"}}}}",
            a >> 32,
            a & 0xffff,
            (a >> 16) & 0xfff,
            b >> 52,
            b & 0xffff_ffff_ffff
        );
    }

    fn banner(&mut self) {
        const SIZES: [&[(u32, u32)]; 8] = [
            &[(300, 250)],
            &[(300, 250), (336, 280)],
            &[(728, 90), (970, 90)],
            &[(320, 50), (320, 100)],
            &[(970, 250), (728, 90)],
            &[(160, 600), (300, 600)],
            &[(300, 600), (300, 250), (160, 600)],
            &[(320, 480)],
        ];
        let sizes = self.r.pick(&SIZES).copied().unwrap_or(&[(300, 250)]);
        self.out.push_str("\"banner\":{\"format\":[");
        for (i, (w, h)) in sizes.iter().enumerate() {
            self.comma(i > 0);
            put!(self, "{{\"w\":{w},\"h\":{h}}}");
        }
        self.out.push(']');
        if self.r.chance(500) {
            put!(self, ",\"w\":{},\"h\":{}", sizes[0].0, sizes[0].1);
        }
        put!(
            self,
            ",\"pos\":{},\"battr\":[1,3,8,9,10],\"btype\":[4],\"topframe\":{}",
            self.r.below(4),
            self.r.below(2)
        );
        self.out.push_str(",\"mimes\":[\"image/jpeg\",\"image/png\",\"text/html\"],\"api\":[3,5,6,7]}");
    }

    fn video(&mut self, app: bool) {
        let (w, h) = *self.r.pick(&[(640, 360), (1280, 720), (1920, 1080), (400, 300)]).unwrap_or(&(640, 360));
        let longest = self.r.pick(&[15, 30, 30, 60]).copied().unwrap_or(30);
        put!(self, "\"video\":{{\"mimes\":[\"video/mp4\",\"video/webm\"],\"minduration\":5,\"maxduration\":{longest}");
        put!(self, ",\"protocols\":[2,3,5,6,7,8],\"w\":{w},\"h\":{h},\"startdelay\":{}", self.r.below(2));
        put!(self, ",\"plcmt\":{},\"linearity\":1", if app { 3 } else { 1 + self.r.below(2) });
        if self.r.chance(600) {
            self.out.push_str(",\"skip\":1,\"skipmin\":15,\"skipafter\":5");
        }
        self.out.push_str(",\"playbackmethod\":[1,2],\"delivery\":[2],\"api\":[1,2,7],\"boxingallowed\":1}");
    }

    fn audio(&mut self) {
        let longest = self.r.pick(&[15, 30, 60]).copied().unwrap_or(30);
        put!(self, "\"audio\":{{\"mimes\":[\"audio/mp4\",\"audio/mpeg\"],\"minduration\":5,\"maxduration\":{longest}");
        put!(
            self,
            ",\"protocols\":[9,10],\"startdelay\":0,\"feed\":{},\"stitched\":1,\"nvol\":4}}",
            1 + self.r.below(3)
        );
    }

    fn native(&mut self) {
        let (title, ctx) = (self.r.pick(&[25, 90, 140]).copied().unwrap_or(90), 1 + self.r.below(2));
        put!(
            self,
            "\"native\":{{\"ver\":\"1.2\",\"api\":[3],\"request\":\"{{\\\"ver\\\":\\\"1.2\\\",\\\"context\\\":{ctx},"
        );
        self.out.push_str("\\\"plcmttype\\\":1,\\\"plcmtcnt\\\":1,\\\"assets\\\":[");
        put!(self, "{{\\\"id\\\":1,\\\"required\\\":1,\\\"title\\\":{{\\\"len\\\":{title}}}}},");
        self.out.push_str(
            "{\\\"id\\\":2,\\\"required\\\":1,\\\"img\\\":{\\\"type\\\":3,\\\"wmin\\\":300,\\\"hmin\\\":157}},",
        );
        self.out.push_str("{\\\"id\\\":3,\\\"required\\\":0,\\\"data\\\":{\\\"type\\\":1,\\\"len\\\":25}}],");
        self.out.push_str("\\\"eventtrackers\\\":[{\\\"event\\\":1,\\\"methods\\\":[1,2]}]}\"}");
    }

    fn pmp(&mut self) {
        let private = u8::from(self.r.chance(150));
        put!(self, ",\"pmp\":{{\"private_auction\":{private},\"deals\":[");
        for i in 0..1 + self.r.below(3) {
            self.comma(i > 0);
            let (id, cents) = (self.r.below(400), 80 + self.r.below(500));
            let (at, cur) = (1 + self.r.below(3), *self.r.pick(&["USD", "USD", "EUR"]).unwrap_or(&"USD"));
            put!(self, "{{\"id\":\"deal-{id}-{i}\",\"bidfloor\":{}.{:02}", cents / 100, cents % 100);
            put!(self, ",\"bidfloorcur\":\"{cur}\",\"at\":{at}");
            if self.r.chance(300) {
                self.out.push_str(",\"wseat\":[\"rich-1\",\"cheap-1\",\"late-1\"]");
            }
            self.out.push('}');
        }
        self.out.push_str("]}");
    }

    fn site(&mut self, number: u64) {
        let (site, article, cat) = (self.r.below(4_000), self.r.below(1 << 40), 1 + self.r.below(23));
        put!(self, "\"site\":{{\"id\":\"site-{site}\",\"name\":\"Paper {site}\",\"domain\":\"news{site}.example\"");
        put!(
            self,
            ",\"cat\":[\"IAB{cat}\"],\"page\":\"https://news{site}.example/world/2026/{article:010x}-{number}.html\""
        );
        put!(self, ",\"ref\":\"https://search.example/\",\"mobile\":1,\"publisher\":{{\"id\":\"pub-{}\",", site % 700);
        put!(self, "\"name\":\"Group {0}\",\"domain\":\"group{0}.example\"}}", site % 700);
        if self.r.chance(500) {
            self.out
                .push_str(",\"content\":{\"language\":\"en\",\"title\":\"A headline about something that happened\"");
            self.out.push_str(",\"keywords\":\"politics,economy,weather\"}");
        }
        self.out.push('}');
    }

    fn app(&mut self, number: u64) {
        let (app, ios) = (self.r.below(3_000), self.r.chance(400));
        put!(
            self,
            "\"app\":{{\"id\":\"app-{app}\",\"name\":\"Game {app}\",\"ver\":\"{}.{}\"",
            1 + number % 9,
            number % 17
        );
        if ios {
            put!(self, ",\"bundle\":\"{}\",\"storeurl\":\"https://apps.apple.com/app/id{0}\"", 900_000_000 + app);
        } else {
            put!(self, ",\"bundle\":\"com.example.game{app}\"");
            put!(self, ",\"storeurl\":\"https://play.google.com/store/apps/details?id=com.example.game{app}\"");
        }
        put!(
            self,
            ",\"cat\":[\"IAB9-30\"],\"publisher\":{{\"id\":\"pub-{}\",\"domain\":\"studio.example\"}}}}",
            app % 500
        );
    }

    fn device(&mut self, app: bool) {
        // User agent, and what it says of the device: the two must agree, or fraud filters see a robot.
        const DEVICES: [(&str, &str); 4] = [
            (
                "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36",
                r#""devicetype":4,"os":"Android","osv":"14","make":"Google","model":"Pixel 8","h":915,"w":412"#,
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Mobile/15E148 Safari/604.1",
                r#""devicetype":4,"os":"iOS","osv":"17.6","make":"Apple","model":"iPhone","h":852,"w":393"#,
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
                r#""devicetype":2,"os":"Windows","osv":"10","h":1080,"w":1920"#,
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
                r#""devicetype":2,"os":"Linux","h":1200,"w":1920"#,
            ),
        ];
        const PLACES: [(&str, &str, &str, &str); 5] = [
            ("USA", "NY", "New York", "10001"),
            ("USA", "CA", "San Jose", "95113"),
            ("DEU", "BE", "Berlin", "10115"),
            ("GBR", "LND", "London", "EC1A"),
            ("FRA", "IDF", "Paris", "75001"),
        ];
        // Apps run on the first two.
        let devices = if app { &DEVICES[..2] } else { &DEVICES[..] };
        let (ua, facts) = self.r.pick(devices).copied().unwrap_or_default();
        let (country, region, city, zip) = self.r.pick(&PLACES).copied().unwrap_or_default();
        let (b, c, ifa) = (1 + self.r.below(254), self.r.below(256), self.r.draw());
        let (lat, lon) = (30 + self.r.below(25), self.r.below(100));
        put!(
            self,
            ",\"device\":{{\"ua\":\"{ua}\",\"ip\":\"98.{b}.{c}.0\",\"geo\":{{\"lat\":{lat}.{lon:02},\"lon\":-{lon}.5"
        );
        put!(
            self,
            ",\"type\":2,\"country\":\"{country}\",\"region\":\"{region}\",\"city\":\"{city}\",\"zip\":\"{zip}\"}}"
        );
        let conn = 2 + self.r.below(5);
        put!(self, ",\"dnt\":0,\"lmt\":{},\"connectiontype\":{conn},{facts}", u8::from(self.r.chance(250)));
        self.out.push_str(",\"js\":1,\"language\":\"en\"");
        if app {
            put!(self, ",\"ifa\":\"{:08x}-{:04x}-4a11-b0c0-{:012x}\"", ifa >> 32, ifa & 0xffff, ifa & 0xffff_ffff_ffff);
        }
        self.out.push('}');
    }

    fn user(&mut self) {
        if self.r.chance(120) {
            return;
        }
        let id = self.r.draw();
        put!(self, ",\"user\":{{\"id\":\"u-{id:016x}\",\"buyeruid\":\"b-{:010x}\"", id & 0xff_ffff_ffff);
        if self.r.chance(600) {
            self.out.push_str(",\"eids\":[");
            const SOURCES: [&str; 4] = ["id.example", "sharedid.example", "graph.example", "login.example"];
            for (i, source) in SOURCES.iter().take(1 + self.r.below(4) as usize).enumerate() {
                self.comma(i > 0);
                let uid = self.r.draw();
                put!(
                    self,
                    "{{\"source\":\"{source}\",\"uids\":[{{\"id\":\"E8-{uid:016x}\",\"atype\":{}}}]}}",
                    1 + i % 3
                );
            }
            self.out.push(']');
        }
        if self.r.chance(300) {
            self.out.push_str(",\"data\":[{\"id\":\"d1\",\"name\":\"segments.example\",\"segment\":[");
            for i in 0..4 + self.r.below(12) {
                self.comma(i > 0);
                put!(self, "{{\"id\":\"{}\",\"value\":\"1\"}}", self.r.below(100_000));
            }
            self.out.push_str("]}]");
        }
        self.out.push('}');
    }

    fn rules(&mut self) {
        let (at, tmax) = (1 + self.r.below(2), *self.r.pick(&[100, 120, 150, 200, 300]).unwrap_or(&100));
        put!(self, ",\"at\":{at},\"tmax\":{tmax}");
        let cur = match self.r.below(100) {
            0..40 => "",
            40..75 => ",\"cur\":[\"USD\"]",
            75..88 => ",\"cur\":[\"USD\",\"EUR\"]",
            88..95 => ",\"cur\":[\"EUR\"]",
            _ => ",\"cur\":[\"GBP\",\"USD\"]",
        };
        self.out.push_str(cur);
        self.out.push_str(",\"bcat\":[\"IAB25\",\"IAB26\",\"IAB7-39\"]");
        if self.r.chance(500) {
            self.out.push_str(",\"badv\":[");
            for i in 0..1 + self.r.below(12) {
                self.comma(i > 0);
                put!(self, "\"brand{}.example\"", self.r.below(400));
            }
            self.out.push(']');
        }
    }

    fn source_and_regs(&mut self, number: u64) {
        let tid = self.r.draw();
        put!(self, ",\"source\":{{\"fd\":0,\"tid\":\"{tid:016x}-{number:x}\"");
        if self.r.chance(700) {
            // Both places are in use: 2.6 section 3.2.2, and `ext` in 2.5.
            let old = self.r.chance(300);
            self.out.push_str(if old { ",\"ext\":{\"schain\":" } else { ",\"schain\":" });
            self.out.push_str("{\"complete\":1,\"ver\":\"1.0\",\"nodes\":[");
            for i in 0..1 + self.r.below(3) {
                self.comma(i > 0);
                put!(self, "{{\"asi\":\"seller{i}.example\",\"sid\":\"{}\",\"hp\":1}}", self.r.below(90_000));
            }
            self.out.push_str(if old { "]}}" } else { "]}" });
        }
        self.out.push('}');
        match self.r.below(4) {
            0 => self.out.push_str(",\"regs\":{\"coppa\":0,\"gdpr\":0}"),
            1 => self.out.push_str(",\"regs\":{\"coppa\":0,\"ext\":{\"gdpr\":0,\"us_privacy\":\"1YNN\"}}"),
            2 => self.out.push_str(",\"regs\":{\"gpp\":\"DBABLA~BVQqAAAAAgA.QA\",\"gpp_sid\":[7]}"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ID_LEN, NoTemplate, Template, generate, write_id};
    use crate::lab::json::Reader;
    use std::collections::HashSet;

    #[test]
    fn the_same_seed_gives_the_same_requests() {
        assert_eq!(generate(7, 300), generate(7, 300));
        assert_ne!(generate(7, 1)[0].body, generate(8, 1)[0].body);
    }

    #[test]
    fn a_thousand_are_distinct_valid_and_mixed() {
        let made = generate(1, 1_500);
        assert_eq!(made.iter().map(|t| &t.body).collect::<HashSet<_>>().len(), 1_500);
        let mut reader = Reader::default();
        let mut seen: HashSet<&str> = HashSet::new();
        for template in &made {
            let size = template.body.len();
            assert!((800..=4_800).contains(&size), "{size} bytes: {}", String::from_utf8_lossy(&template.body));
            let ids: HashSet<_> = template.imps.iter().map(|i| &i.id).collect();
            assert_eq!(ids.len(), template.imps.len());
            let read = reader.read(&mut template.body.clone(), |v| {
                for imp in v.list("imp") {
                    for media in ["banner", "video", "audio", "native", "pmp", "instl"] {
                        if imp.get(media).is_some() {
                            seen.insert(media);
                        }
                    }
                    if let Some(native) = imp.get("native") {
                        let mut request = native.text_of("request").unwrap_or("").as_bytes().to_vec();
                        let inner = Reader::default().read(&mut request, |n| n.list("assets").count());
                        assert_eq!(inner, Some(3));
                    }
                }
                for part in ["site", "app", "cur", "regs", "badv"] {
                    if v.get(part).is_some() {
                        seen.insert(part);
                    }
                }
                assert!(v.get("site").is_some() != v.get("app").is_some());
                assert_eq!(v.members().map(|m| m.0).collect::<HashSet<_>>().len(), v.members().count(), "double keys");
                v.text_of("id").map(str::len)
            });
            assert_eq!(read, Some(Some(ID_LEN)));
        }
        assert_eq!(seen.len(), 11, "{seen:?}");
        assert!(made.iter().any(|t| t.imps.len() > 3) && made.iter().any(|t| t.cur == ["EUR"]));
    }

    #[test]
    fn ids_are_unique_and_fill_their_slot() {
        let template = &generate(3, 1)[0];
        let mut ids = HashSet::new();
        for (run, seq) in [(1, 0), (1, 1), (2, 1), (0xffff_ffff, u64::MAX)] {
            let mut sent = b"head".to_vec();
            sent.extend_from_slice(&template.body);
            template.patch(&mut sent, 4, run, seq);
            let mut expected = [0; ID_LEN];
            write_id(&mut expected, run, seq);
            let id = Reader::default().read(&mut sent[4..], |v| v.text_of("id").map(str::to_owned)).flatten();
            assert_eq!(id.as_deref().map(str::as_bytes), Some(&expected[..]));
            assert!(ids.insert(id));
        }
    }

    #[test]
    fn a_file_is_sent_as_it_is_but_for_its_id() {
        let text = br#"{ "imp":[{"id":"a","bidfloor":1.50,"pmp":{"deals":[{"id":"d"}]}}], "id": 7, "cur":["EUR"] }"#;
        let t = Template::of(text).expect("a template");
        let zeros = "0".repeat(ID_LEN);
        assert_eq!(
            String::from_utf8_lossy(&t.body),
            String::from_utf8_lossy(text).replace(": 7,", &format!(": \"{zeros}\","))
        );
        assert_eq!((t.imps[0].id.as_str(), t.imps[0].bidfloor, t.cur[0].as_str()), ("a", 1.5, "EUR"));
        assert_eq!(t.imps[0].deals, ["d"]);
        assert_eq!(Template::of(b"{}"), Err(NoTemplate::NoId));
        assert_eq!(Template::of(b"{\"id\":\"x\",}"), Err(NoTemplate::NotJson));
    }
}
