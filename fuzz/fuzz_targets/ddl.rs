#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| asof_fuzz::ddl(text));
