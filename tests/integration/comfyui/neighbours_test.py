"""Other custom nodes that wrap the same functions badly, before and after us: nothing changes for ComfyUI's clients."""

from __future__ import annotations

import shutil
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Dict, List, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parent))
from comfyhost import BAD_NEIGHBOURS, HERE, PROFILES, Host, ksampler, outcome, workflow  # noqa: E402

ATTACHED, UNKNOWN = 0, 2  # of the HOOK event
ORIGINALS = str(HERE / "nodes" / "aaa_originals")


class Neighbours(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="comfymon-")
        self.addCleanup(folder.cleanup)
        self.before, self.after = [[str(Path(BAD_NEIGHBOURS) / name), str(Path(folder.name) / careless)]
                                   for name, careless in (("aaa_before", "aaa_careless"), ("zzz_after", "zzz_careless"))]
        for _, copy in (self.before, self.after):
            shutil.copytree(HERE / "nodes" / "careless", copy)

    def outcomes(self, profile: str, node: bool, neighbours: Sequence[str]) -> List[Any]:
        with Host(profile=profile, node=node, node_dirs=neighbours) as comfy:
            self.assertNotIn("IMPORT FAILED", comfy.log())
            seen = [outcome(comfy, graph) for graph in (ksampler(1), workflow("quick"), workflow("gpu_oom"), workflow("failing"),
                                                        ksampler(2, vae="oom_vae"), workflow("lazy"), workflow("subgraph"))]
            if node:
                self.check_spans(comfy, profile, neighbours)
            return seen

    def check_spans(self, comfy: Host, profile: str, neighbours: Sequence[str]) -> None:
        """Neighbours may hide parameters from us; that a thing was done they hide from nobody, with one exception."""
        count: Dict[str, int] = {}
        for span in comfy.models():
            count[span.name] = count.get(span.name, 0) + 1
        self.assertEqual((count["comfyui.sample"], count["comfyui.clip.encode"]), (3, 3), count)
        # What binds in a way of its own is left alone, and said to be; its second try in tiles is seen.
        alone = any(path.endswith("aaa_careless") for path in neighbours)
        self.assertEqual(count["comfyui.vae.decode"], 1 if alone else 3, count)
        self.assertEqual(comfy.ring().hooks()["comfy.sd:VAE.decode"], UNKNOWN if alone else ATTACHED)
        self.assertGreaterEqual(count["comfyui.model.read"], 1)
        if profile != "pminimal":
            self.assertGreaterEqual(count["comfyui.model.load"], 3)

    def test_results_and_exceptions_are_the_same_with_and_without_us(self) -> None:
        for profile in PROFILES:
            bare = self.outcomes(profile, False, [])
            for neighbours in (self.before, self.after, self.before + self.after):
                with self.subTest(profile=profile, neighbours=[Path(path).name for path in neighbours]):
                    self.assertEqual(self.outcomes(profile, True, neighbours), bare)

    def test_detaching_puts_every_original_back(self) -> None:
        for profile in ("p2024a", "p0364", "p038", "pfuture"):
            with self.subTest(profile=profile), Host(profile=profile, node_dirs=[ORIGINALS]) as comfy:
                comfy.run(ksampler(1))
                attached = comfy.request("GET", "/originals")
                self.assertEqual(set(attached["replaced"]), set(attached["attached"]))
                self.assertGreater(len(attached["attached"]), 15)
                self.assertEqual(comfy.request("GET", "/originals?detach=1"), {"replaced": [], "attached": [], "failures": {}})
                told = len(comfy.spans())
                self.assertEqual(comfy.run(ksampler(2))["status"]["status_str"], "success")
                self.assertLessEqual(len(comfy.spans()) - told, 1, "the request that detached us, and no more")
                again = comfy.request("GET", "/originals?attach=1")
                self.assertEqual(set(again["attached"]), set(attached["attached"]))

    def test_whoever_wrapped_us_goes_on_working_when_we_are_gone(self) -> None:
        with Host(node_dirs=[ORIGINALS, *self.after]) as comfy:
            comfy.run(ksampler(1))
            left = comfy.request("GET", "/originals?detach=1")
            self.assertEqual(left["attached"], [])
            self.assertIn("comfy.sample:sample", left["replaced"], "a stranger's is not ours to take away")
            told = len(comfy.spans())
            for graph in (ksampler(2), ksampler(3, vae="oom_vae")):
                self.assertEqual(comfy.run(graph)["status"]["status_str"], "success")
            self.assertLessEqual(len(comfy.spans()) - told, 1)


if __name__ == "__main__":
    unittest.main()
