//! libFuzzer's door to [`outcry_fuzz::splice`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| outcry_fuzz::splice::check(data));
