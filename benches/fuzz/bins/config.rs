//! libFuzzer's door to [`outcry_fuzz::config`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| outcry_fuzz::config::check(data));
