"""Records scenarios on a running host and reads recordings back.

    COMFYUI_DIR=... COMFYUI_PYTHON=... python golden.py --kind real --label p0364 [SCENARIO...]

writes golden/<label>/<scenario>.jsonl. conformance_test.py uses record_all() on the stand-in.
"""
from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from typing import Callable, Optional

HERE = os.path.dirname(os.path.abspath(__file__))
if HERE not in sys.path:
    sys.path.insert(0, HERE)
from client import ComfyError, ComfyUI, workflow  # noqa: E402

GOLDEN = os.path.join(HERE, "golden")
Line = dict
Recording = list

# Model calls are many and internal: which ones occur is compared, not how often or when.
MODEL = "model."


def _with_client(name: str) -> Callable[[ComfyUI], None]:
    return lambda comfy: _run(comfy, name, comfy.client_id)


def _run(comfy: ComfyUI, name: str, client_id: Optional[str]) -> None:
    more = {} if client_id is None else {"client_id": client_id}
    comfy.run(workflow(name), **more)


def _refused(name: str) -> Callable[[ComfyUI], None]:
    def submit(comfy: ComfyUI) -> None:
        try:
            comfy.submit(workflow(name))
        except ComfyError as error:
            if error.status != 400:
                raise
    return submit


def _interrupted(comfy: ComfyUI) -> None:
    prompt_id = comfy.submit(workflow("hang_short"), client_id=comfy.client_id)
    comfy.wait_running(prompt_id)
    time.sleep(0.3)     # taken by the worker is not yet inside of the node that sleeps
    comfy.interrupt()
    comfy.wait(prompt_id)


def _deleted(comfy: ComfyUI) -> None:
    graph = workflow("hang_short")
    graph["2"]["inputs"]["seconds"] = 1.1  # the interrupted one has left a result in the cache
    first = comfy.submit(graph)
    comfy.wait_running(first)
    second = comfy.submit(workflow("tiny"))
    comfy.delete(second)
    comfy.wait(first)


def _zombie(comfy: ComfyUI) -> None:
    comfy.submit(workflow("zombie"), client_id=comfy.client_id)
    time.sleep(0.5)  # longer than its first node takes; nothing tells when a worker has died


# Order matters: what is cached when a scenario begins depends on those before it.
SCENARIOS: dict[str, Callable[[ComfyUI], None]] = {
    "tiny": _with_client("tiny"),
    "cached": _with_client("cached"),
    "cached_again": _with_client("cached"),
    "no_client": lambda comfy: _run(comfy, "sleep", None),
    "twins": _with_client("twins"),
    "failing": _with_client("failing"),
    "interrupt_self": _with_client("interrupt_self"),
    "interrupted_without_progress": _interrupted,
    "deleted": _deleted,
    "steps": _with_client("steps"),
    "lazy": _with_client("lazy"),
    "list_fan_out": _with_client("list_fan_out"),
    "blocked": _with_client("blocked"),
    "subgraph": _with_client("subgraph"),
    "subgraph_failing": _with_client("subgraph_failing"),
    "async_two": _with_client("async_two"),
    "async_failing": _with_client("async_failing"),
    "always": _with_client("always"),
    "always_again": _with_client("always"),
    "gpu_oom": _with_client("gpu_oom"),
    "host_alloc": _with_client("host_alloc"),
    "invalid": _refused("invalid"),
    "cycle": _refused("cycle"),
    "quick": _with_client("quick"),
    "zombie": _zombie,
}
NEEDS_ASYNC = {"async_two", "async_failing"}


def _read(path: str) -> Recording:
    try:
        with open(path, encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except FileNotFoundError:
        return []


def _settled(path: str, quiet_s: float = 0.12, limit_s: float = 5.0) -> Recording:
    """The recording once nothing has been added for a while."""
    end, seen, since = time.monotonic() + limit_s, -1, time.monotonic()
    while time.monotonic() < end:
        size = os.path.getsize(path) if os.path.exists(path) else 0
        if size != seen:
            seen, since = size, time.monotonic()
        elif time.monotonic() - since > quiet_s:
            break
        time.sleep(0.02)
    return _read(path)


def record_all(kind: str, profile: Optional[str], names: list[str]) -> dict[str, Recording]:
    """Runs the scenarios on one host; the start-up recording is under "startup"."""
    folder = tempfile.mkdtemp(prefix="comfymon-record-")
    path = os.path.join(folder, "record.jsonl")
    made: dict[str, Recording] = {}
    try:
        with ComfyUI(kind=kind, profile=profile, node_dirs=[os.path.join(HERE, "record.py")],
                     env={"STANDIN_RECORD": path}) as comfy:
            comfy.websocket()
            made["startup"] = _settled(path)
            for name in names:
                if os.path.exists(path):
                    os.unlink(path)
                SCENARIOS[name](comfy)
                made[name] = _settled(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return made


def by_role(recording: Recording) -> dict[str, Recording]:
    """Lines of each thread in order: only within a thread is order a promise."""
    roles: dict[str, Recording] = {}
    for line in recording:
        if not line["call"].startswith(MODEL):
            roles.setdefault(line["role"], []).append(
                {key: value for key, value in line.items() if key != "role"})
    return roles


def model_calls(recording: Recording) -> list[str]:
    return sorted({line["call"] for line in recording if line["call"].startswith(MODEL)})


def load(label: str, name: str) -> Recording:
    return _read(os.path.join(GOLDEN, label, name + ".jsonl"))


def save(label: str, name: str, recording: Recording) -> None:
    os.makedirs(os.path.join(GOLDEN, label), exist_ok=True)
    with open(os.path.join(GOLDEN, label, name + ".jsonl"), "w", encoding="utf-8") as file:
        for line in recording:
            file.write(json.dumps(line, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=("real", "standin"), default="real")
    parser.add_argument("--label", required=True)
    parser.add_argument("--skip", nargs="*", default=[])
    parser.add_argument("scenarios", nargs="*")
    asked = parser.parse_args()
    names = [name for name in asked.scenarios or SCENARIOS if name not in asked.skip]
    profile = asked.label if asked.kind == "standin" else None
    for name, recording in record_all(asked.kind, profile, names).items():
        save(asked.label, name, recording)
        print(f"{asked.label}/{name}: {len(recording)} lines")


if __name__ == "__main__":
    main()
