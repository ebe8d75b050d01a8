//! libFuzzer's door to [`outcry_fuzz::blackbox`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| outcry_fuzz::blackbox::check(data));
