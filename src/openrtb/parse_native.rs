//! Checks the native request inside an impression: JSON in a JSON string (OpenRTB 2.6 section 3.2.9, Native Ads 1.2).
//!
//! Nothing of it is kept; it is checked because a DSP that cannot read it cannot bid, and the sender should hear why.
//! 1.0's wrapping object `native` is understood. Values from 500 upwards belong to exchanges.
//!
//! Owns: nothing. Runs on: each bidder core. Called by: `parse_imp`. Never: allocates once the scratch has grown.
use bumpalo::collections::Vec as ArenaVec;

use super::{
    reader::{Reader, Step, Stop},
    text::Text,
    validate::{Fault, Field},
};
use crate::{
    json::{self, Cursor, keys},
    limits::TEXTS_MAX,
};

keys! { RootKey {
    Native = "native", Context = "context", Contextsubtype = "contextsubtype", Plcmttype = "plcmttype",
    Plcmtcnt = "plcmtcnt", Seq = "seq", Assets = "assets", Eventtrackers = "eventtrackers",
} }

keys! { AssetKey { Id = "id", Title = "title", Img = "img", Video = "video", Data = "data" } }

keys! { LenKey { Len = "len" } }

keys! { ImgKey { W = "w", H = "h", Wmin = "wmin", Hmin = "hmin" } }

keys! { VideoKey {
    Mimes = "mimes", Minduration = "minduration", Maxduration = "maxduration", Protocols = "protocols",
} }

keys! { DataKey { Type = "type", Len = "len" } }

keys! { TrackerKey { Event = "event", Methods = "methods" } }

/// Values from here on are agreed between exchanges and their partners.
const EXCHANGE_SPECIFIC: i64 = 500;

impl Reader<'_, '_> {
    /// Checks the text of a native request. A fault in it is reported where the string begins.
    pub(super) fn native_request(&mut self, text: Text) -> Step {
        let at = text.span().at;
        let arena = self.arena;
        let mut plain = ArenaVec::new_in(arena);
        json::unescape(text, self.c.buf(), &mut plain);
        let mut inner = Reader::new(Cursor::new(&plain, 0).map_err(|_| not_json(at))?, self.out, arena);
        inner.index = self.index;
        let checked = inner.native_root();
        let index = inner.index;
        checked.map_err(|stop| {
            self.index = index;
            if let Fault::NotJson(_) = stop.rule.fault { not_json(at) } else { Stop { at, ..stop } }
        })
    }

    fn native_root(&mut self) -> Step {
        if self.c.peek() != b'{' {
            self.c.skip()?;
            return self.stop(Field::NativeRequest, Fault::WrongType);
        }
        self.native_object()?;
        Ok(self.c.finish()?)
    }

    /// Native 1.2, 4.1
    fn native_object(&mut self) -> Step {
        let Some(mut walk) = self.object(Field::NativeRequest)? else { return Ok(()) };
        let (mut context, mut subtype, mut assets, mut wrapped) = (0, 0, 0, false);
        while let Some((key, _)) = self.next::<RootKey>(&mut walk)? {
            match key {
                // Nested at most as deep as the cursor follows; a wrapper in a wrapper is nonsense but harmless.
                RootKey::Native if self.c.peek() == b'{' => {
                    self.native_object()?;
                    wrapped = true;
                }
                RootKey::Native => self.c.skip()?,
                RootKey::Context => context = self.listed(Field::NativeContext, 3)?,
                RootKey::Contextsubtype => subtype = self.whole(Field::NativeContextsubtype)?.unwrap_or(0),
                RootKey::Plcmttype => {
                    self.listed(Field::NativePlcmttype, 4)?;
                }
                RootKey::Plcmtcnt => self.not_negative(Field::NativePlcmtcnt)?,
                RootKey::Seq => self.not_negative(Field::NativeSeq)?,
                RootKey::Assets => assets = self.assets()?,
                RootKey::Eventtrackers => self.trackers()?,
            }
        }
        if wrapped {
            return Ok(());
        }
        self.subtype(context, subtype)?;
        if assets == 0 {
            return self.stop(Field::NativeAssets, Fault::Missing);
        }
        Ok(())
    }

    /// A number between 1 and `most`, or an exchange's own; 0 when absent (or 0, which senders mean that way).
    fn listed(&mut self, field: Field, most: i64) -> Step<i64> {
        match self.whole(field)?.unwrap_or(0) {
            n if (0..=most).contains(&n) || n >= EXCHANGE_SPECIFIC => Ok(n),
            _ => self.stop(field, Fault::NotListed),
        }
    }

    /// Native 1.2, 7.2: 1x belongs to content, 2x to social, 3x to product.
    fn subtype(&mut self, context: i64, subtype: i64) -> Step {
        let of = match subtype {
            0 | EXCHANGE_SPECIFIC.. => return Ok(()),
            10..=15 => 1,
            20..=22 => 2,
            30..=32 => 3,
            i64::MIN..0 => return self.stop(Field::NativeContextsubtype, Fault::Negative),
            _ => return self.stop(Field::NativeContextsubtype, Fault::NotListed),
        };
        if context == of || context >= EXCHANGE_SPECIFIC {
            Ok(())
        } else {
            self.stop(Field::NativeContextsubtype, Fault::Contradiction)
        }
    }

    fn assets(&mut self) -> Step<i32> {
        self.asset_ids.clear();
        let mut n = 0;
        if self.array(Field::NativeAssets)? {
            let mut first = true;
            while self.c.element(&mut first)? {
                self.index[1] = n;
                self.asset()?;
                n += 1;
            }
            self.index[1] = -1;
            // Sorted, so that many assets cost no more than their number times its logarithm.
            self.asset_ids.sort_unstable();
            if self.asset_ids.windows(2).any(|pair| pair[0] == pair[1]) {
                return self.stop(Field::NativeAssets, Fault::NotUnique);
            }
        }
        Ok(n)
    }

    /// Native 1.2, 4.2: exactly one kind. The id is required there, but senders omit it and DSPs cope.
    fn asset(&mut self) -> Step {
        let Some(mut walk) = self.object(Field::NativeAsset)? else {
            return self.stop(Field::NativeAsset, Fault::WrongType);
        };
        let mut kinds = 0;
        while let Some((key, _)) = self.next::<AssetKey>(&mut walk)? {
            kinds += i32::from(match key {
                AssetKey::Id => {
                    if let Some(id) = self.whole(Field::NativeAssetId)? {
                        if self.asset_ids.len() >= TEXTS_MAX {
                            return self.stop(Field::NativeAssets, Fault::TooMany);
                        }
                        self.asset_ids.push(id);
                    }
                    false
                }
                AssetKey::Title => self.title()?,
                AssetKey::Img => self.img()?,
                AssetKey::Video => self.native_video()?,
                AssetKey::Data => self.data()?,
            });
        }
        match kinds {
            0 => self.stop(Field::NativeAsset, Fault::NoKind),
            1 => Ok(()),
            _ => self.stop(Field::NativeAsset, Fault::TwoKinds),
        }
    }

    /// A number that must be given and above zero.
    fn above_zero(&mut self, field: Field) -> Step<bool> {
        match self.count(field)? {
            Some(0) => self.stop(field, Fault::Zero),
            n => Ok(n.is_some()),
        }
    }

    fn title(&mut self) -> Step<bool> {
        let Some(mut walk) = self.object(Field::NativeTitle)? else { return Ok(false) };
        let mut len = false;
        while let Some((LenKey::Len, _)) = self.next(&mut walk)? {
            len = self.above_zero(Field::NativeTitleLen)?;
        }
        if len { Ok(true) } else { self.stop(Field::NativeTitleLen, Fault::Missing) }
    }

    fn img(&mut self) -> Step<bool> {
        let Some(mut walk) = self.object(Field::NativeImg)? else { return Ok(false) };
        while let Some((key, _)) = self.next::<ImgKey>(&mut walk)? {
            self.not_negative(match key {
                ImgKey::W => Field::NativeImgW,
                ImgKey::H => Field::NativeImgH,
                ImgKey::Wmin => Field::NativeImgWmin,
                ImgKey::Hmin => Field::NativeImgHmin,
            })?;
        }
        Ok(true)
    }

    /// Native 1.2, 4.5: all four are required.
    fn native_video(&mut self) -> Step<bool> {
        let Some(mut walk) = self.object(Field::NativeVideo)? else { return Ok(false) };
        let (mut mimes, mut min, mut max, mut protocols) = (false, false, false, false);
        while let Some((key, _)) = self.next::<VideoKey>(&mut walk)? {
            match key {
                VideoKey::Mimes => mimes = self.elements(Field::NativeVideoMimes)? > 0,
                VideoKey::Minduration => min = self.above_zero(Field::NativeVideoMinduration)?,
                VideoKey::Maxduration => max = self.above_zero(Field::NativeVideoMaxduration)?,
                // Unknown protocols are for DSPs to judge: the list grows (AdCOM has 14 by now).
                VideoKey::Protocols => protocols = self.positive_list(Field::NativeVideoProtocols)?,
            }
        }
        for (given, field) in [
            (mimes, Field::NativeVideoMimes),
            (min, Field::NativeVideoMinduration),
            (max, Field::NativeVideoMaxduration),
            (protocols, Field::NativeVideoProtocols),
        ] {
            if !given {
                return self.stop(field, Fault::Missing);
            }
        }
        Ok(true)
    }

    /// A list of numbers above zero; is there any?
    fn positive_list(&mut self, field: Field) -> Step<bool> {
        let (mut first, mut any) = (true, false);
        if self.array(field)? {
            while self.c.element(&mut first)? {
                any |= true;
                if self.whole(field)?.is_none_or(|n| n < 1) {
                    return self.stop(field, Fault::NotListed);
                }
            }
        }
        Ok(any)
    }

    /// Native 1.2, 4.6 and 7.4
    fn data(&mut self) -> Step<bool> {
        let Some(mut walk) = self.object(Field::NativeData)? else { return Ok(false) };
        let mut kind = 0;
        while let Some((key, _)) = self.next::<DataKey>(&mut walk)? {
            match key {
                DataKey::Type => kind = self.listed(Field::NativeDataType, 12)?,
                DataKey::Len => self.not_negative(Field::NativeDataLen)?,
            }
        }
        if kind == 0 { self.stop(Field::NativeDataType, Fault::Missing) } else { Ok(true) }
    }

    /// Native 1.2, 4.7: event and methods are required.
    fn trackers(&mut self) -> Step {
        if !self.array(Field::NativeEventtrackers)? {
            return Ok(());
        }
        let (mut first, mut n) = (true, 0);
        while self.c.element(&mut first)? {
            self.index[1] = n;
            n += 1;
            let Some(mut walk) = self.object(Field::NativeEventtracker)? else {
                return self.stop(Field::NativeEventtracker, Fault::WrongType);
            };
            let (mut event, mut methods) = (0, false);
            while let Some((key, _)) = self.next::<TrackerKey>(&mut walk)? {
                match key {
                    TrackerKey::Event => event = self.listed(Field::NativeEvent, 4)?,
                    TrackerKey::Methods => methods = self.methods()?,
                }
            }
            if event == 0 {
                return self.stop(Field::NativeEvent, Fault::Missing);
            }
            if !methods {
                return self.stop(Field::NativeMethods, Fault::Missing);
            }
        }
        self.index[1] = -1;
        Ok(())
    }

    /// Native 1.2, 7.7: 1 is an image, 2 a script.
    fn methods(&mut self) -> Step<bool> {
        let (mut first, mut any) = (true, false);
        if self.array(Field::NativeMethods)? {
            while self.c.element(&mut first)? {
                any = true;
                if self.listed(Field::NativeMethods, 2)? == 0 {
                    return self.stop(Field::NativeMethods, Fault::NotListed);
                }
            }
        }
        Ok(any)
    }
}

fn not_json(at: u32) -> Stop {
    // The reason inside would come with an offset that means nothing outside.
    Stop { rule: super::validate::Rule { field: Field::NativeRequest, fault: Fault::NotJsonInside }, at }
}
