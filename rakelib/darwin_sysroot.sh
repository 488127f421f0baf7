#!/usr/bin/env bash
# rakelib/darwin_sysroot.sh DIR TARGET...: what rustc needs to check and link for macOS on a Debian machine.
#
# Leaves in DIR: sysroot/, the standard library for each target, built from Debian's rust-src of exactly this rustc;
# sdk/, Apple's lists of the symbols its libraries export, from the ziglang package (zig itself is never run); env, to be
# sourced. Linking against the lists proves that every symbol exists; nothing about behaviour. Takes 80 seconds and 160 MB
# for two targets, and nothing where it was done before for this rustc.
#
# It downloads, where this machine's apt, pip and cargo are set to: rust-src (Debian's trixie-backports or sid), ziglang
# (Python packages), and the few crates the standard library depends on.
#
# Exit status 3: it cannot be made here, and the last line says why.
set -euo pipefail
dir=$1
shift
fail() { echo "darwin_sysroot: $*" >&2; exit 3; }

command -v rustc >/dev/null || fail "rustc is missing"
release=$(rustc -vV | sed -n 's/^release: //p')
host=$(rustc -vV | sed -n 's/^host: //p')
made_for="$release $*"
[ ! -f "$dir/env" ] || [ "$(cat "$dir/made_for" 2>/dev/null)" != "$made_for" ] || exit 0
for tool in apt-get dpkg-deb pip python3; do
  command -v $tool >/dev/null || fail "$tool is missing: only Debian's rust-src is known to fit"
done
lld=$(rustc --print sysroot)/lib/rustlib/$host/bin/rust-lld
[ -x "$lld" ] || fail "rustc came without rust-lld"

[ ! -e "$dir" ] || [ -e "$dir/made_here" ] || [ -z "$(ls -A "$dir")" ] || fail "$dir is something else"
rm -rf "$dir"
mkdir -p "$dir"/{apt/lists/partial,apt/cache/archives/partial,download,source,sdk/usr/lib}
dir=$(cd "$dir" && pwd)
touch "$dir/made_here" # and may be removed here

# The source of the standard library, by an apt with a state of its own: that of this machine is not touched.
mirror=$(apt-get indextargets --format '$(REPO_URI)' | sed -n '\|/debian/*$|p' | head -n 1)
[ -n "$mirror" ] || fail "apt has no Debian mirror"
for suite in trixie-backports sid; do
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
done > "$dir/apt/sources.list"
cat > "$dir/apt/apt.conf" <<CONF
Dir::Etc::sourcelist "$dir/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "$dir/apt/lists";
Dir::Cache "$dir/apt/cache";
APT::Sandbox::User "root";
Acquire::Check-Valid-Until "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
CONF
apt-get -qq -c "$dir/apt/apt.conf" update || fail "apt-get update failed"
version=$(apt-cache -c "$dir/apt/apt.conf" madison rust-src |
  awk -F'|' -v wanted="$release+" '{ gsub(/ /, "", $2) } index($2, wanted) == 1 { found = $2 } END { print found }')
[ -n "$version" ] || fail "Debian has no rust-src $release"
(cd "$dir/download" && apt-get -qq -c "$dir/apt/apt.conf" download "rust-src=$version") || fail "no rust-src"
dpkg-deb --fsys-tarfile "$dir"/download/rust-src_*.deb |
  tar -x -C "$dir/source" --strip-components=4 "./usr/src/rustc-$release/library"

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
  # What nobody calls is linked too, so that a symbol that is missing there is found.
  cat >> "$dir/env.new" <<ENV
export ${prefix}_LINKER=$lld
export ${prefix}_RUSTFLAGS="-Clinker-flavor=ld64.lld --sysroot=$dir/sysroot -Clink-dead-code -Clink-arg=-all_load"
ENV
done
rm -rf "$dir"/{apt,download,source,build}
echo "$made_for" > "$dir/made_for"
mv "$dir/env.new" "$dir/env"
