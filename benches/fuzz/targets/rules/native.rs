//! The rules of a native request, which is JSON in a string of an impression (Native Ads 1.2).
use super::{
    Judge,
    Must::{Count, Floor, List, Listed, NotNegative, Object},
    zero,
};
use crate::node::{Kind, Node, Trouble, whole};
use outcry::{
    limits::JSON_DEPTH_MAX,
    openrtb::validate::{Fault, Field},
};

impl Judge {
    pub(super) fn native(&mut self, native: &Node<'_>) {
        use Field as F;
        self.once(native, F::Native, &["request", "battr", "bidfloor", "bidfloorcur"]);
        self.named(native, "request", F::NativeRequest);
        self.all(
            native,
            &[
                ("battr", List, F::NativeBattr),
                ("bidfloor", Floor, F::NativeBidfloor),
                ("bidfloorcur", super::Must::Currency, F::NativeBidfloorcur),
            ],
        );
        let Some(text) = native.get("request").and_then(Node::text).filter(|t| !t.is_empty()) else { return };
        match Node::read(text.as_bytes(), JSON_DEPTH_MAX) {
            Err(Trouble::NotJson | Trouble::Surrogate | Trouble::Depth) => {
                self.say(F::NativeRequest, Fault::NotJsonInside);
            }
            Ok(root) if root.members().is_none() => self.say(F::NativeRequest, Fault::WrongType),
            Ok(root) => self.native_root(&root),
        }
    }

    fn native_root(&mut self, n: &Node<'_>) {
        use Field as F;
        let keys = ["native", "context", "contextsubtype", "plcmttype", "plcmtcnt", "seq", "assets", "eventtrackers"];
        self.once(n, F::NativeRequest, &keys);
        self.all(
            n,
            &[
                ("context", Listed(3), F::NativeContext),
                ("plcmttype", Listed(4), F::NativePlcmttype),
                ("plcmtcnt", NotNegative, F::NativePlcmtcnt),
                ("seq", NotNegative, F::NativeSeq),
                ("assets", List, F::NativeAssets),
                ("eventtrackers", List, F::NativeEventtrackers),
            ],
        );
        let number =
            |key| n.get(key).map_or(Some(0), |v| matches!(v.kind, Kind::Number).then(|| whole(v.raw)).flatten());
        let (context, subtype) = (number("context"), number("contextsubtype"));
        if subtype.is_none() {
            self.say(F::NativeContextsubtype, Fault::WrongType);
        }
        self.assets(n);
        self.trackers(n);
        if let Some(inner) = n.get("native").filter(|v| v.members().is_some()) {
            return self.native_root(inner);
        }
        let fault = match (context, subtype) {
            (_, Some(..0)) => Some(Fault::Negative),
            (_, Some(0 | 500..)) => None,
            (Some(1 | 500..), Some(10..=15)) | (Some(2 | 500..), Some(20..=22)) | (Some(3 | 500..), Some(30..=32)) => {
                None
            }
            (_, Some(10..=15 | 20..=22 | 30..=32)) => Some(Fault::Contradiction),
            (_, Some(_)) => Some(Fault::NotListed),
            (_, None) => None,
        };
        if let Some(fault) = fault {
            self.say(F::NativeContextsubtype, fault);
        }
        if n.get("assets").is_none_or(|a| a.items().is_some_and(<[_]>::is_empty)) {
            self.say(F::NativeAssets, Fault::Missing);
        }
    }

    fn assets(&mut self, n: &Node<'_>) {
        use Field as F;
        let mut ids = Vec::new();
        for (j, asset) in n.get("assets").and_then(Node::items).unwrap_or_default().iter().enumerate() {
            self.index[1] = j as i32;
            if asset.members().is_none() {
                self.say(F::NativeAsset, Fault::WrongType);
                continue;
            }
            self.once(asset, F::NativeAsset, &["id", "title", "img", "video", "data"]);
            if let Some(id) = asset.get("id") {
                match matches!(id.kind, Kind::Number).then(|| whole(id.raw)).flatten() {
                    Some(id) => ids.push(id),
                    None => self.say(F::NativeAssetId, Fault::WrongType),
                }
            }
            self.all(
                asset,
                &[
                    ("title", Object, F::NativeTitle),
                    ("img", Object, F::NativeImg),
                    ("video", Object, F::NativeVideo),
                    ("data", Object, F::NativeData),
                ],
            );
            let kind = |key| asset.get(key).filter(|k| k.members().is_some());
            match ["title", "img", "video", "data"].iter().filter(|key| kind(key).is_some()).count() {
                0 => self.say(F::NativeAsset, Fault::NoKind),
                1 => {}
                _ => self.say(F::NativeAsset, Fault::TwoKinds),
            }
            if let Some(title) = kind("title") {
                self.once(title, F::NativeTitle, &["len"]);
                self.above_zero(title, "len", F::NativeTitleLen);
            }
            if let Some(img) = kind("img") {
                self.once(img, F::NativeImg, &["w", "h", "wmin", "hmin"]);
                self.all(
                    img,
                    &[
                        ("w", NotNegative, F::NativeImgW),
                        ("h", NotNegative, F::NativeImgH),
                        ("wmin", NotNegative, F::NativeImgWmin),
                        ("hmin", NotNegative, F::NativeImgHmin),
                    ],
                );
            }
            if let Some(video) = kind("video") {
                self.native_video(video);
            }
            if let Some(data) = kind("data") {
                self.once(data, F::NativeData, &["type", "len"]);
                self.all(data, &[("type", Listed(12), F::NativeDataType), ("len", NotNegative, F::NativeDataLen)]);
                self.needed(data, "type", F::NativeDataType);
            }
        }
        self.index[1] = -1;
        let n = ids.len();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() < n {
            self.say(F::NativeAssets, Fault::NotUnique);
        }
    }

    fn native_video(&mut self, video: &Node<'_>) {
        use Field as F;
        self.once(video, F::NativeVideo, &["mimes", "minduration", "maxduration", "protocols"]);
        self.all(video, &[("mimes", List, F::NativeVideoMimes), ("protocols", List, F::NativeVideoProtocols)]);
        for (key, field) in [("mimes", F::NativeVideoMimes), ("protocols", F::NativeVideoProtocols)] {
            if video.get(key).is_none_or(|v| v.items().is_some_and(<[_]>::is_empty)) {
                self.say(field, Fault::Missing);
            }
        }
        self.above_zero(video, "minduration", F::NativeVideoMinduration);
        self.above_zero(video, "maxduration", F::NativeVideoMaxduration);
        self.numbers(video, "protocols", F::NativeVideoProtocols, |n| n >= 1);
    }

    fn trackers(&mut self, n: &Node<'_>) {
        use Field as F;
        for (j, tracker) in n.get("eventtrackers").and_then(Node::items).unwrap_or_default().iter().enumerate() {
            self.index[1] = j as i32;
            if tracker.members().is_none() {
                self.say(F::NativeEventtracker, Fault::WrongType);
                continue;
            }
            self.once(tracker, F::NativeEventtracker, &["event", "methods"]);
            self.all(tracker, &[("event", Listed(4), F::NativeEvent), ("methods", List, F::NativeMethods)]);
            self.needed(tracker, "event", F::NativeEvent);
            if tracker.get("methods").is_none_or(|v| v.items().is_some_and(<[_]>::is_empty)) {
                self.say(F::NativeMethods, Fault::Missing);
            }
            self.numbers(tracker, "methods", F::NativeMethods, |n| (1..=2).contains(&n) || n >= 500);
        }
        self.index[1] = -1;
    }

    /// Present, and above zero.
    fn above_zero(&mut self, node: &Node<'_>, key: &str, field: Field) {
        self.must(node, key, Count, field);
        match node.get(key).map(|v| v.raw) {
            None => self.say(field, Fault::Missing),
            Some(raw) if raw.starts_with(['-', '0']) && zero(raw) => self.say(field, Fault::Zero),
            Some(_) => {}
        }
    }

    /// A listed number that must be given; 0 is not.
    fn needed(&mut self, node: &Node<'_>, key: &str, field: Field) {
        if node.get(key).is_none_or(|v| matches!(v.kind, Kind::Number) && zero(v.raw)) {
            self.say(field, Fault::Missing);
        }
    }

    /// Elements that must be such numbers.
    fn numbers(&mut self, node: &Node<'_>, key: &str, field: Field, good: impl Fn(i64) -> bool) {
        for item in node.get(key).and_then(Node::items).unwrap_or_default() {
            match item.kind {
                Kind::Number => match whole(item.raw) {
                    Some(n) if good(n) => {}
                    Some(_) => self.say(field, Fault::NotListed),
                    None => self.say(field, Fault::WrongType),
                },
                Kind::Null => self.say(field, Fault::NotListed),
                _ => self.say(field, Fault::WrongType),
            }
        }
    }
}
