//! libFuzzer's door to [`outcry_fuzz::framing`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| outcry_fuzz::framing::check(data));
