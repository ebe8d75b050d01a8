//! libFuzzer's door to [`outcry_fuzz::head`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| outcry_fuzz::head::check(data));
