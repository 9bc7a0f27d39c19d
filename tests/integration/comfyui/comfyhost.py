"""A stand-in ComfyUI with the node in it and no collector: its spans are read from the ring file."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, List, Optional

HERE = Path(__file__).resolve().parent
TESTS = HERE.parents[1]
sys.path[:0] = [str(TESTS / "standin"), str(HERE.parent / "python")]
from client import BAD_NEIGHBOURS, ComfyError, ComfyUI, workflow  # noqa: E402
from ringfile import LOCAL_ROOT, REMOTE_PARENT, Ring, Span, only, rings  # noqa: E402

__all__ = ["BAD_NEIGHBOURS", "ComfyError", "HERE", "Host", "LOCAL_ROOT", "NODE", "PROFILES", "REMOTE_PARENT", "Span", "children",
           "ksampler", "only", "outcome", "wait_for", "workflow"]

NODE = str(Path(os.environ.get("COMFYMON_BUILD", "build/release")) / "node" / "comfymon")
PROFILES = ("p2024a", "p010", "p0345", "p0364", "p0368", "p0100", "p038", "pfuture", "plifecycle", "pminimal")


class Host(ComfyUI):
    def __init__(self, profile: str = "p0364", node: bool = True, env: Optional[dict[str, str]] = None,
                 node_dirs: "tuple[str, ...] | list[str]" = (), **more: Any) -> None:
        self.run_folder = tempfile.TemporaryDirectory(prefix="comfymon-")
        super().__init__(kind="standin", profile=profile, node_dirs=[*node_dirs, *([NODE] if node else [])],
                         env={"COMFYMON_RUN_DIR": self.run_folder.name, "COMFYMON_AUTOSTART": "0", **(env or {})}, **more)

    def close(self) -> None:
        super().close()
        self.run_folder.cleanup()

    def ring(self) -> Ring:
        ring: Ring = only(rings(self.run_folder.name))
        return ring

    def read(self, what: Callable[[Ring], List[Span]]) -> List[Span]:
        """What a ring holds that is being written: a copy may name what came after its head was copied, then once more."""
        for _ in range(20):
            try:
                return what(self.ring())
            except (IndexError, ValueError):
                time.sleep(0.01)
        return what(self.ring())

    def spans(self, *names: str) -> List[Span]:
        return [span for span in self.read(Ring.spans) if not names or span.name in names]

    def open_slots(self) -> List[Span]:
        return self.read(Ring.open_slots)

    def models(self) -> List[Span]:
        """Spans of models, sampling and decoding, without those of jobs and requests."""
        return [s for s in self.spans() if s.name.startswith(("comfyui.model", "comfyui.clip", "comfyui.sample", "comfyui.vae"))]

    def raw(self) -> bytes:
        """Everything that the probe has written."""
        return b"".join(path.read_bytes() for path in Path(self.run_folder.name).iterdir() if path.is_file())

    def wait_spans(self, name: str, count: int, timeout_s: float = 10.0) -> List[Span]:
        wait_for(lambda: len(self.spans(name)) >= count, timeout_s)
        return self.spans(name)


def wait_for(what: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not what():
        if time.monotonic() > end:
            raise AssertionError("did not come true in time")
        time.sleep(0.02)


def children(spans: List[Span], parent: Span) -> List[Span]:
    return [span for span in spans if span.parent_id == parent.span_id]




def ksampler(seed: int = 1, text: str = "a lighthouse at night", vae: str = "") -> dict[str, Any]:
    """Everything that has to do with models in one graph; with `vae`, decoded by that one."""
    graph: dict[str, Any] = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "tiny.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": text}},
        "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "4": {"class_type": "KSampler", "inputs": {
            "model": ["1", 0], "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["3", 0], "seed": seed, "steps": 4,
            "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}},
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "x"}}}
    if vae:
        graph["7"] = {"class_type": "VAELoader", "inputs": {"vae_name": vae}}
        graph["5"]["inputs"]["vae"] = ["7", 0]
    return graph


def outcome(comfy: Host, graph: dict[str, Any]) -> Any:
    """What a client sees of a job, without what is never the same twice."""
    entry = comfy.run(graph)
    passing = ("prompt_id", "timestamp", "executed", "traceback", "current_outputs")
    messages = [[event, {k: v for k, v in data.items() if k not in passing}] for event, data in entry["status"]["messages"]]
    return entry["outputs"], entry["status"]["status_str"], [m for m in messages if m[0] != "execution_cached"]
