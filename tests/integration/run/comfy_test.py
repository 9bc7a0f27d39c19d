"""ComfyUI under `comfymon run`: the stand-in with its own deaths, its memory, its restarts.

No agent unless a test says so: the parent is to be seen alone.
"""

from __future__ import annotations

import json
import os
import signal
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any, Dict, List, Sequence

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "standin"))
from client import ComfyUI  # noqa: E402
from support.harness import binary, wait_until  # noqa: E402


def job(node: str, **inputs: Any) -> Dict[str, Any]:
    """One node, and an output that wants its result."""
    return {"1": {"class_type": node, "inputs": inputs}, "2": {"class_type": "StandinOut", "inputs": {"value": ["1", 0]}}}


def allocate(mbytes: int, keep: bool) -> Dict[str, Any]:
    return {"1": {"class_type": "StandinAllocate", "inputs": {"mbytes": mbytes, "keep": keep}},
            "2": {"class_type": "StandinMeasure", "inputs": {"image": ["1", 0]}},
            "3": {"class_type": "StandinOut", "inputs": {"value": ["2", 0]}}}


class Guarded(unittest.TestCase):
    options: Sequence[str] = ("--no-agent",)

    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="cm-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.base, ignore_errors=True)
        self.env = {"COMFYMON_RUN_DIR": str(self.base / "run"), "COMFYMON_DATA_DIR": str(self.base / "data"),
                    "COMFYMON_DESTINATIONS": "none", "COMFYMON_GRACE": "2s", "COMFYMON_RUN_DRAIN": "1s"}

    def host(self, *options: str, **more: Any) -> ComfyUI:
        """Started; its `pid` is the parent's."""
        (self.base / "comfy").mkdir(exist_ok=True)
        host = ComfyUI(kind="standin", env=self.env, base=str(self.base / "comfy"),
                       wrapper=[str(binary()), "run", *self.options, *options, "--"], **more)
        self.addCleanup(self.end, host)
        host.start()
        return host

    @staticmethod
    def end(host: ComfyUI) -> None:
        host.stop(signal.SIGTERM)
        host.close()

    def exits(self) -> List[Dict[str, str]]:
        file = self.base / "data/exits"
        return [dict(pair.split("=", 1) for pair in line.split()[1:])
                for line in (file.read_text().splitlines() if file.exists() else [])]

    def verdicts(self) -> List[str]:
        return [e["verdict"] for e in self.exits()]

    def wait_exit(self, count: int = 1, timeout: float = 20) -> Dict[str, str]:
        wait_until(lambda: len(self.exits()) >= count, timeout, f"end number {count}")
        return self.exits()[count - 1]

    def deaths(self) -> List[Dict[str, Any]]:
        out = subprocess.run([str(binary()), "deaths", "--json"], env={**os.environ, **self.env}, capture_output=True,
                             timeout=30, check=True).stdout
        return [json.loads(line) for line in out.splitlines()]


def resident_mb(pid: int) -> int:
    """Of a process and its children."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid or int(path.parent.name) == pid:
            total += int(fields[21]) * 4096 >> 20
    return total


class SoftLimit(Guarded):
    options = ("--no-agent", "--memory-limit", "1G", "--set", "run.memory_soft_limit=250M")

    def test_memory_that_can_be_freed_is_asked_back_and_nobody_is_restarted(self) -> None:
        host = self.host()
        host.run(allocate(300, keep=False))
        self.assertGreater(resident_mb(host.pid), 300)
        wait_until(lambda: resident_mb(host.pid) < 250, 10, "the memory to be given back")
        self.assertIn("soft_limit_freed", host.log())
        time.sleep(7)   # longer than it looks at what that has brought
        self.assertEqual(self.exits(), [])
        host.run(allocate(10, keep=False))

    def test_who_holds_on_to_it_is_restarted_between_two_jobs(self) -> None:
        host = self.host()
        host.run(allocate(300, keep=True))
        ended = host.submit(job("StandinSleep", value=1, seconds=8.0))
        end = self.wait_exit(timeout=40)
        self.assertEqual((end["verdict"], end["restarted"]), ("limit_soft", "1"))
        self.assertLess(host.log().index("Prompt executed in 8."), host.log().index("why=soft_limit"), ended)
        host.wait_ready()
        host.run(allocate(10, keep=False))
        death = self.deaths()[0]
        self.assertIn("MiB held after /free", death["evidence"][0])
        self.assertEqual(len(self.exits()), 1)

    def test_a_busy_one_is_left_alone(self) -> None:
        host = self.host()
        prompt = host.submit({**allocate(300, keep=False),
                              "4": {"class_type": "StandinSleep", "inputs": {"value": ["2", 0], "seconds": 4.0}},
                              "5": {"class_type": "StandinOut", "inputs": {"value": ["4", 0]}}})
        host.wait(prompt)
        self.assertNotIn("soft_limit_freed", host.log())
        self.assertEqual(self.exits(), [])
        wait_until(lambda: "soft_limit_freed" in host.log(), 15, "the freeing after it")

    def test_with_restart_never_it_is_only_asked(self) -> None:
        host = self.host("--restart", "never")
        host.run(allocate(300, keep=True))
        wait_until(lambda: "soft_limit_freed" in host.log(), 15, "the freeing")
        time.sleep(10)
        self.assertEqual(self.exits(), [])


if __name__ == "__main__":
    unittest.main()
