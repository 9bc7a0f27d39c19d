"""The main job on an embedded default: a monitored ComfyUI runs one prompt that succeeds
and one that fails; prints the ids of their traces, one a line, newest first.

    python3 quickstart.py NODE_FOLDER COMFYMON_PROGRAM

With a third argument, `death`: a ComfyUI under a memory limit is given a prompt that wants more
than there is, comes back, and runs the next one; prints the prompt's id and the death's.

    python3 quickstart.py NODE_FOLDER COMFYMON_PROGRAM death

The stand-in plays ComfyUI, or the real one when COMFYUI_DIR is set. Run and data
directories come from COMFYMON_RUN_DIR and COMFYMON_DATA_DIR.
"""
from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
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


def lines(program: str, *verb: str) -> list[dict[str, Any]]:
    run = subprocess.run([program, *verb, "--json"], text=True, capture_output=True, check=False)
    return [json.loads(line) for line in run.stdout.splitlines()] if run.returncode == 0 else []


def end_of_new(program: str, known: set[str], timeout_s: float = 60.0) -> dict[str, Any]:
    """The row in the journal of the one job that is not known, when it has ended."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        for row in lines(program, "jobs"):
            if row["prompt_id"] not in known and row["state"] not in ("queued", "running"):
                return row
        time.sleep(0.1)
    raise SystemExit("quickstart: the journal does not say how the job ended; see: comfymon doctor")


def death(node: str, program: str) -> None:
    """The real ComfyUI needs more to start at all."""
    limit_mb = 2048 if os.environ.get("COMFYUI_DIR") else 200
    greedy = workflow("allocate")
    greedy["1"]["inputs"] = {"mbytes": 2 * limit_mb, "keep": True}
    # Where no cgroup can be made the limit is kept by looking, each second at least.
    greedy["4"] = {"class_type": "StandinSleep", "inputs": {"value": ["2", 0], "seconds": 5.0}}
    greedy["3"]["inputs"]["value"] = ["4", 0]
    wrapper = [program, "run", "--memory-limit", f"{limit_mb}M", "--"]
    with ComfyUI(node_dirs=[node], wrapper=wrapper) as comfy:
        known = {row["prompt_id"] for row in lines(program, "jobs")}
        with contextlib.suppress(OSError, http.client.HTTPException):
            comfy.submit(greedy)    # it may die before it has answered
        row = end_of_new(program, known)
        print(f"allocate: {row['state']} ({row['reason']})", file=sys.stderr)
        comfy.wait_ready()      # it was started again
        again = comfy.run(workflow("quick"))
        print(f"quick: {again['status']['status_str']}", file=sys.stderr)
        found = [d["id"] for d in lines(program, "deaths") if d["prompt_id"] == row["prompt_id"]]
        comfy.stop(signal.SIGTERM, 30)
    if len(found) != 1:
        raise SystemExit("quickstart: nobody knows of the death; see: comfymon deaths")
    print(row["prompt_id"], found[0])


def main() -> None:
    node, program = sys.argv[1:3]
    os.environ.setdefault("COMFYMON_DESTINATIONS", "none")
    if sys.argv[3:] == ["death"]:
        death(node, program)
        return
    with ComfyUI(node_dirs=[node]) as comfy:
        for name in ("quick", "failing"):
            done = comfy.run(workflow(name))
            print(f"{name}: {done['status']['status_str']}", file=sys.stderr)
        for trace in wait_for_two(program):
            print(trace["trace_id"])


if __name__ == "__main__":
    main()
