//! libFuzzer's door to [`outcry_fuzz::answer`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| outcry_fuzz::answer::check(data));
