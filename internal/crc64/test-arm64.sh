#!/bin/sh
# Runs the tests of this package for arm64 on another processor, under qemu's user mode emulation. Installs that from
# Debian's or Ubuntu's packages where it is missing, which takes root. Arguments go to the test binary: -test.v,
# -test.run=Vectors and so on.
set -eu
cd "$(dirname "$0")"

qemu() { command -v qemu-aarch64-static || command -v qemu-aarch64; }
if ! qemu >/dev/null; then
	apt-get update
	apt-get install -y qemu-user-static || apt-get install -y qemu-user
fi

binary=$(mktemp)
trap 'rm -f "$binary"' EXIT
GOARCH=arm64 GOOS=linux CGO_ENABLED=0 go test -c -o "$binary" .

echo 'with PMULL'
"$(qemu)" "$binary" "$@"
echo 'without PMULL'
GODEBUG=cpu.pmull=off "$(qemu)" "$binary" "$@"
