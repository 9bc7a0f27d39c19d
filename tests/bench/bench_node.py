"""Cost of all hooks per ComfyUI node, in microseconds of CPU: 400 nodes in rows of short chains, without a client.

The stand-in's executor runs in this process, watched and unwatched in turn; the smallest of many rounds is compared.
    bench_node.py [PROFILE]    Prints a JSON line: name, value, unit, baseline, baseline_value, ratio, goal, met.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any, Dict

STANDIN = Path(__file__).resolve().parents[1] / "standin"
sys.path.insert(0, os.path.join(os.environ.get("COMFYMON_BUILD", "build/release"), "node", "comfymon"))
PROFILE = sys.argv[1] if len(sys.argv) > 1 else "p0364"
sys.argv[1:] = ["--cpu", "--profile", PROFILE]
sys.path[:0] = [str(STANDIN / "comfyui"), str(STANDIN / "comfyui" / "_fake"), str(STANDIN)]

import _comfymon  # noqa: E402
import execution  # noqa: E402
import nodes  # noqa: E402
import server  # noqa: E402
from client import LIBRARY, workflow  # noqa: E402
from standin_profile import CONTEXT  # noqa: E402

ROUNDS = 60
GOAL_US = 10.0


class Server(server.PromptServer):
    """No network, no client: messages end in the method that the probe hooks."""

    def __init__(self) -> None:
        self.client_id = self.last_node_id = None
        self.loop = self

    def call_soon_threadsafe(self, *_: Any) -> None:
        pass

    messages = type("Queue", (), {"put_nowait": None})()


def graph(number: int) -> Dict[str, Any]:
    """The same shape with other values, so that nothing is cached."""
    made = workflow("rows400")
    for node in made.values():
        if not isinstance(node["inputs"]["value"], list):
            node["inputs"]["value"] += (number + 1) << 32
    return made


def run(number: int) -> float:
    """CPU of one job, microseconds."""
    prompt = graph(number)
    outputs = [key for key, node in prompt.items() if node["class_type"] == "StandinOut"]
    executor = execution.PromptExecutor(Server())
    begin = time.thread_time()
    executor.execute(prompt, str(uuid.uuid4()), {}, outputs, **CONTEXT)
    took = (time.thread_time() - begin) * 1e6
    if not executor.success:
        raise SystemExit("the job failed")
    return took


def restart(folder: str) -> None:
    """A ring of its own for each round: none is full."""
    _comfymon.stop(0)
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    if not _comfymon.start(run_dir=folder, sender=False, ring_bytes=8 << 20):
        raise SystemExit(_comfymon.status()["reason"])


def measure(folder: str) -> None:
    best = {"bare": float("inf"), "watched": float("inf")}
    count = len(graph(0))
    for number in range(ROUNDS):
        for name in best:
            restart(folder)
            _comfymon.detach() if name == "bare" else _comfymon.attach()
            best[name] = min(best[name], run(number))
            status = _comfymon.status()
            if status["lost"] or (name == "watched" and status["spans"] < count):
                raise SystemExit(f"not every node was told: {status}")
    bare, watched = best["bare"] / count, best["watched"] / count
    print(json.dumps({"name": f"all hooks per node ({PROFILE})", "value": round(watched - bare, 2), "unit": "us",
                      "baseline": "node unwatched", "baseline_value": round(bare, 2), "ratio": round(watched / bare, 3),
                      "goal": GOAL_US, "met": watched - bare <= GOAL_US}))


def main() -> None:
    logging.disable(logging.CRITICAL)
    sys.path.insert(0, str(Path(LIBRARY).parent))
    import standin_nodes

    nodes.NODE_CLASS_MAPPINGS.update(standin_nodes.NODE_CLASS_MAPPINGS)
    folder = tempfile.mkdtemp(dir="/dev/shm")
    try:
        measure(folder)
    finally:
        _comfymon.stop(0)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
