#!/bin/sh
# Installs the Debian packages that comfymon is built from; `config/packages.sh tests` adds what
# the tests need. Does nothing (and needs no root) when all are there.
set -eu

build="gcc libc6-dev cmake ninja-build pkg-config libnng-dev libsqlite3-dev libcurl4-openssl-dev nettle-dev
libjansson-dev libmicrohttpd-dev python3 python3-dev python3-aiohttp"
tests="ccache clang clang-format cppcheck mandoc shellcheck libclang-rt-14-dev universal-ctags strace iproute2 systemd openssl git python3-venv"

want=$build
[ "${1:-}" = tests ] && want="$build $tests"

missing=""
for package in $want; do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
		missing="$missing $package"
done
[ -z "$missing" ] && exit 0

if [ "$(id -u)" != 0 ]; then
	echo "missing Debian packages, install them as root: apt-get install$missing" >&2
	exit 1
fi
echo "installing:$missing"
apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
