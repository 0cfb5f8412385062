//! Every fuzz target: the binary's name says which entry point it drives.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lifeboat_tests::decoders::run(env!("CARGO_BIN_NAME"), data));
