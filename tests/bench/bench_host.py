"""What all hooks together cost per ComfyUI node in a whole host; bench_node.py asks the executor alone.

CPU of the worker's thread for 400 trivial nodes in rows of short chains.

One host, hooks taken off and put on again in turn, the smallest of many jobs each; so the spread between sessions does not
count. The job's own hooks (request, queue, execute) are in the figure, spread over its nodes. The stand-in, or with
COMFYUI_DIR the real ComfyUI. Prints a JSON line, see report.py.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Dict

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "standin")]
from client import ComfyUI, workflow  # noqa: E402
from report import report  # noqa: E402
from support.harness import Agent, wait_until  # noqa: E402

NODE = Path(os.environ.get("COMFYMON_BUILD", "build/release")).resolve() / "node" / "comfymon"
SWITCH = TESTS / "integration" / "comfyui" / "nodes" / "aaa_originals"
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "15"))
GOAL_US = 10.0


def cpu(pid: int) -> Dict[str, int]:
    """Nanoseconds each thread but the first has run."""
    ran = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        if int(task) != pid:
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
                ran[task] = int(file.read().split()[0])
    return ran


def fresh(graph: Dict[str, Any], number: int) -> Dict[str, Any]:
    """The same shape with other values: nothing is answered from the cache."""
    for node in graph.values():
        if isinstance(node["inputs"].get("value"), int):
            node["inputs"]["value"] += number * 1_000_000
    return graph


def job(comfy: ComfyUI, number: int) -> float:
    """CPU that the worker spent on one job."""
    before = cpu(comfy.pid)
    entry = comfy.run(fresh(workflow("rows400"), number))
    if entry["status"]["status_str"] != "success":
        raise SystemExit(f"the job failed: {entry['status']}")
    after = cpu(comfy.pid)
    return max(after[task] - before.get(task, 0) for task in after) / 1e3


def main() -> None:
    nodes = len(workflow("rows400"))
    best = {"attach": float("inf"), "detach": float("inf")}
    with Agent(None, env={"COMFYMON_DESTINATIONS": "none"}) as agent, \
            ComfyUI(node_dirs=[str(SWITCH), str(NODE)],
                    env={"COMFYMON_RUN_DIR": str(agent.dirs.run), "COMFYMON_AUTOSTART": "0"}) as comfy:
        for number in range(2 * ROUNDS):
            switch = "attach" if number % 2 else "detach"
            comfy.request("GET", f"/originals?{switch}=1")
            best[switch] = min(best[switch], job(comfy, number))
        kind = "ComfyUI" if comfy.real else "stand-in"
        # Else the figure would be too good.
        wait_until(lambda: agent.status()["signals"]["trace"]["received"] >= ROUNDS * nodes, 20, "a span of every node")
    bare, value = best["detach"] / nodes, (best["attach"] - best["detach"]) / nodes
    report(f"all hooks per node, whole host ({kind})", value, "us", "node unwatched", bare, GOAL_US)


if __name__ == "__main__":
    main()
