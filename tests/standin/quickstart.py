"""The main job on an embedded default: a monitored ComfyUI runs one prompt that succeeds
and one that fails; prints the ids of their traces, one a line, newest first.

    python3 quickstart.py NODE_FOLDER COMFYMON_PROGRAM

The stand-in plays ComfyUI, or the real one when COMFYUI_DIR is set. Run and data
directories come from COMFYMON_RUN_DIR and COMFYMON_DATA_DIR.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from client import ComfyUI, workflow


def traces(program: str) -> list[dict[str, Any]]:
    run = subprocess.run([program, "traces", "--json", "--text", "comfyui.workflow.execute"], text=True,
                         capture_output=True, check=False)
    return [json.loads(line) for line in run.stdout.splitlines()] if run.returncode == 0 else []


def wait_for_two(program: str, timeout_s: float = 20.0) -> list[dict[str, Any]]:
    """Both jobs' traces, complete: one second without a change in what is listed."""
    end, before = time.monotonic() + timeout_s, None
    while time.monotonic() < end:
        now = traces(program)
        if len(now) >= 2 and now == before and all(t["state"] != "open" for t in now):
            return now
        before = now
        time.sleep(0.5)
    raise SystemExit("quickstart: the traces of both jobs did not arrive; see: comfymon doctor")


def main() -> None:
    node, program = sys.argv[1:3]
    os.environ.setdefault("COMFYMON_DESTINATIONS", "none")
    with ComfyUI(node_dirs=[node]) as comfy:
        for name in ("quick", "failing"):
            done = comfy.run(workflow(name))
            print(f"{name}: {done['status']['status_str']}", file=sys.stderr)
        for trace in wait_for_two(program):
            print(trace["trace_id"])


if __name__ == "__main__":
    main()
