"""What the tests of the extension share: a ring of their own, and the spans that came into it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.environ.get("COMFYMON_BUILD", "build/release"), "node", "comfymon"))

import _comfymon  # noqa: E402
from ringfile import Ring, Span, only, rings  # noqa: E402

__all__ = ["Case", "Ring", "Span", "_comfymon", "only", "rings"]


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="comfymon-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.addCleanup(_comfymon.stop, 0)
        self.assertTrue(_comfymon.start(run_dir=self.folder, sender=False), _comfymon.status())

    def ring(self) -> Ring:
        ring: Ring = only(rings(self.folder))
        return ring

    def spans(self) -> dict[str, Span]:
        return {span.name: span for span in self.ring().spans()}
