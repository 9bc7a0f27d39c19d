#!/usr/bin/env bash
# Installs what is missing, builds, and shows the main job: a monitored ComfyUI (the stand-in, or the
# real one when COMFYUI_DIR is set, with COMFYUI_PYTHON), one prompt that succeeds and one that fails,
# their traces as trees; then one that dies of a memory limit, its death, the journal of all jobs, and
# the status. No Datadog account is needed. Safe to run again.
#   config/quickstart.sh [--built]     --built: neither packages nor build, show what is there
set -euo pipefail
cd "$(dirname "$0")/.."
build=${COMFYMON_BUILD:-$PWD/build/release}

step() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }

# Every step of ninja goes to the log; of "[17/260] ..." each tenth of the way is shown.
progress() {
	tee -a build/quickstart.log | awk -F'[][/]' '/^\[[0-9]+\/[0-9]+\]/ {
		tenth = int(10 * $2 / $3)
		if (tenth > shown) { printf "%d0 %% ", tenth; fflush(); shown = tenth }
	} END { print "" }'
}

if [ "${1:-}" != --built ]; then
	step "packages"
	./config/packages.sh
	step "build (the first time takes a minute or two)"
	mkdir -p build
	if ! { cmake --preset release >build/quickstart.log 2>&1 &&
		cmake --build --preset release --target node 2>&1 | progress; }; then
		tail -n 40 build/quickstart.log
		echo "the build failed; the whole log is build/quickstart.log" >&2
		exit 1
	fi
fi

program=$build/node/comfymon/comfymon
# Not $TMPDIR: the path of a socket has 107 bytes at most.
scratch=$(mktemp -d /tmp/comfymon-quickstart-XXXXXX)
# The reader's own switches and destinations are for the reader's own ComfyUI.
for name in $(compgen -e | grep -E '^(DD_|COMFYMON_)' || true); do unset "$name"; done
export COMFYMON_RUN_DIR=$scratch/run COMFYMON_DATA_DIR=$scratch/data COMFYMON_DESTINATIONS=none
export COMFYMON_IDLE_EXIT=5s PYTHONDONTWRITEBYTECODE=1 STANDIN_PYTHON=${STANDIN_PYTHON:-/usr/bin/python3}
cleanup() {
	local pid=0
	read -r pid _ 2>/dev/null <"$scratch/data/lock" || true
	if [ "${pid:-0}" -gt 0 ] && kill "$pid" 2>/dev/null; then
		for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null && sleep 0.1; done
	fi
	rm -rf "$scratch"
}
trap cleanup EXIT

step "a monitored ComfyUI: one prompt that succeeds, one that fails"
traces=$("$STANDIN_PYTHON" tests/standin/quickstart.py "$build/node/comfymon" "$program")

for trace in $traces; do
	step "comfymon trace $trace"
	"$program" trace "$trace"
done

step "ComfyUI under a memory limit: a prompt that wants more, and the next one"
read -r job death < <("$STANDIN_PYTHON" tests/standin/quickstart.py "$build/node/comfymon" "$program" death)
step "comfymon death $death"
"$program" death "$death"
step "the trace of that job"
"$program" trace "$("$program" job --json "$job" | sed -n 's/.*"trace_id":"\([0-9a-f]*\)".*/\1/p')"
step "comfymon jobs"
"$program" jobs
step "comfymon memory"
"$program" memory
step "comfymon status"
"$program" status

cat <<TXT

Your own ComfyUI:    $program install --comfyui /path/to/ComfyUI   (then restart it)
To Datadog:          run a Datadog agent there, or set DD_TRACE_AGENT_URL=http://HOST:8126 for ComfyUI
TXT
