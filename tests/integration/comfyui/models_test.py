"""Models, sampling and decoding, as each generation of ComfyUI does them."""

from __future__ import annotations

import os
import sys
import unittest
from pathlib import Path
from typing import List

sys.path.insert(0, str(Path(__file__).resolve().parent))
from comfyhost import PROFILES, Host, Span, children, ksampler, only, outcome, workflow  # noqa: E402

# TELEMETRY.md, section 2: nothing else may leave the process.
ALLOWED = {
    "model": {"model.class", "model.dtype", "model.bytes", "model.loaded_bytes", "model.device", "model.partial", "file.name",
              "file.bytes", "file.mb_per_s", "page_faults.major"},
    "clip": {"model.class"},
    "sample": {"sampler.name", "sampler.scheduler", "sampler.steps", "sampler.cfg", "sampler.denoise", "latent.shape"},
    "vae": {"vae.tiled", "vae.oom_retry", "latent.shape"},
}
COMMON = {"component", "span.kind", "error.type", "error.message", "error.stack"}
TEXT = "an unmistakable canary of a prompt"


def named(spans: List[Span], name: str) -> List[Span]:
    return [span for span in spans if span.name == "comfyui." + name]


class EveryGeneration(unittest.TestCase):
    def check_tags(self, spans: List[Span]) -> None:
        for span in spans:
            kind = span.name.split(".")[1]
            keys = set(span.meta) | set(span.metrics)
            self.assertLessEqual(keys - COMMON, ALLOWED[kind], span)
            self.assertEqual((span.meta["component"], span.meta["span.kind"], span.type), ("comfyui", "internal", "custom"))

    def check_tree(self, profile: str, spans: List[Span]) -> None:
        read, sample = only(named(spans, "model.read")), only(named(spans, "sample"))
        clip, decode = only(named(spans, "clip.encode")), only(named(spans, "vae.decode"))
        vae, checkpoint = named(spans, "model.build")
        self.assertEqual((read.resource, read.meta["file.name"]), ("safetensors", "tiny.safetensors"))
        self.assertGreater(read.metrics["file.bytes"], 1 << 20)
        self.assertGreater(read.metrics["file.mb_per_s"], 1)
        self.assertEqual((checkpoint.resource, checkpoint.meta["model.dtype"]), ("UNetModel", "float16"))
        self.assertEqual(vae.meta["model.class"], "AutoencoderKL")
        self.assertEqual({s.span_id for s in children(spans, checkpoint)}, {read.span_id, vae.span_id})
        self.assertEqual((sample.resource, sample.meta["sampler.scheduler"], sample.meta["latent.shape"]),
                         ("euler", "normal", "1x4x8x8"))
        self.assertEqual({k: v for k, v in sample.metrics.items() if k.startswith("sampler")},
                         {"sampler.steps": 4, "sampler.cfg": 2, "sampler.denoise": 1})
        self.assertEqual((decode.meta["vae.tiled"], decode.meta["vae.oom_retry"], decode.meta["latent.shape"]),
                         ("false", "false", "1x4x8x8"))
        loads = named(spans, "model.load")
        if profile == "pminimal":  # its functions cannot be replaced
            self.assertEqual(loads, [])
            return
        self.assertEqual({(load.resource, load.parent_id) for load in loads},
                         {("TextModel", clip.span_id), ("UNetModel", sample.span_id), ("AutoencoderKL", decode.span_id)})
        for load in loads:
            self.assertEqual(load.metrics["model.loaded_bytes"], load.metrics["model.bytes"])
            self.assertEqual((load.meta["model.device"], load.meta["model.partial"]), ("cpu", "false"))

    def test_tells_of_each_step_once_and_nothing_else(self) -> None:
        for profile in PROFILES:
            with self.subTest(profile=profile), Host(profile=profile) as comfy:
                self.assertEqual(comfy.run(ksampler(text=TEXT))["status"]["status_str"], "success")
                spans = comfy.models()
                self.check_tags(spans)
                self.check_tree(profile, spans)
                written = comfy.raw()
                self.assertNotIn(TEXT.encode(), written)
                self.assertNotIn(comfy.base.encode(), written, "directories are the operator's")

    def test_changes_nothing_that_a_client_sees(self) -> None:
        for profile in ("p2024a", "p0364", "p038", "pfuture"):
            seen = []
            for node in (True, False):
                with self.subTest(profile=profile), Host(profile=profile, node=node) as comfy:
                    seen.append([outcome(comfy, graph) for graph in
                                 (ksampler(), workflow("gpu_oom"), ksampler(2, vae="oom_vae"), workflow("host_alloc"))])
            self.assertEqual(seen[0], seen[1], profile)


class Moves(unittest.TestCase):
    def test_what_is_loaded_already_is_not_told_again(self) -> None:
        with Host() as comfy:
            comfy.run(ksampler(1))
            before = comfy.models()
            comfy.run(ksampler(2))
            again = comfy.models()[len(before):]
            self.assertEqual([s.name for s in again], ["comfyui.sample", "comfyui.vae.decode"])

    def test_a_vae_without_memory_is_seen_to_try_in_tiles(self) -> None:
        for profile in ("p2024a", "p0364", "p038"):
            with self.subTest(profile=profile), Host(profile=profile) as comfy:
                comfy.run(ksampler(vae="oom_vae"))
                decode = only(named(comfy.models(), "vae.decode"))
                self.assertEqual((decode.meta["vae.tiled"], decode.meta["vae.oom_retry"]), ("true", "true"))
                self.assertFalse(decode.error, "it worked in the end")

    def test_unloading_says_why(self) -> None:
        for profile in ("p010", "p0364", "p038", "pfuture"):
            with self.subTest(profile=profile), Host(profile=profile) as comfy:
                comfy.run(ksampler(1))
                comfy.run(workflow("gpu_oom"))
                oom = only(named(comfy.models(), "model.unload"))
                self.assertEqual((oom.resource, oom.meta["model.class"]), ("oom", "AutoencoderKL+UNetModel+TextModel"))
                self.assertEqual((oom.metrics["model.bytes"], oom.metrics["model.loaded_bytes"]), (3 << 20, 0))
                comfy.run(ksampler(2))
                comfy.free()
                asked = comfy.wait_spans("comfyui.model.unload", 2)[1]
                self.assertEqual(asked.resource, "request")
                comfy.run(workflow("gpu_oom"))
                self.assertEqual(len(named(comfy.models(), "model.unload")), 2, "nothing was left to unload")

    def test_a_file_that_cannot_be_read_is_an_error_of_its_span(self) -> None:
        with Host() as comfy:
            path = os.path.join(comfy.base, "models", "checkpoints", "tiny.safetensors")
            os.truncate(path, 1 << 19)
            entry = comfy.run(ksampler())
            self.assertEqual(entry["status"]["status_str"], "error")
            said = dict(entry["status"]["messages"])["execution_error"]["exception_message"]
            self.assertIn("shorter than its header says", said)
            for name in ("model.read", "model.build"):
                span = only(named(comfy.models(), name))
                self.assertTrue(span.error)
                self.assertEqual(span.meta["error.type"], "builtins.RuntimeError")
            self.assertEqual(only(named(comfy.models(), "model.read")).metrics["file.bytes"], 1 << 19)


if __name__ == "__main__":
    unittest.main()
