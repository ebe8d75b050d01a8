//! libFuzzer's door to [`outcry_fuzz::token`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| outcry_fuzz::token::check(data));
