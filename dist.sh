#!/usr/bin/env bash
# Builds what is released, dist/ARCHITECTURE/drain-init, with std rebuilt for size. The same bytes on every machine
# and in every folder.
#
#   ./dist.sh [ARCHITECTURE]...     of release/platforms; all of them without one
#
# It needs rustup, which installs the toolchain that rust-toolchain.toml names.
set -euo pipefail
cd "$(dirname "$0")"

# Rebuilding std is unstable, so this exact version is used, whatever is set elsewhere.
toolchain=$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)
env -u RUSTUP_TOOLCHAIN RUSTUP_AUTO_INSTALL=1 cargo --version >/dev/null
export RUSTUP_TOOLCHAIN=$toolchain

# A panic aborts at once, with nothing said: the words of it are a fifth of the program. Its code cannot
# be unwound. The linker is rustup's own, as every machine's is another one; it folds what is the same.
flags=(
    -Zunstable-options -Cpanic=immediate-abort -Cforce-unwind-tables=no
    -Zlocation-detail=none -Zfmt-debug=none
    -Clink-arg=--icf=all -Clink-arg=-O2
    "--remap-path-prefix=$PWD=/drain-init" "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
)

export CARGO_ENCODED_RUSTFLAGS RUSTC_BOOTSTRAP=1 CARGO_INCREMENTAL=0
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld
export CARGO_TARGET_I686_UNKNOWN_LINUX_MUSL_LINKER=rust-lld

mapfile -t all < <(cut -d' ' -f1 release/platforms)
[ $# -gt 0 ] || set -- "${all[@]}"
for architecture; do
    target=$(sed -n "s/^$architecture //p" release/platforms)
    [ -n "$target" ] || { echo "dist.sh: $architecture: one of ${all[*]}" >&2; exit 2; }
    more=()
    # rustc links it at a fixed address; code that could run at any is 22 KB larger.
    [ "$architecture" != 386 ] || more=(-Crelocation-model=static)
    CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && echo "${flags[*]}${more:+$IFS${more[*]}}")
    build() {
        cargo build --locked --release --bin drain-init --target "$target" --target-dir target/dist \
            -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size "$@"
    }
    build
    mkdir -p "dist/$architecture"
    cp "target/dist/$target/release/drain-init" "dist/$architecture/drain-init"
    # The list of its parts, for release/bill.py.
    build -Zunstable-options --unit-graph >"target/dist/$target/units.json"
done
(cd dist && sha256sum ./*/drain-init && stat -c '%n: %s bytes' ./*/drain-init)
