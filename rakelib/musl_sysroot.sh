#!/usr/bin/env bash
# rakelib/musl_sysroot.sh DIR: what rustc needs to build programs for musl on a Debian machine.
#
# Leaves in DIR: sysroot/, the standard library, built from Debian's rust-src of exactly this rustc, with Debian's musl
# (musl-dev) and gcc's unwinder beside it, so that programs are static; env, to be sourced. It installs nothing. Takes a
# minute and 80 MB. Where this was done before for this rustc, it does nothing.
#
# It downloads, where this machine's apt and cargo are set to: rust-src (see rust_source.sh), musl-dev of the same suites,
# and the few crates the standard library depends on.
#
# Exit status 3: it cannot be made here, and the last line says why.
set -euo pipefail
dir=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
fail() { echo "musl_sysroot: $*" >&2; exit 3; }

command -v rustc >/dev/null || fail "rustc is missing"
command -v gcc >/dev/null || fail "gcc is missing"
release=$(rustc -vV | sed -n 's/^release: //p')
target=$(uname -m)-unknown-linux-musl
made_for="$release $target"
[ ! -f "$dir/env" ] || [ "$(cat "$dir/made_for" 2>/dev/null)" != "$made_for" ] || exit 0

[ ! -e "$dir" ] || [ -e "$dir/made_here" ] || [ -z "$(ls -A "$dir")" ] || fail "$dir is something else"
rm -rf "$dir"
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
touch "$dir/made_here" # and may be removed here
"$here/rust_source.sh" "$dir" || exit 3

library=$dir/sysroot/lib/rustlib/$target/lib
mkdir -p "$library/self-contained" "$dir/musl"
(cd "$dir/download" && apt-get -qq -c "$dir/apt/apt.conf" download musl-dev) || fail "no musl-dev"
dpkg-deb -x "$dir"/download/musl-dev_*.deb "$dir/musl"
cp "$dir"/musl/usr/lib/*-linux-musl/{*crt1.o,crti.o,crtn.o,libc.a} "$library/self-contained/"
for file in crtbegin.o crtbeginS.o crtend.o crtendS.o; do
  cp "$(gcc -print-file-name=$file)" "$library/self-contained/"
done
cp "$(gcc -print-file-name=libgcc_eh.a)" "$library/self-contained/libunwind.a"
gcc -O2 -Wall -Wextra -fPIC -c "$here/musl_unwind.c" -o "$dir/musl_unwind.o"
ar r "$library/self-contained/libunwind.a" "$dir/musl_unwind.o"

sed -i 's/crate-type = \["dylib", "rlib"\]/crate-type = ["rlib"]/' "$dir"/source/library/{std,test}/Cargo.toml
RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zforce-unstable-if-unmarked CARGO_TARGET_DIR="$dir/build" CARGO_PROFILE_DEV_DEBUG=0 \
  CARGO_INCREMENTAL=0 cargo build -q --manifest-path "$dir/source/library/sysroot/Cargo.toml" --target "$target" ||
  fail "the standard library cannot be built"
cp "$dir/build/$target"/debug/deps/*.rlib "$library/"

cat > "$dir/env.new" <<ENV
export MUSL_TARGET=$target
export CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$target")_RUSTFLAGS="--sysroot=$dir/sysroot"
ENV
rm -rf "$dir"/{apt,download,source,musl,build,musl_unwind.o}
echo "$made_for" > "$dir/made_for"
mv "$dir/env.new" "$dir/env"
