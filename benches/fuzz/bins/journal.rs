//! libFuzzer's door to [`outcry_fuzz::journal`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| outcry_fuzz::journal::check(data));
