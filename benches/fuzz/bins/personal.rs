//! libFuzzer's door to [`outcry_fuzz::personal`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| outcry_fuzz::personal::check(data));
