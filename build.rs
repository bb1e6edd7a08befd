//! Makes `drain_init_start` (src/sys/entry.rs) the first instruction of the program, so that signals
//! are blocked before the C library's own start-up.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // In the one form that C compilers as linkers and linkers themselves both take.
    println!("cargo::rustc-link-arg-bins=-edrain_init_start");
}
