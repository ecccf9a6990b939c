#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| asof_fuzz::json_lines(bytes));
