"""What watching ComfyUI costs the agent: CPU time of the observer with one idle ComfyUI, and how often it wakes when there is none.

The baseline of a second is the second itself: 500 us are 0.05 % of a core. Prints JSON lines, see report.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "standin"), str(TESTS / "bench")]
from client import ComfyUI, workflow  # noqa: E402
from report import report  # noqa: E402
from support.harness import binary, wait_until  # noqa: E402

NODE = str(Path(os.environ.get("COMFYMON_BUILD", "build/release")).resolve() / "node" / "comfymon")
SECONDS = 30


def wakeups(pid: int) -> int:
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == "health":
            lines = (task / "status").read_text().splitlines()
            return int(next(line for line in lines if line.startswith("voluntary_ctxt_switches")).split()[1])
    raise AssertionError("the agent has no observer")


def per_second(read: Callable[[], int]) -> float:
    before, begun = read(), time.monotonic()
    time.sleep(SECONDS)
    return (read() - before) / (time.monotonic() - begun)


def main() -> None:
    base = Path(tempfile.mkdtemp(prefix="cm-", dir="/tmp"))
    env = {"PATH": os.environ["PATH"], "HOME": str(base), "COMFYMON_RUN_DIR": str(base / "run"), "COMFYMON_AUTOSTART": "0",
           "COMFYMON_DATA_DIR": str(base / "data"), "COMFYMON_DESTINATIONS": "none"}

    def health() -> Dict[str, Any]:
        out = subprocess.run([str(binary()), "status", "--json"], env=env, capture_output=True, timeout=20, check=True).stdout
        return dict(json.loads(out)["health"])

    agent = subprocess.Popen([str(binary()), "agent"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until((base / "run/control.sock").exists, 10, "the agent's socket")
        report("observer of health, no ComfyUI: wake-ups", per_second(lambda: wakeups(agent.pid)), "per s", None, 0, 1)
        with ComfyUI(kind="standin", env=env, node_dirs=[NODE]) as comfy:
            wait_until(lambda: health()["ready"], 20, "a ComfyUI that is ready")
            comfy.run(workflow("tiny"))
            cpu = per_second(lambda: int(health()["cpu_ns"]))
            report("observer of health, one ComfyUI: CPU", cpu / 1e3, "us/s", "a core's second", 1e6, 500)
    finally:
        agent.terminate()
        agent.wait(20)
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
