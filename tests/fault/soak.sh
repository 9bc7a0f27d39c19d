#!/usr/bin/env bash
# The random fault tests again and again, each round with new seeds and more kills, until the time is over.
#   tests/fault/soak.sh --minutes N [--jobs N]
# Stops at the first failure, whose output names the seed (COMFYMON_SEED=N repeats it). Needs a built release.
set -euo pipefail
cd "$(dirname "$0")/../.."

minutes="" jobs=1
while [ $# -gt 0 ]; do
	case $1 in
	--minutes) minutes=$2; shift ;;
	--jobs) jobs=$2; shift ;;
	*) sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
	esac
	shift
done
case $minutes in
'' | *[!0-9]*) sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
[ -d build/release ] || { echo "build first: cmake --preset release && cmake --build --preset release" >&2; exit 1; }

end=$((SECONDS + minutes * 60)) round=0
first=${COMFYMON_SEED:-$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')}
export COMFYMON_KILLS=${COMFYMON_KILLS:-60}
while [ $SECONDS -lt $end ]; do
	round=$((round + 1))
	COMFYMON_SEED=$((first + round))
	export COMFYMON_SEED
	printf '\n== round %d, %d s left, %d kills a test, seed %d\n' $round $((end - SECONDS)) "$COMFYMON_KILLS" "$COMFYMON_SEED"
	ctest --test-dir build/release -j "$jobs" --output-on-failure --stop-on-failure --timeout 1800 \
		-R '^(fault\.(delivery|probe|nth|comfy|offline|life|network)|integration\.probe\.death)$'
done
echo "soaked: $round rounds in $minutes minutes, nothing failed"
