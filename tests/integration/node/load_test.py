"""The node folder under each Python: what ComfyUI's log says, what is loaded, what stays as it was."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from node import NODE, Place, copy_of_node, pythons, stages  # noqa: E402

MINOR = os.environ.get("COMFYMON_MINOR") or next(iter(pythons()))
PYTHON = pythons()[MINOR]
HEAVY = {"torch", "numpy", "aiohttp", "socket", "subprocess", "ctypes", "multiprocessing", "asyncio"}


class Loads(unittest.TestCase):
    def setUp(self) -> None:
        self.place = Place()
        self.addCleanup(self.place.close)

    def test_records_and_hands_over_with_one_line_in_the_log(self) -> None:
        done = self.place.fake_host(PYTHON, "40", "5000")
        told = stages(done)
        lines = [line for line in done.stderr.splitlines() if "comfymon" in line]
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertRegex(lines[0], r"^comfymon \S+ is on in \S+, collector: started$")
        self.assertEqual(told["init"]["mappings"], {})
        self.assertEqual((told["end"]["on"], told["end"]["spans"], told["end"]["lost"]), (True, 40, 0))
        self.assertEqual(set(told["prestartup"]["imported"]) & HEAVY, set())
        self.assertFalse(told["prestartup"]["environment_changed"])
        self.assertLessEqual(told["prestartup"]["tasks"], 3)  # the host's own, and at most two of ours
        self.assertEqual(told["prestartup"]["python_threads"], 1)
        self.place.wait_agent()
        self.assertEqual(self.place.status()["signals"]["trace"]["received"], 40)

    def test_a_second_host_finds_the_collector_present(self) -> None:
        stages(self.place.fake_host(PYTHON, "1"))
        pid = self.place.wait_agent()
        again = self.place.fake_host(PYTHON, "1")
        self.assertIn("collector: present", again.stderr)
        self.assertEqual(self.place.agent_pid(), pid)

    def test_switches_load_nothing_and_name_themselves(self) -> None:
        for name, value in (("DD_TRACE_ENABLED", "false"), ("COMFYMON_ENABLED", "0"), ("COMFYMON_ENABLED", "OFF")):
            with self.subTest(f"{name}={value}"):
                done = self.place.fake_host(PYTHON, env={name: value})
                told = stages(done)
                self.assertIn(f"comfymon is off: {name}={value}", done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1)
                self.assertFalse(told["init"]["on"])
                self.assertEqual([m for m in told["prestartup"]["imported"] if "comfymon" in m],
                                 ["_comfymon", "comfymon"])
                self.assertEqual(told["prestartup"]["tasks"], 1)
        self.assertEqual(list(self.place.dirs.run.iterdir()), [])
        self.assertEqual(self.place.agent_pid(), 0)

    def test_nodes_that_use_spans_go_on_where_it_is_off(self) -> None:
        folder = copy_of_node(self.place.dirs.base / "comfymon")
        for file in folder.glob("_comfymon.*"):
            file.unlink()
        uses = {"FAKE_USES_SPANS": "1"}
        for case, done in (("switch", self.place.fake_host(PYTHON, "2", env={**uses, "DD_TRACE_ENABLED": "false"})),
                           ("no extension", self.place.fake_host(PYTHON, "2", env=uses, folder=folder)),
                           ("no ring", self.place.fake_host(PYTHON, "2", env={**uses, "COMFYMON_RUN_DIR": "/proc/nowhere"})),
                           ("on", self.place.fake_host(PYTHON, "2", env=uses))):
            with self.subTest(case):
                used = stages(done)["used"]
                self.assertEqual(used["on"], case == "on")
                self.assertEqual(used["current"], case == "on")
                self.assertEqual(used["returned"], 7)
                self.assertEqual(used["raised"], "KeyError")

    def test_no_collector_is_started_when_told_so(self) -> None:
        done = self.place.fake_host(PYTHON, "3", env={"COMFYMON_AUTOSTART": "0"})
        self.assertIn("collector: not started (COMFYMON_AUTOSTART)", done.stderr)
        self.assertTrue(stages(done)["end"]["on"])
        self.assertEqual(self.place.agent_pid(), 0)
        done = self.place.fake_host(PYTHON, "3", env={"COMFYMON_AUTOSTART": "0", "COMFYMON_LIFE": "1-1-0"})
        self.assertIn("collector: left to comfymon run", done.stderr)

    def test_another_python_is_named_and_left_alone(self) -> None:
        folder = copy_of_node(self.place.dirs.base / "comfymon")
        for file in folder.glob("_comfymon.*"):
            file.rename(str(file).replace("cpython-", "cpython-9"))
        done = self.place.fake_host(PYTHON, folder=folder)
        self.assertFalse(stages(done)["init"]["on"])
        self.assertRegex(done.stderr, r"^comfymon is off: it has no probe for this Python \(cpython-\d+-x86_64-linux-gnu\)")
        self.assertEqual(len(done.stderr.splitlines()), 1)

    def test_a_broken_extension_is_a_line_and_nothing_more(self) -> None:
        folder = copy_of_node(self.place.dirs.base / "comfymon")
        for file in folder.glob("_comfymon.*"):
            file.write_bytes(b"no library at all\n" * 100)
        done = self.place.fake_host(PYTHON, folder=folder)
        self.assertFalse(stages(done)["init"]["on"])
        self.assertRegex(done.stderr, r"^comfymon is off: ")

    def test_a_folder_without_its_program_records_all_the_same(self) -> None:
        folder = copy_of_node(self.place.dirs.base / "comfymon")
        (folder / "comfymon").unlink()
        done = self.place.fake_host(PYTHON, "3", folder=folder)
        self.assertEqual(stages(done)["end"]["spans"], 3)
        self.assertRegex(done.stderr, r"is on in \S+, collector: \S+/comfymon: No such file")

    def test_without_a_run_directory_the_probe_is_off_and_says_why(self) -> None:
        done = self.place.fake_host(PYTHON, env={"COMFYMON_RUN_DIR": "/proc/nowhere"})
        self.assertFalse(stages(done)["init"]["on"])
        self.assertIn("comfymon is off: cannot make the run directory /proc/nowhere", done.stderr)

    def test_ddtrace_in_the_same_process_is_pointed_out(self) -> None:
        (self.place.dirs.base / "ddtrace.py").write_text("")
        (self.place.dirs.base / "sitecustomize.py").write_text("import ddtrace\n")
        done = self.place.fake_host(PYTHON, env={"PYTHONPATH": str(self.place.dirs.base)})
        self.assertTrue(stages(done)["init"]["on"])
        self.assertIn("ddtrace is loaded too", done.stderr)

    def test_a_bad_value_in_the_environment_is_told(self) -> None:
        done = self.place.fake_host(PYTHON, env={"DD_TRACE_SAMPLE_RATE": "often"})
        self.assertIn("comfymon: DD_TRACE_SAMPLE_RATE: not a number from 0 to 1", done.stderr)

    def test_generates_nothing_inside_its_folder(self) -> None:
        folder = copy_of_node(self.place.dirs.base / "comfymon")
        before = sorted(folder.rglob("*"))
        stages(self.place.fake_host(PYTHON, "3", folder=folder))
        self.assertEqual(sorted(folder.rglob("*")), before)


class Hosts(unittest.TestCase):
    def test_a_python_without_a_probe_gets_its_line(self) -> None:
        tried = []
        for python in sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python3")) + ["/usr/bin/pypy3"]):
            version = subprocess.run([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], text=True,
                                     capture_output=True, check=False).stdout.strip() if os.path.exists(python) else ""
            if version not in ("", "3.6") and (version not in pythons() or "pypy" in python):
                tried.append(python)
        if not tried:
            self.skipTest("no Python at hand that has no probe of ours")
        for python in tried:
            with self.subTest(python), Place() as place:
                done = place.fake_host(python)
                self.assertFalse(stages(done)["init"]["on"])
                self.assertIn("comfymon is off: it has no probe for this Python (", done.stderr)

    def test_the_extension_of_this_minor_is_in_the_folder(self) -> None:
        self.assertEqual(len(list(NODE.glob(f"_comfymon.cpython-{MINOR.replace('.', '')}-*.so"))), 1)


if __name__ == "__main__":
    unittest.main()
