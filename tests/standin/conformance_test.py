"""The stand-in does what a recorded ComfyUI did: same calls and messages, thread by thread."""
from __future__ import annotations

import os
import sys
import unittest
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import golden  # noqa: E402


class Conformance(unittest.TestCase):
    maxDiff = None

    def test_plays_0_3_64_as_recorded(self) -> None:
        self._play("p0364")

    def test_plays_0_3_74_as_recorded(self) -> None:
        self._play("p0368")

    def test_plays_0_10_0_as_recorded(self) -> None:
        self._play("p0100")

    def _play(self, label: str) -> None:
        recorded = [name for name in golden.SCENARIOS if golden.load(label, name)]
        self.assertGreaterEqual(len(recorded), 25)
        played = golden.record_all("standin", label, recorded)
        for name in ["startup", *recorded]:
            with self.subTest(scenario=name):
                self._compare(golden.load(label, name), played[name])

    def _compare(self, wanted: list[Any], got: list[Any]) -> None:
        wanted_roles, got_roles = golden.by_role(wanted), golden.by_role(got)
        self.assertEqual(sorted(wanted_roles), sorted(got_roles))
        for role, lines in wanted_roles.items():
            self.assertEqual(lines, got_roles[role], f"on thread {role}")
        self.assertEqual(golden.model_calls(wanted), golden.model_calls(got))


if __name__ == "__main__":
    unittest.main(verbosity=2)
