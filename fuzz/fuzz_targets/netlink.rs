#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| drain_init::properties::netlink(input));
