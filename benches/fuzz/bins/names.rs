//! libFuzzer's door to [`outcry_fuzz::names`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| outcry_fuzz::names::check(data));
