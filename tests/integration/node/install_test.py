"""Install, upgrade under a running ComfyUI and agent, uninstall, purge: as an operator does them."""

from __future__ import annotations

import os
import signal
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from node import NODE, Place, alive, copy_of_node, wait_until  # noqa: E402
from client import ComfyUI, workflow  # noqa: E402

ROWS = str(Path(__file__).resolve().parent / "rows")
LINGER_S = 2


def newer(folder: Path) -> Path:
    """The same program, saying that it is 9.9.0: what an upgrade brings."""
    for file in (folder / "comfymon", *folder.glob("_comfymon.*")):
        fresh = file.with_suffix(".fresh")
        fresh.write_bytes(file.read_bytes().replace(b"0.1.", b"9.9."))
        fresh.chmod(0o755)
        fresh.rename(file)
    return folder


class Installed(unittest.TestCase):
    def setUp(self) -> None:
        self.place = Place(env={"COMFYMON_IDLE_EXIT": f"{LINGER_S}s"})
        self.addCleanup(self.place.close)
        self.base = self.place.dirs.base / "comfyui"
        (self.base / "custom_nodes").mkdir(parents=True)
        self.target = self.base / "custom_nodes" / "comfymon"

    def install(self, *args: str) -> None:
        done = self.place.verb("install", "--comfyui", str(self.base), *args)
        self.assertEqual(done.returncode, 0, done.stderr)

    def comfy(self) -> ComfyUI:
        return self.place.comfy(base=str(self.base), node_dirs=[ROWS])

    def received(self) -> int:
        status = self.place.status()
        return int(status["signals"]["trace"]["received"]) if status else -1

    def job(self, comfy: ComfyUI) -> None:
        """One job, and what it left has arrived."""
        before = self.received()
        self.assertEqual(comfy.run(workflow("tiny"))["status"]["status_str"], "success")
        wait_until(lambda: self.received() > before, 10, "the job's spans")

    def test_installed_by_link_or_by_copy_it_watches_and_uninstalled_it_is_gone(self) -> None:
        for how in ((), ("--copy",)):
            with self.subTest(how):
                self.install("--node", str(NODE), *how)
                self.assertEqual(self.target.is_symlink(), how == ())
                with self.comfy() as comfy:
                    self.place.wait_agent()
                    self.job(comfy)
                    self.assertIn("comfymon 0.1.0 is on", comfy.log())
                self.assertEqual(self.place.verb("uninstall", "--comfyui", str(self.base)).returncode, 0)
                self.assertFalse(os.path.lexists(self.target))
                with self.comfy() as comfy:
                    comfy.run(workflow("tiny"))
                    self.assertNotIn("comfymon", comfy.log().split("To see the GUI")[-1])
        self.assertTrue((NODE / "prestartup_script.py").exists())

    def test_purge_waits_for_the_agent_and_leaves_nothing(self) -> None:
        self.install("--node", str(NODE))
        with self.comfy() as comfy:
            self.place.wait_agent()
            self.job(comfy)
            self.assertEqual(self.place.verb("purge", "--yes").returncode, 4)
        wait_until(lambda: self.place.agent_pid() == 0, 5 * LINGER_S + 5, "the idle agent's end")
        for path in (self.place.dirs.data / "deaths/20260101T000000.000-1.json", self.place.dirs.data / "exits",
                     self.place.dirs.run / "bodies/an-id-0123456789abcdef.json", self.place.dirs.run / "order-1-1-0"):
            path.parent.mkdir(exist_ok=True)
            path.write_text("left by `run`\n")
        self.assertEqual(self.place.verb("purge", "--yes").returncode, 0)
        self.assertFalse(self.place.dirs.run.exists())
        self.assertFalse(self.place.dirs.data.exists())

    def test_purge_touches_no_file_of_a_stranger(self) -> None:
        (self.place.dirs.data / "photo.png").write_text("mine\n")
        (self.place.dirs.data / "buffer.db").write_text("")
        done = self.place.verb("purge", "--yes")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("not ours, left there: 1", done.stdout)
        self.assertEqual([p.name for p in self.place.dirs.data.iterdir()], ["photo.png"])

    def test_an_upgrade_under_a_running_comfyui_loses_nothing_and_the_agent_becomes_the_new_one(self) -> None:
        self.install("--node", str(NODE), "--copy")
        with self.comfy() as comfy:
            pid = self.place.wait_agent()
            self.assertEqual(self.place.status()["version"], "0.1.0")
            self.job(comfy)
            self.install("--node", str(newer(copy_of_node(self.place.dirs.base / "new"))), "--copy")
            self.job(comfy)
            wait_until(lambda: self.place.status().get("version") == "9.9.0", 10, "the new agent")
            self.assertEqual(self.place.agent_pid(), pid, "the agent became the new program")
            self.assertEqual(os.readlink(f"/proc/{pid}/exe"), str(self.target / "comfymon"))
            self.job(comfy)  # the old probe with the new agent
            while_old = self.received()
            trace = self.place.status()["signals"]["trace"]
            self.assertTrue(trace["identity"])
            self.assertEqual(sum(p["drops"].values() if p["drops"] else 0 for p in self.place.status()["probes"]), 0)
            comfy.stop(signal.SIGINT)
        with self.comfy() as comfy:
            self.assertIn("comfymon 9.9.0 is on", comfy.log())
            self.assertIn("collector: present", comfy.log())
            self.job(comfy)
            self.assertGreater(self.received(), while_old)
        descriptors = os.listdir(f"/proc/{pid}/fd")
        self.assertLess(len(descriptors), 30, "nothing of the old program is left open")

    def test_a_program_that_does_not_run_replaces_nothing(self) -> None:
        self.install("--node", str(NODE), "--copy")
        with self.comfy() as comfy:
            pid = self.place.wait_agent()
            broken = copy_of_node(self.place.dirs.base / "new")
            (broken / "comfymon").write_text("#!/bin/sh\nexit 3\n")
            self.install("--node", str(broken), "--copy")
            wait_until(lambda: "replacement_does_not_run" in self.place.log(), 10, "the refusal in the log")
            self.job(comfy)
            self.assertEqual((self.place.agent_pid(), self.place.status()["version"]), (pid, "0.1.0"))

    def test_without_its_folder_the_agent_serves_on_and_ends_when_idle(self) -> None:
        self.install("--node", str(NODE), "--copy")
        with self.comfy() as comfy:
            pid = self.place.wait_agent()
            self.assertEqual(self.place.verb("uninstall", "--comfyui", str(self.base)).returncode, 0)
            time.sleep(LINGER_S)
            self.job(comfy)
            self.assertEqual(self.place.agent_pid(), pid)
        wait_until(lambda: not alive(pid), 5 * LINGER_S + 5, "the idle agent's end")


if __name__ == "__main__":
    unittest.main()
