//! Makes `drain_init_start` (src/sys/entry.rs) the first instruction of the program, so that signals
//! are blocked before the C library's own start-up.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-Wl,-e,drain_init_start");
}
