"""What the probe costs the process it lives in: start-up, memory beyond its ring, threads.

Each round is a fresh Python that has imported what ComfyUI's server imports, loads the node as ComfyUI does, and then
makes spans as fast as it can while a collector takes them. Memory is resident memory of all mappings but the ring's.
Prints JSON lines, see report.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))
NODE = Path(os.environ.get("COMFYMON_BUILD", "build/release")).resolve() / "node" / "comfymon"
ROUNDS, SPANS = 7, 200_000


def resident() -> int:
    """Bytes, without the ring: it is stated apart."""
    total, counted = 0, True
    with open("/proc/self/smaps", encoding="ascii") as file:
        for line in file:
            if line[0] in "0123456789abcdef" and "-" in line.split(" ", 1)[0]:
                counted = "/ring-" not in line
            elif counted and line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def inner() -> None:
    """One round, in a process of its own."""
    import importlib.util
    import logging
    import time
    try:
        import aiohttp.web  # noqa: F401
    except ImportError:
        import asyncio  # noqa: F401
    logging.disable(logging.INFO)
    resident()  # its own buffers
    memory, before = resident(), threads()
    begin, cpu = time.perf_counter(), time.process_time()
    names = {"prestartup_script": "prestartup_script.py", "comfymon_node": "__init__.py"}
    for name, file in names.items():
        spec = importlib.util.spec_from_file_location(name, NODE / file, submodule_search_locations=[str(NODE)])
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    took, spent = time.perf_counter() - begin, time.process_time() - cpu
    probe = sys.modules["_comfymon"]
    if not probe.is_on():
        raise SystemExit(f"the probe is off: {probe.status()}")
    started = resident() - memory
    for number in range(SPANS):
        with probe.trace("bench", resource="work") as span:
            span.set_tag("number", number)
        if number % 2000 == 0:
            time.sleep(0.001)
    status = probe.status()
    print(json.dumps({"start_ms": took * 1e3, "start_cpu_ms": spent * 1e3, "started": started,
                      "worked": resident() - memory, "threads": threads() - before,
                      "told": status["spans"], "lost": status["lost"]}))


def one_round(run_dir: str) -> Dict[str, Any]:
    env = {"PATH": os.environ["PATH"], "COMFYMON_RUN_DIR": run_dir, "COMFYMON_AUTOSTART": "0", "PYTHONDONTWRITEBYTECODE": "1",
           "COMFYMON_BUILD": os.environ.get("COMFYMON_BUILD", "build/release")}
    said = subprocess.run([sys.executable, __file__, "--inner"], env=env, text=True, capture_output=True, timeout=120)
    if said.returncode != 0:
        raise SystemExit(said.stderr)
    answer: Dict[str, Any] = json.loads(said.stdout)
    return answer


def main() -> None:
    from report import report
    from support.harness import Agent
    with Agent(None, env={"COMFYMON_DESTINATIONS": "none"}) as agent:
        rounds = [one_round(str(agent.dirs.run)) for _ in range(ROUNDS)]
    if any(r["told"] + r["lost"] < SPANS for r in rounds):
        raise SystemExit(f"not every span was told or counted: {rounds}")
    rows = (("probe: start-up", min(r["start_ms"] for r in rounds), "ms", 20),
            ("probe: start-up, CPU", min(r["start_cpu_ms"] for r in rounds), "ms", 20),
            ("probe: memory beyond the ring, started", max(r["started"] for r in rounds) / 1e6, "MB", 5),
            (f"probe: memory beyond the ring, after {SPANS} spans", max(r["worked"] for r in rounds) / 1e6, "MB", 5),
            ("probe: threads", max(r["threads"] for r in rounds), "threads", 2))
    for name, value, unit, goal in rows:
        report(name, value, unit, None, 0, goal)


if __name__ == "__main__":
    inner() if sys.argv[1:] == ["--inner"] else main()
