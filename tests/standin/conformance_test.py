"""The stand-in does what a recorded ComfyUI did: same calls and messages, thread by thread."""
from __future__ import annotations

import os
import sys
import unittest
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import golden  # noqa: E402


def labels() -> list[str]:
    return sorted(os.listdir(golden.GOLDEN)) if os.path.isdir(golden.GOLDEN) else []


class Conformance(unittest.TestCase):
    maxDiff = None

    def test_there_are_recordings_of_the_reference(self) -> None:
        self.assertIn("p0364", labels())

    def test_each_recorded_scenario_is_played_the_same(self) -> None:
        for label in labels():
            kept = [name for name in golden.SCENARIOS if golden.load(label, name)]
            played = golden.record_all("standin", label, kept)
            for name in ["startup", *kept]:
                with self.subTest(profile=label, scenario=name):
                    self._compare(golden.load(label, name), played[name])

    def _compare(self, wanted: list[Any], got: list[Any]) -> None:
        wanted_roles, got_roles = golden.by_role(wanted), golden.by_role(got)
        self.assertEqual(sorted(wanted_roles), sorted(got_roles))
        for role, lines in wanted_roles.items():
            self.assertEqual(lines, got_roles[role], f"on thread {role}")
        self.assertEqual(golden.model_calls(wanted), golden.model_calls(got))


if __name__ == "__main__":
    unittest.main(verbosity=2)
