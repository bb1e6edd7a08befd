//! Makes `drain_init_start` (src/sys/entry.rs) the first instruction of the program, so that signals
//! are blocked before the C library's own start-up.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(has_entry_point)");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if ["x86_64", "aarch64", "x86"].iter().any(|here| is("CARGO_CFG_TARGET_ARCH", here)) {
        println!("cargo::rustc-cfg=has_entry_point");
        // In the one form that C compilers as linkers and linkers themselves both take.
        println!("cargo::rustc-link-arg-bins=-edrain_init_start");
    }
    if is("CARGO_CFG_TARGET_ENV", "musl") && is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        // A static-pie relocates itself: one bit a pointer instead of 24 bytes, which musl knows
        // from 1.2.4 on. And an index for unwinding, which ends at the first panic here.
        let arguments = ["-z", "pack-relative-relocs", "--no-eh-frame-hdr"];
        if env::var("RUSTC_LINKER").is_ok_and(|linker| linker.ends_with("lld")) {
            for argument in arguments {
                println!("cargo::rustc-link-arg-bins={argument}");
            }
        } else {
            println!("cargo::rustc-link-arg-bins=-Wl,{}", arguments.join(","));
        }
    }
}
