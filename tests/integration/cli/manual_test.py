"""Help, the manual page, and what cmake --install puts where."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import List

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from support.harness import ROOT, binary, passed_env  # noqa: E402

BUILD = Path(os.environ.get("COMFYMON_BUILD", ROOT / "build" / "release"))
ENV = {**passed_env(), "LANG": "C.UTF-8", "COMFYMON_RUN_DIR": "/nonexistent/run",
       "COMFYMON_DATA_DIR": "/nonexistent/data"}


def run(*args: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(list(args), env={**ENV, **env}, text=True, capture_output=True, timeout=60, check=False)


def comfymon(*args: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return run(str(binary()), *args, **env)


def table(path: str, macro: str) -> List[str]:
    return re.findall(rf'^{macro}\(\w+, "([^"]+)"', (ROOT / path).read_text(encoding="utf-8"), re.M)


class Manual(unittest.TestCase):
    def setUp(self) -> None:
        self.page = comfymon("help", "--man").stdout
        self.verbs = [line.split()[0] for line in comfymon("help").stdout.split("options of every verb")[0].splitlines()
                      if line.startswith("  ")]

    def test_the_page_has_every_verb_option_and_exit_code(self) -> None:
        self.assertGreaterEqual(len(self.verbs), 12)
        for verb in self.verbs:
            self.assertRegex(self.page, rf"(?m)^\.It Cm {verb}\b")
            for option in re.findall(r"(?m)^  (--[a-z-]+)", comfymon("help", verb).stdout):
                self.assertIn(f".It Fl \\-{option[2:]}", self.page)
        options = table("agent/config/options.def", "OPTION")
        self.assertGreater(len(options), 20)
        for option in options:
            self.assertIn(f".It Va {option}", self.page)
        self.assertEqual(re.findall(r"(?m)^\.It (\d)$", self.page), list("01234"))

    def test_the_built_page_is_what_the_program_prints(self) -> None:
        self.assertEqual((BUILD / "share/man/man1/comfymon.1").read_text(encoding="utf-8"), self.page)

    @unittest.skipUnless(shutil.which("mandoc"), "mandoc is not installed")
    def test_mandoc_finds_nothing_to_say(self) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".1") as file:
            file.write(self.page)
            file.flush()
            done = run("mandoc", "-Tlint", file.name)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))

    def test_help_is_the_same_by_both_ways_and_needs_no_configuration(self) -> None:
        broken = {"DD_TRACE_SAMPLE_RATE": "many"}
        for verb in self.verbs:
            done = comfymon("help", verb, **broken)
            self.assertEqual((done.returncode, done.stdout), (0, comfymon(verb, "--help", **broken).stdout), verb)
            self.assertLessEqual(max(len(line) for line in done.stdout.splitlines()), 80)
        self.assertEqual(comfymon("help", "frob").returncode, 2)


class Installed(unittest.TestCase):
    @unittest.skipUnless((BUILD / "node/comfymon/prestartup_script.py").exists(), "this build has no node folder")
    def test_a_prefix_is_enough_to_install_the_node_from(self) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            prefix, comfyui = Path(scratch) / "usr", Path(scratch) / "ComfyUI"
            (comfyui / "custom_nodes").mkdir(parents=True)
            done = run("cmake", "--install", str(BUILD), "--prefix", str(prefix))
            self.assertEqual(done.returncode, 0, done.stderr)
            for name in ("share/man/man1/comfymon.1", "lib/systemd/system/comfymon@.service",
                         "lib/systemd/system/comfyui@.service", "share/doc/comfymon/comfymon.json",
                         "share/doc/comfymon/entrypoint.sh"):
                self.assertTrue((prefix / name).is_file(), name)
            program = str(prefix / "bin/comfymon")
            done = run(program, "install", "--comfyui", str(comfyui), "--copy")
            self.assertEqual(done.returncode, 0, done.stderr)
            inside = run(str(comfyui / "custom_nodes/comfymon/comfymon"), "--version")
            self.assertEqual(inside.stdout, run(program, "--version").stdout)
            self.assertEqual(run(program, "doctor", "--comfyui", str(comfyui)).stdout.splitlines()[0].split()[:2], ["ok", "node"])

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    def test_the_units_are_such_that_systemd_takes(self) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            for name in ("comfymon", "comfyui"):
                text = (ROOT / f"config/{name}@.service").read_text(encoding="utf-8")
                unit = Path(scratch) / f"{name}@root.service"
                unit.write_text(re.sub("@CMAKE_INSTALL_FULL_BINDIR@/comfymon", str(binary().resolve()), text))
                done = run("systemd-analyze", "verify", "--man=no", str(unit))
                self.assertEqual((done.returncode, done.stderr), (0, ""), name)


if __name__ == "__main__":
    unittest.main()
