"""What `comfymon run` costs ComfyUI, and how soon a death is known and over. The stand-in, or plain shell commands.

bench_run.py    Prints lines of JSON: name, value, unit, baseline, baseline_value, ratio, goal, met.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "standin"), str(TESTS / "bench")]
from client import ComfyUI, workflow  # noqa: E402
from report import report  # noqa: E402
from support.harness import ROOT, binary, wait_until  # noqa: E402

NODE = Path(os.environ.get("COMFYMON_BUILD") or ROOT / "build/release") / "node" / "comfymon"
STARTS, DEATHS, IDLE_S = 30, 6, 10
PAIRS, ROUNDS = 5, 5  # hosts of each kind; jobs of each host: twice as many


class Place:
    """Directories of its own, and what runs in them."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="cm-", dir="/tmp"))
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.base), "COMFYMON_RUN_DIR": str(self.base / "run"),
                    "COMFYMON_DATA_DIR": str(self.base / "data"), "COMFYMON_DESTINATIONS": "none",
                    "COMFYMON_RUN_DRAIN": "0s", "COMFYMON_CRASH_LIMIT": "0"}

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.base, ignore_errors=True)

    def run(self, *words: str) -> List[str]:
        return [str(binary()), "run", *words, "--"]

    def spawn(self, words: List[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(words, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL)

    def supervisor(self) -> Dict[str, str]:
        file = next((self.base / "run").glob("supervisor-*[0-9]"))
        return dict(line.split("=", 1) for line in file.read_text().splitlines())


def ended(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(30)
    assert process.stdout is not None
    process.stdout.close()


def until(predicate: Callable[[], Any], seconds: float = 20) -> float:
    """When it became true, looking without a rest."""
    end = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > end:
            raise SystemExit("what was waited for has not come")
        time.sleep(0.0002)
    return time.monotonic()


def first_line_ms(place: Place, words: List[str]) -> float:
    began = time.monotonic()
    process = place.spawn([*words, "sh", "-c", "echo; exec sleep 60"])
    assert process.stdout is not None
    process.stdout.readline()
    took = time.monotonic() - began
    ended(process)
    return took * 1e3


def start_up() -> None:
    """From our fork to the command's first line, the agent beside it included."""
    with Place() as place:
        bare = min(first_line_ms(place, []) for _ in range(STARTS))
        supervised = min(first_line_ms(place, place.run()) for _ in range(STARTS))
    report("comfymon run: start-up beyond the bare command", supervised - bare, "ms", "bare", bare, 20)


def death_to_line() -> None:
    with Place() as place:
        process = place.spawn([*place.run("--no-agent"), "sh", "-c", "echo $$; exec sleep 60"])
        assert process.stdout is not None
        file, took = place.base / "data/exits", []
        for _ in range(DEATHS):
            pid = int(process.stdout.readline())
            before = file.stat().st_size if file.exists() else 0
            time.sleep(0.05)
            began = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            took.append(until(lambda: file.exists() and file.stat().st_size > before) - began)
        ended(process)
    report("death to its line on the disk, worst of 6", max(took) * 1e3, "ms", None, 0, 50)


def death_to_start() -> None:
    """Beyond the back-off, which the black box names; a parent for each, so that it stays short."""
    took = []
    for _ in range(DEATHS):
        with Place() as place:
            process = place.spawn([*place.run("--no-agent"), "sh", "-c", "echo $$; exec sleep 60"])
            assert process.stdout is not None
            pid = int(process.stdout.readline())
            began = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            process.stdout.readline()
            whole = (time.monotonic() - began) * 1e3
            box = json.loads(next((place.base / "data/deaths").glob("*.json")).read_text())
            took.append(whole - box["restart_delay_ms"])
            ended(process)
    report("death to the next start beyond the back-off, worst of 6", max(took), "ms", None, 0, 100)


def rest_cpu() -> None:
    """CPU of the parent while ComfyUI rests: what it reads each second."""
    with Place() as place:
        process = place.spawn([*place.run("--no-agent"), "sh", "-c", "echo; exec sleep 60"])
        assert process.stdout is not None
        process.stdout.readline()

        def cpu() -> float:
            return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / 1e9
        before = cpu()
        time.sleep(IDLE_S)
        share = (cpu() - before) / IDLE_S * 100
        ended(process)
    report(f"comfymon run at rest, {len(list(Path('/proc').glob('[0-9]*')))} processes", share, "% core", None, 0, 0.5)


def graph(number: int) -> Dict[str, Any]:
    made = workflow("rows400")
    for node in made.values():
        if not isinstance(node["inputs"]["value"], list):
            node["inputs"]["value"] += (number + 1) << 32
    return made


class Host:
    """A host on which jobs are timed: by its own clock from a job's start to its end, and by the CPU of its process."""

    def __init__(self, host: ComfyUI, pid: int) -> None:
        self.host = host
        self.clock = (~pid << 3) | 2  # of that process, all threads: what clock_getcpuclockid(3) makes
        self.wall: List[float] = []
        self.cpu: List[float] = []

    def job(self, number: int) -> None:
        before = time.clock_gettime(self.clock)
        messages = dict(self.host.run(graph(number))["status"]["messages"])
        self.cpu.append((time.clock_gettime(self.clock) - before) * 1e3)
        self.wall.append(float(messages["execution_success"]["timestamp"] - messages["execution_start"]["timestamp"]))


def one_pair(number: int) -> Tuple[Host, Host]:
    """Jobs on a bare host and on a supervised one, in the order bare, guarded, guarded, bare."""
    with Place() as place:
        # What differs from one Python to the next (the order of sets) shall not differ between the two.
        env = {"PYTHONHASHSEED": "0", **{k: v for k, v in place.env.items() if k.startswith("COMFYMON")}}
        hosts = (ComfyUI(kind="standin", env={**env, "COMFYMON_ENABLED": "0"}),
                 ComfyUI(kind="standin", env=env, wrapper=place.run("--no-agent")))
        with hosts[0], hosts[1]:
            assert hosts[0].process is not None
            bare, guarded = Host(hosts[0], hosts[0].process.pid), Host(hosts[1], int(place.supervisor()["command_pid"]))
            for host in (bare, guarded):  # warm
                host.job(number)
                host.cpu.clear()
                host.wall.clear()
            for one in range(ROUNDS):
                for host in (bare, guarded, guarded, bare):
                    number += 1
                    host.job(number)
            hosts[1].stop(signal.SIGTERM)
    return bare, guarded


def job_time() -> None:
    """400 nodes in rows. Each pair's ratio is that of its best jobs; the pairs' median is the figure.

    One process is faster than another by some percent for good, by where its memory lies: so several pairs, and their
    median rather than one ratio of many jobs. CPU time knows no neighbours; wall time is told beside it.
    """
    pairs = [one_pair(n * 1000) for n in range(PAIRS)]
    for name, unit in (("CPU", "cpu"), ("wall", "wall")):
        best = [(min(getattr(guarded, unit)), min(getattr(bare, unit))) for bare, guarded in pairs]
        ratio = statistics.median(guarded / bare for guarded, bare in best)
        base = statistics.median(bare for _, bare in best)
        spread = "..".join(f"{r:.3f}" for r in (min(g / b for g, b in best), max(g / b for g, b in best)))
        report(f"job of 400 nodes under comfymon run, {name} (pairs {spread})", ratio * base, "ms", "bare", base, base * 1.03)


class Control(http.client.HTTPConnection):
    """The agent's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def marked(path: Path) -> bool:
    """A job of the journal has failed."""
    control = Control(path)
    try:
        control.request("GET", "/jobs?state=failed")
        return bool(control.getresponse().read())
    finally:
        control.close()


def death_to_jobs() -> None:
    """With probe and agent: from the kill to the job marked failed, as somebody who asks sees it."""
    took = []
    for _ in range(3):
        with Place() as place:
            env = {k: v for k, v in place.env.items() if k.startswith("COMFYMON")}
            with ComfyUI(kind="standin", env=env, wrapper=place.run(), node_dirs=[str(NODE)]) as host:
                control = place.base / "run/control.sock"
                wait_until(control.exists, 10, "the agent")
                prompt = host.submit({"1": {"class_type": "StandinSleep", "inputs": {"value": 1, "seconds": 60.0}},
                                      "2": {"class_type": "StandinOut", "inputs": {"value": ["1", 0]}}})
                host.wait_running(prompt)
                time.sleep(1)
                pid = int(place.supervisor()["command_pid"])
                began = time.monotonic()
                os.kill(pid, signal.SIGKILL)
                took.append((until(lambda: marked(control)) - began) * 1e3)
                host.stop(signal.SIGTERM)
    report("death to its job marked, as asked for, worst of 3", max(took), "ms", None, 0, 50)


def main() -> None:
    start_up()
    death_to_line()
    death_to_start()
    death_to_jobs()
    rest_cpu()
    job_time()


if __name__ == "__main__":
    main()
