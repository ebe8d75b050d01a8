//! libFuzzer's door to [`outcry_fuzz::chunked`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| outcry_fuzz::chunked::check(data));
