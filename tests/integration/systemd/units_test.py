"""The units as an administrator installs them, under a real systemd: comfyui@USER and comfymon@USER.

ComfyUI is the stand-in in /opt, of a user of its own; the installed files are what `cmake --install` brings.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import unittest
from http.client import HTTPException
from pathlib import Path
from typing import Any, Dict, List

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS), str(TESTS / "standin")]
from box import Box, missing  # noqa: E402
from client import ComfyUI, workflow  # noqa: E402
from support.fake_datadog import FakeDatadog  # noqa: E402
from support.harness import ROOT, wait_until  # noqa: E402

BUILD = Path(os.environ.get("COMFYMON_BUILD") or ROOT / "build/release")
PYTHON = os.environ.get("STANDIN_PYTHON", "/usr/bin/python3")
USER, UID = "comfy", 4321
UNIT = f"comfyui@{USER}"
LIMIT_MB = 600
WHY = missing()


def allocate(mbytes: int) -> Dict[str, Any]:
    return {"1": {"class_type": "StandinAllocate", "inputs": {"mbytes": mbytes, "keep": True}},
            "2": {"class_type": "StandinMeasure", "inputs": {"image": ["1", 0]}},
            "3": {"class_type": "StandinSleep", "inputs": {"value": ["2", 0], "seconds": 30.0}},  # a watched limit has a second
            "4": {"class_type": "StandinOut", "inputs": {"value": ["3", 0]}}}


@unittest.skipIf(WHY, WHY)
class Units(unittest.TestCase):
    box: Box
    datadog: FakeDatadog
    comfy: ComfyUI

    @classmethod
    def setUpClass(cls) -> None:
        cls.box = Box()
        cls.addClassCleanup(cls.box.close)
        cls.datadog = FakeDatadog()
        cls.addClassCleanup(cls.datadog.close)
        up = cls.box.up
        subprocess.run(["cmake", "--install", str(BUILD)], env={**os.environ, "DESTDIR": str(up)},
                       stdout=subprocess.DEVNULL, check=True)
        shutil.copytree(TESTS / "standin/comfyui", up / "opt/ComfyUI", ignore=shutil.ignore_patterns("__pycache__"))
        cls.comfy = ComfyUI(kind="standin", base=str(up / "opt/ComfyUI"))
        cls.comfy.prepare()
        subprocess.run(["chown", "-R", f"{UID}:{UID}", str(up / "opt/ComfyUI")], check=True)
        (up / "etc/default").mkdir(parents=True)
        for name in ("passwd", "group"):
            text = Path("/etc", name).read_text()
            tail = f":{UID}::/opt/ComfyUI:/bin/sh" if name == "passwd" else ":"
            (up / "etc" / name).write_text(f"{text}{USER}:x:{UID}{tail}\n")
        cls.variables = {
            "COMFYUI_DIR": "/opt/ComfyUI", "COMFYUI_PYTHON": PYTHON, "COMFYMON_MEMORY_LIMIT": f"{LIMIT_MB}M",
            "COMFYUI_ARGS": f"--cpu --listen 127.0.0.1 --port {cls.comfy.port} --base-directory /opt/ComfyUI "
                            "--front-end-root /opt/ComfyUI/front_end",
            "DD_TRACE_AGENT_URL": cls.datadog.url, "COMFYMON_CRASH_LIMIT": "2"}
        cls.configure(UNIT)
        cls.box.start()
        cls.box.run("comfymon", "install", "--comfyui", "/opt/ComfyUI")

    @classmethod
    def configure(cls, unit: str, **more: str) -> None:
        """Writes the file of variables that the unit reads."""
        name = f"comfyui-{USER}" if unit.startswith("comfyui") else "comfymon"
        text = "".join(f"{k}={v}\n" for k, v in {**cls.variables, **more}.items())
        if cls.box.init:
            cls.box.run("sh", "-c", f"printf %s '{text}' > /etc/default/{name}")
        else:
            (cls.box.up / "etc/default" / name).write_text(text)

    def setUp(self) -> None:
        self.addCleanup(self.box.run, "systemctl", "reset-failed")
        self.addCleanup(self.box.run, "systemctl", "stop", UNIT, f"comfymon@{USER}", timeout=120)

    def show(self, unit: str, name: str) -> str:
        return self.box.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def told(self, *words: str, user: str = USER) -> str:
        """What comfymon prints to that user, who has the unit's variables."""
        return self.box.run("runuser", "-u", user, "--", "env", f"COMFYMON_DATA_DIR=/var/lib/comfymon-{user}", "comfymon",
                            *words, check=False).stdout

    def lines(self, *words: str) -> List[Dict[str, Any]]:
        return [json.loads(line) for line in self.told(*words, "--json").splitlines()]

    def job_of(self, prompt: str) -> Dict[str, Any]:
        """Its line, once it has ended."""
        found = wait_until(lambda: [j for j in self.lines("jobs") if j["prompt_id"] == prompt and j["ended_ns"]], 30, "its end")
        return found[0]

    def start(self) -> None:
        self.box.run("systemctl", "start", UNIT)
        self.comfy.process = None
        self.comfy.wait_ready(60)

    def provoke(self, prompt: Dict[str, Any]) -> str:
        """Submits what may end ComfyUI before it has answered; the prompt's id."""
        ids = {j["prompt_id"] for j in self.lines("jobs")}
        with contextlib.suppress(OSError, HTTPException):
            return self.comfy.submit(prompt)
        return next(j["prompt_id"] for j in self.lines("jobs") if j["prompt_id"] not in ids)

    def test_the_files_are_what_systemd_takes(self) -> None:
        for unit in (UNIT, f"comfymon@{USER}"):
            self.assertEqual(self.box.run("systemd-analyze", "verify", f"{unit}.service").stderr, "")

    def test_it_is_started_when_comfyui_is_and_tells_datadog_of_jobs(self) -> None:
        self.start()
        self.assertEqual(self.show(UNIT, "ActiveState"), "active")
        prompt = self.comfy.submit(workflow("quick"))
        self.assertEqual(self.job_of(prompt)["state"], "succeeded")
        wait_until(lambda: any(s["meta"].get("prompt.id") == prompt for s in self.datadog.spans()), 20, "its trace at Datadog")
        wait_until(lambda: "well for" in self.told("status"), 20, "a ComfyUI that is well")
        self.assertNotIn("FAIL", self.told("doctor"))

    def test_a_job_that_needs_too_much_ends_alone_and_the_unit_goes_on(self) -> None:
        self.start()
        main = self.show(UNIT, "MainPID")
        prompt = self.provoke(allocate(2 * LIMIT_MB))
        ended = self.job_of(prompt)
        self.assertEqual(ended["state"], "failed", ended)
        self.assertIn(ended["node_class"], ("StandinAllocate", "StandinMeasure", "StandinSleep"))
        self.assertIn(ended["reason"], ("oom_cgroup", "limit_watch"))
        self.comfy.wait_ready(60)
        self.assertEqual(self.job_of(self.comfy.submit(workflow("quick")))["state"], "succeeded")
        self.assertEqual((self.show(UNIT, "MainPID"), self.show(UNIT, "NRestarts")), (main, "0"))

    def test_the_limit_is_a_control_groups_where_systemd_hands_one_over(self) -> None:
        """Of version 1 it hands nothing to a user that is not root: then the limit is watched."""
        unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
        self.start()
        supervisor = json.loads(self.told("status", "--json"))["supervisors"][0]
        self.assertEqual(supervisor["method"], "cgroup2" if unified else "watch", supervisor["why"])
        self.box.run("systemctl", "stop", UNIT)
        self.box.run("cp", f"/etc/default/comfyui-{USER}", "/etc/default/comfyui-root")
        self.addCleanup(self.box.run, "systemctl", "stop", "comfyui@root")
        self.box.run("systemctl", "start", "comfyui@root")
        self.comfy.wait_ready(60)
        supervisor = json.loads(self.told("status", "--json", user="root"))["supervisors"][0]
        self.assertEqual(supervisor["method"], "cgroup2" if unified else "cgroup1", supervisor["why"])

    def test_a_stop_ends_the_job_comfyui_and_the_agent_in_order(self) -> None:
        self.start()
        prompt = self.comfy.submit(workflow("hang"))
        self.comfy.wait_running(prompt)
        self.box.run("systemctl", "stop", UNIT, timeout=60)
        self.assertEqual((self.show(UNIT, "ActiveState"), self.show(UNIT, "Result")), ("inactive", "success"))
        self.assertEqual(self.box.run("pgrep", "-u", USER, check=False).stdout, "")
        self.assertIn(self.job_of(prompt)["state"], ("failed", "interrupted"))
        self.assertEqual(self.lines("deaths")[0]["verdict"], "stopped")

    def test_a_parent_that_is_killed_is_started_again_and_the_loss_is_told(self) -> None:
        self.start()
        main = self.show(UNIT, "MainPID")
        self.box.run("kill", "-KILL", main)
        wait_until(lambda: self.show(UNIT, "MainPID") not in (main, "0"), 30, "a new parent")
        self.comfy.wait_ready(60)
        wait_until(lambda: self.lines("deaths")[0]["verdict"] == "lost", 20, "the verdict")
        self.assertEqual(self.show(UNIT, "NRestarts"), "1")

    def test_a_crash_loop_fails_the_unit(self) -> None:
        self.configure(UNIT, COMFYUI_DIR="/nowhere")
        self.addCleanup(self.configure, UNIT)
        self.box.run("systemctl", "start", UNIT, check=False)
        wait_until(lambda: self.show(UNIT, "ActiveState") == "failed", 60, "the unit to fail")
        self.assertEqual(self.show(UNIT, "Result"), "exit-code")
        self.assertEqual([d["verdict"] for d in self.lines("deaths")][:2], ["exit_error"] * 2)

    def test_the_agent_as_a_unit_of_its_own(self) -> None:
        unit = f"comfymon@{USER}"
        self.configure(unit)
        self.box.run("systemctl", "start", unit)
        wait_until(lambda: self.told("status"), 20, "the agent")
        self.box.run("systemctl", "reload", unit)
        host = subprocess.Popen(self.box.enter("runuser", "-u", USER, "--", "env", "COMFYMON_AUTOSTART=0", PYTHON,
                                               "/opt/ComfyUI/main.py", *self.variables["COMFYUI_ARGS"].split()),
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(host.wait)
        self.addCleanup(self.box.run, "pkill", "-KILL", "-f", "ComfyUI/main.py")
        self.comfy.process = None
        self.comfy.wait_ready(60)
        prompt = self.comfy.submit(workflow("quick"))
        wait_until(lambda: any(s["meta"].get("prompt.id") == prompt for s in self.datadog.spans()), 20, "its trace at Datadog")
        self.box.run("systemctl", "restart", unit)
        prompt = self.comfy.submit(workflow("quick"))
        wait_until(lambda: any(s["meta"].get("prompt.id") == prompt for s in self.datadog.spans()), 20, "its trace at Datadog")
        self.box.run("systemctl", "stop", unit)
        self.assertEqual(self.show(unit, "Result"), "success")


if __name__ == "__main__":
    unittest.main(verbosity=2)
