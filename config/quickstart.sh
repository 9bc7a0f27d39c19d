#!/usr/bin/env bash
# Installs what is missing, builds, and shows the main job: a monitored ComfyUI (the stand-in, or the
# real one when COMFYUI_DIR is set, with COMFYUI_PYTHON), one prompt that succeeds and one that fails,
# their traces as trees, and the status. No Datadog account is needed. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step "packages"
./config/packages.sh

step "build (first time: about a minute)"
mkdir -p build
if ! { cmake --preset release -DBUILD_TESTING=OFF && cmake --build --preset release; } >build/quickstart.log 2>&1; then
	tail -n 40 build/quickstart.log
	echo "the build failed; the whole log is build/quickstart.log" >&2
	exit 1
fi

program=$PWD/build/release/bin/comfymon
node=$PWD/build/release/node/comfymon
scratch=$(mktemp -d "${TMPDIR:-/tmp}/comfymon-quickstart-XXXXXX")
export COMFYMON_RUN_DIR=$scratch/run COMFYMON_DATA_DIR=$scratch/data COMFYMON_DESTINATIONS=none
export COMFYMON_IDLE_EXIT=5s PYTHONDONTWRITEBYTECODE=1 STANDIN_PYTHON=${STANDIN_PYTHON:-/usr/bin/python3}
cleanup() {
	local pid
	pid=$("$program" status --json 2>/dev/null | sed -n 's/.*"pid":\([0-9]*\),"uptime_s".*/\1/p') || true
	[ -z "$pid" ] || kill "$pid" 2>/dev/null || true
	rm -rf "$scratch"
}
trap cleanup EXIT

step "a monitored ComfyUI: one prompt that succeeds, one that fails"
traces=$("${STANDIN_PYTHON}" tests/standin/quickstart.py "$node" "$program")

for trace in $traces; do
	step "comfymon trace $trace"
	"$program" trace "$trace"
done
step "comfymon status"
"$program" status

cat <<TXT

Your own ComfyUI:    $program install --comfyui /path/to/ComfyUI   (then restart it)
To Datadog:          run a Datadog agent there, or set DD_TRACE_AGENT_URL=http://HOST:8126 for ComfyUI
TXT
