#!/usr/bin/env bash
# rakelib/rust_source.sh DIR: the source of the standard library of exactly this rustc, in DIR/source.
#
# It comes from Debian's package rust-src (trixie-backports or sid), fetched by an apt with a state of its own: apt's
# state on this machine is not touched, and root's rights are not needed. DIR/apt stays, for further packages.
#
# Exit status 3: it cannot be had here, and the last line says why.
set -euo pipefail
dir=$1
fail() { echo "rust_source: $*" >&2; exit 3; }

command -v rustc >/dev/null || fail "rustc is missing"
for tool in apt-get dpkg-deb; do
  command -v $tool >/dev/null || fail "$tool is missing: only Debian's rust-src is known to fit"
done
release=$(rustc -vV | sed -n 's/^release: //p')
mkdir -p "$dir"/{apt/lists/partial,apt/cache/archives/partial,download,source}

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
