//! libFuzzer's door to [`outcry_fuzz::request`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = outcry_fuzz::request::check(data);
});
