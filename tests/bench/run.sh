#!/usr/bin/env bash
# Every figure of README's table, each beside a baseline that is measured in the same run.
#   tests/bench/run.sh [--json FILE] [--long] [--peers]
# --long adds 10^7 queued spans and the minute's outage; --peers a span of ddtrace and of the OpenTelemetry SDK (from PyPI, in
# a venv under build/). Prints a table; the exit code is 0 whatever the figures are, 1 when something could not be measured.
set -euo pipefail
cd "$(dirname "$0")/../.."

json="" long=no peers=no
while [ $# -gt 0 ]; do
	case $1 in
	--json) json=$2; shift ;;
	--long) long=yes ;;
	--peers) peers=yes ;;
	*) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
	esac
	shift
done

./config/packages.sh
mkdir -p build
if ! { cmake --preset release && cmake --build --preset release; } >build/bench.log 2>&1; then
	tail -n 40 build/bench.log >&2
	exit 1
fi
bin=build/release/bin python=/usr/bin/python3 failed=0
export COMFYMON_BUILD=$PWD/build/release COMFYMON_BIN=$PWD/build/release/bin/comfymon PYTHONDONTWRITEBYTECODE=1
export STANDIN_PYTHON=$python
lines=$(mktemp) one=$(mktemp)
trap 'rm -f "$lines" "$one"' EXIT

measure() { # command...: its lines of JSON, on standard output or in the file it is given
	printf '%s\n' "measuring: $*" >&2
	if timeout 600 "$@" >"$one" 2>"$one.err"; then
		grep '^{' "$one" >>"$lines" || true
	else
		failed=1
		printf 'could not measure: %s\n' "$*" >&2
		tail -n 5 "$one.err" >&2
	fi
	rm -f "$one.err"
}
measure_to() { # command...: the same of those that write --json FILE
	local file
	file=$(mktemp)
	measure "$@" --json "$file"
	cat "$file" >>"$lines"
	rm -f "$file"
}

measure "$python" tests/bench/bench_span.py
[ $peers = no ] || {
	[ -x build/peers/bin/python ] || "$python" -m venv build/peers
	build/peers/bin/pip install -q ddtrace opentelemetry-sdk >/dev/null 2>&1 || echo "peers: not to be had" >&2
	measure build/peers/bin/python tests/bench/bench_peers.py
}
measure "$python" tests/bench/bench_node.py
measure "$python" tests/bench/bench_held.py
measure "$python" tests/bench/bench_request.py
measure "$python" tests/bench/bench_footprint.py
measure "$python" tests/bench/bench_health.py
measure "$python" tests/bench/bench_metrics.py
measure $bin/bench_memory build/release/tests/fake_nvml_fake.so
measure "$python" tests/bench/bench_jobs.py
measure "$python" tests/bench/bench_run.py
measure_to $bin/bench_ring
measure_to $bin/bench_handoff
measure $bin/bench_collector start
measure $bin/bench_collector handoff
measure $bin/bench_collector pipeline
measure $bin/bench_collector rate 10
[ $long = no ] || measure $bin/bench_collector outage 60
measure_to $bin/bench_processor
if [ $long = yes ]; then measure $bin/bench_store --large; else measure $bin/bench_store; fi

[ -z "$json" ] || cp "$lines" "$json"
"$python" - "$lines" <<'PY'
import json
import sys

rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
width = max((len(row["name"]) for row in rows), default=4)
print(f"{'figure':<{width}}  {'value':>12} {'unit':<8} {'baseline':>12} {'ratio':>7}  {'goal':<18} met")
for row in rows:
    base = row.get("baseline_value")
    ratio = row.get("ratio")
    met = {True: "yes", False: "NO", None: ""}[row.get("met")]
    print(f"{row['name']:<{width}}  {row['value']:>12,.6g} {row['unit']:<8} {'' if base is None else format(base, ',.6g'):>12} "
          f"{'' if ratio is None else format(ratio, '.3g'):>7}  {str(row.get('goal') or ''):<18} {met:<4} {row.get('baseline') or ''}")
PY
exit $failed
