"""What accounting costs in CPU, per node with ten tensors: what a node returned, and the look at the cache when its job has ended.

Tensors are torch's own where the Python that runs this has it, else the stand-in's, which answer more slowly.
    bench_held.py    Prints JSON lines: name, value, unit, baseline, baseline_value, ratio, goal, met.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any, Callable, Dict

HERE = Path(__file__).resolve().parent
sys.path.insert(0, os.path.join(os.environ.get("COMFYMON_BUILD", "build/release"), "node", "comfymon"))
sys.path[:0] = [str(HERE), str(HERE.parent / "integration" / "python")]
sys.path.append(str(HERE.parent / "standin" / "comfyui" / "_fake"))

import _comfymon  # noqa: E402
import torch  # noqa: E402
from report import report  # noqa: E402
from ringfile import only, rings  # noqa: E402

NODES, TENSORS, ROUNDS = 100, 10, 60
GOAL_US = 5.0
WHOSE = "stand-in's tensors" if "standin" in torch.__version__ else f"torch {torch.__version__}"


class PromptExecutor:
    """Runs nothing: each node's outputs pass get_output_data, and are in the cache at the end."""

    def __init__(self, outputs: Any, calls: int) -> None:
        self.caches, self.calls = types.SimpleNamespace(outputs=outputs), calls

    def execute(self, prompt: Any, prompt_id: str, extra_data: Any = {}, execute_outputs: Any = []) -> None:
        for node_id in list(prompt)[:self.calls]:
            execution.execute(None, None, None, node_id, None, None, prompt_id)

    def add_message(self, event: str, data: Any, broadcast: bool) -> None:
        pass


def execute(server: Any, dynprompt: Any, caches: Any, current_item: str, extra_data: Any, executed: Any, prompt_id: str) -> Any:
    execution.get_output_data(prompt_id, current_item, None, {})
    return True, None, None


def get_output_data(prompt_id: str, unique_id: str, obj: Any, input_data_all: Any) -> Any:
    return answers.get(unique_id)


answers: Dict[str, Any] = {}
execution = types.ModuleType("execution")
execution.__dict__.update(PromptExecutor=PromptExecutor, execute=execute, get_output_data=get_output_data)
sys.modules["execution"] = execution


def made() -> Dict[str, Any]:
    """Outputs of a node: ten tensors, in a list for each of its outputs, as ComfyUI keeps them."""
    return {str(i): [[torch.zeros((16,)) for _ in range(TENSORS // 2)] for _ in range(2)] for i in range(NODES)}


def cache_of(nodes: Dict[str, Any]) -> Any:
    keys = {key: ("key", key) for key in nodes}
    return types.SimpleNamespace(cache={keys[key]: value for key, value in nodes.items()}, subcaches={},
                                 cache_key_set=types.SimpleNamespace(keys=keys), dynprompt=None)


def least(what: Callable[[], None], spans: int, folder: str) -> float:
    """CPU of this thread, microseconds, of the quickest round; a ring of its own for each, which must have so many spans."""
    best = float("inf")
    for _ in range(ROUNDS):
        _comfymon.stop(0)
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder, 0o700)
        if not _comfymon.start(run_dir=folder, sender=False, ring_bytes=8 << 20):
            raise SystemExit(_comfymon.status()["reason"])
        begin = time.thread_time_ns()
        what()
        best = min(best, (time.thread_time_ns() - begin) / 1e3)
        if _comfymon.status()["lost"] or _comfymon.status()["spans"] != spans:
            raise SystemExit(f"not everything was told: {_comfymon.status()}")
    return best


def main() -> None:
    folder = tempfile.mkdtemp(dir="/dev/shm")
    nodes = made()
    prompt = {key: {"class_type": "Node", "inputs": {}} for key in nodes}
    empty: Dict[str, Any] = {key: None for key in nodes}
    _comfymon.start(run_dir=folder, sender=False)
    _comfymon.attach()
    try:
        def job(outputs: Any, calls: int) -> Callable[[], None]:
            return lambda: execution.PromptExecutor(outputs, calls).execute(prompt, "an id", {}, [])

        answers.update(empty)
        bare = least(job(None, NODES), NODES + 1, folder)
        answers.update(nodes)
        counted = least(job(None, NODES), NODES + 1, folder)
        report(f"outputs of a node with {TENSORS} tensors ({WHOSE})", (counted - bare) / NODES, "us", "node without outputs",
               bare / NODES, GOAL_US)
        alone = least(job(None, 0), 1, folder)
        looked = least(job(cache_of(nodes), 0), 1, folder)
        if any("memory.held.partial" in span.meta for span in only(rings(folder)).spans()):
            raise SystemExit("the time was up before all was looked at")
        report(f"held at a job's end, per node with {TENSORS} tensors ({WHOSE})", (looked - alone) / NODES, "us",
               "job without a cache", alone / NODES, GOAL_US)
    finally:
        _comfymon.stop(0)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
