"""What a sanitizer reports of a program whose output and status nobody looks at fails the test all the same."""

from __future__ import annotations

import os
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.harness import ROOT, sanitizer  # noqa: E402
from support.sanitizer import FOUND  # noqa: E402

FAULTY = Path(os.environ.get("COMFYMON_BUILD", ROOT / "build" / "asan")) / "tests" / "faulty"
CARELESS = """
import subprocess, sys
sys.path.insert(0, sys.argv[1])
from support.harness import passed_env
subprocess.run(sys.argv[2:], env=passed_env(), capture_output=True)
"""


def judge(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, str(ROOT / "tests/support/sanitizer.py"), sanitizer(), *command],
                          capture_output=True, text=True, timeout=60, check=False)


class Judged(unittest.TestCase):
    def careless(self, what: str) -> "subprocess.CompletedProcess[str]":
        """A test that runs the program and forgets about it."""
        return judge(sys.executable, "-c", CARELESS, str(ROOT / "tests"), str(FAULTY), what)

    def test_a_fault_is_found_and_shown(self) -> None:
        faults = {"race": "data race"} if sanitizer() == "thread" else {
            "leak": "detected memory leaks", "overflow": "heap-buffer-overflow", "undefined": "AddressSanitizer: ILL"}
        for what, said in faults.items():
            with self.subTest(what=what):
                done = self.careless(what)
                self.assertEqual(done.returncode, FOUND, done.stdout)
                self.assertIn(said, done.stdout)
                self.assertIn("faulty.c", done.stdout)

    def test_who_does_nothing_wrong_passes(self) -> None:
        self.assertEqual(self.careless("nothing").returncode, 0)

    def test_a_test_that_fails_by_itself_fails(self) -> None:
        self.assertEqual(judge("sh", "-c", "exit 3").returncode, 3)
        self.assertEqual(judge("sh", "-c", "kill -9 $$").returncode, 128 + 9)


if __name__ == "__main__":
    unittest.main()
