//! libFuzzer's door to [`outcry_fuzz::gzip`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| outcry_fuzz::gzip::check(data));
