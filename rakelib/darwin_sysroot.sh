#!/usr/bin/env bash
# rakelib/darwin_sysroot.sh DIR TARGET...: what rustc needs to check and link for macOS on a Debian machine.
#
# Leaves in DIR: sysroot/, the standard library for each target, built from Debian's rust-src of exactly this rustc;
# sdk/, Apple's lists of the symbols its libraries export, from the ziglang package (zig itself is never run); env, to be
# sourced. Linking against the lists proves that every symbol exists; nothing about behaviour. Takes 80 seconds and 160 MB
# for two targets. Where this was done before for this rustc, it does nothing.
#
# It downloads, where this machine's apt, pip and cargo are set to: rust-src (see rust_source.sh), ziglang (Python
# packages), and the few crates the standard library depends on.
#
# Exit status 3: it cannot be made here, and the last line says why.
set -euo pipefail
dir=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
shift
fail() { echo "darwin_sysroot: $*" >&2; exit 3; }

command -v rustc >/dev/null || fail "rustc is missing"
release=$(rustc -vV | sed -n 's/^release: //p')
host=$(rustc -vV | sed -n 's/^host: //p')
made_for="$release $*"
[ ! -f "$dir/env" ] || [ "$(cat "$dir/made_for" 2>/dev/null)" != "$made_for" ] || exit 0
for tool in pip python3; do
  command -v $tool >/dev/null || fail "$tool is missing"
done
lld=$(rustc --print sysroot)/lib/rustlib/$host/bin/rust-lld
[ -x "$lld" ] || fail "rustc came without rust-lld"

[ ! -e "$dir" ] || [ -e "$dir/made_here" ] || [ -z "$(ls -A "$dir")" ] || fail "$dir is something else"
rm -rf "$dir"
mkdir -p "$dir"/{download,sdk/usr/lib}
dir=$(cd "$dir" && pwd)
touch "$dir/made_here" # and may be removed here

"$here/rust_source.sh" "$dir" || exit 3

# The symbols of macOS 15.5.
pip download -q --no-deps -d "$dir/download" ziglang==0.15.2 || fail "no ziglang package"
python3 - "$dir" <<'PYTHON'
import glob, sys, zipfile
directory = sys.argv[1]
wheel = zipfile.ZipFile(glob.glob(directory + "/download/ziglang-*.whl")[0])
symbols = wheel.read("ziglang/lib/libc/darwin/libSystem.tbd")
for library in ("c", "m", "System"):
    with open(f"{directory}/sdk/usr/lib/lib{library}.tbd", "wb") as file:
        file.write(symbols)
PYTHON
cat > "$dir/sdk/usr/lib/libiconv.tbd" <<'TBD'
--- !tapi-tbd
tbd-version:     4
targets:         [ x86_64-macos, arm64-macos ]
install-name:    '/usr/lib/libiconv.2.dylib'
exports:
  - targets:         [ x86_64-macos, arm64-macos ]
    symbols:         [ _iconv, _iconv_open, _iconv_close ]
...
TBD

# The standard library, not linked yet.
sed -i 's/crate-type = \["dylib", "rlib"\]/crate-type = ["rlib"]/' "$dir"/source/library/{std,test}/Cargo.toml
echo "export SDKROOT=$dir/sdk" > "$dir/env.new"
for target in "$@"; do
  RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zforce-unstable-if-unmarked CARGO_TARGET_DIR="$dir/build" CARGO_PROFILE_DEV_DEBUG=0 \
    CARGO_INCREMENTAL=0 cargo build -q --manifest-path "$dir/source/library/sysroot/Cargo.toml" --target "$target" ||
    fail "the standard library cannot be built"
  mkdir -p "$dir/sysroot/lib/rustlib/$target/lib"
  cp "$dir/build/$target"/debug/deps/*.rlib "$dir/sysroot/lib/rustlib/$target/lib/"
  prefix=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$target")
  # Dead code is linked too, so that a symbol that it misses is found.
  cat >> "$dir/env.new" <<ENV
export ${prefix}_LINKER=$lld
export ${prefix}_RUSTFLAGS="-Clinker-flavor=ld64.lld --sysroot=$dir/sysroot -Clink-dead-code -Clink-arg=-all_load"
ENV
done
rm -rf "$dir"/{apt,download,source,build}
echo "$made_for" > "$dir/made_for"
mv "$dir/env.new" "$dir/env"
