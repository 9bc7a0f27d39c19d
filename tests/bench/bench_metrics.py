"""What sending metrics costs an idle agent: wake-ups of all its threads beside one that sends none, in the same seconds, and CPU
time of a flush. Prints JSON lines, see report.py.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "bench")]
from report import report  # noqa: E402
from support.fake_statsd import FakeStatsd  # noqa: E402
from support.harness import Agent  # noqa: E402

SETTLE_S, SECONDS = 10, 40  # four flushes


def wakeups(agent: Agent) -> int:
    total = 0
    for task in Path(f"/proc/{agent.pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        total += int(next(line for line in lines if line.startswith("voluntary_ctxt_switches")).split()[1])
    return total


def main() -> None:
    none = {"COMFYMON_DESTINATIONS": "none"}
    with FakeStatsd() as dsd, Agent(env=none) as off, Agent(env={**none, "DD_RUNTIME_METRICS_ENABLED": "true",
                                                                 "DD_DOGSTATSD_URL": dsd.url}) as on:
        time.sleep(SETTLE_S)
        before, begun = (wakeups(off), wakeups(on)), time.monotonic()
        time.sleep(SECONDS)
        took = time.monotonic() - begun
        base, value = ((after - b) / took for after, b in zip((wakeups(off), wakeups(on)), before))
        sender = on.status()["metrics"]
        if dsd.problems or sender["flushes"] < 4:
            raise SystemExit(f"not what was to be measured: {dsd.problems} {sender}")
        report("metrics on, idle agent: wake-ups", value, "per s", "off", base, 1)
        report("metrics: CPU of a flush", sender["cpu_ns"] / 1e3 / (sender["flushes"] - 1), "us", None, 0, 1000)


if __name__ == "__main__":
    main()
