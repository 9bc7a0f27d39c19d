#!/usr/bin/env bash
# Builds comfymon and passes all its tests; installs what a fresh Debian 12 lacks.
#   tests/run.sh           everything: release, sanitizers, short fuzzing, style
#   tests/run.sh --quick   the inner loop: one build, unit and contract tests
# Says how long each stage took and which Python minors were run, and ends with ctest's own
# summary; the exit code is 0 only when all passed. Uses ccache where it is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=no
[ "${1:-}" = --quick ] && quick=yes
jobs=$(nproc)
started=$SECONDS

stage="" stage_began=0 times=""
say() { # the next stage's name; closes the one before
	[ -z "$stage" ] || times="$times  $stage $((SECONDS - stage_began)) s"
	stage=${1%%:*} stage_began=$SECONDS
	printf '\n== %s (%d s)\n' "$*" $((SECONDS - started))
}

./config/packages.sh tests
if command -v ccache >/dev/null; then
	export CMAKE_C_COMPILER_LAUNCHER=${CMAKE_C_COMPILER_LAUNCHER-ccache}
fi

build() { # preset [target...]
	cmake --preset "$1" >"build/$1.configure.log" 2>&1 || { cat "build/$1.configure.log"; return 1; }
	cmake --build --preset "$1" -j "$jobs" ${2:+--target "${@:2}"} -- -k 0 >"build/$1.build.log" 2>&1 ||
		{ grep -E 'error|warning|FAILED|undefined' "build/$1.build.log" | head -40; return 1; }
}
mkdir -p build

if [ $quick = yes ]; then
	say "dev: build"
	build dev
	ctest --no-tests=error --test-dir build/dev -j "$jobs" --output-on-failure -L 'unit|contract|lint'
	exit
fi

say "asan: build, unit, contract and the agent's life under AddressSanitizer and UBSan"
build asan
ctest --no-tests=error --test-dir build/asan -j "$jobs" --output-on-failure -L 'unit|contract|asan'

say "tsan: build, unit, contract and the agent's threads under ThreadSanitizer"
build tsan
ctest --no-tests=error --test-dir build/tsan -j "$jobs" --output-on-failure -L 'unit|contract|tsan'

say "fuzz: ten seconds a target"
build fuzz
ctest --no-tests=error --test-dir build/fuzz -j "$jobs" --output-on-failure -L fuzz

say "fault: kills aimed at each phase, and builds broken on purpose"
build fault comfymon probe_gen
ctest --no-tests=error --test-dir build/fault --output-on-failure -R '^fault\.phases'

say "release: build"
build release

say "tests: every one, on the release build"
echo "stages:$times"
echo "Python minors that run: $(cut -d' ' -f1 build/release/pythons.txt | paste -sd' ')"
ctest --no-tests=error --test-dir build/release -j "$jobs" --output-on-failure
