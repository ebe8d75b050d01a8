//! libFuzzer's door to [`outcry_fuzz::connection`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| outcry_fuzz::connection::check(data));
