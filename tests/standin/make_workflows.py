"""Writes workflows/*.json: the prompt graph of each scenario. Run after changing a graph."""
from __future__ import annotations

import json
import os
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
Graph = dict


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def after(class_type: str, **inputs: Any) -> Graph:
    """A trivial node, then the node in question, then an output node."""
    return {"1": node("StandinValue", value=1), "2": node(class_type, value=["1", 0], **inputs),
            "3": node("StandinOut", value=["2", 0])}


def deadly(class_type: str) -> Graph:
    """Waits first, so that the answer to the request is out before the process is gone."""
    return {"1": node("StandinSleep", value=1, seconds=0.25),
            "2": node(class_type, value=["1", 0]), "3": node("StandinOut", value=["2", 0])}


def diffusion(vae_name: str, seed: int) -> Graph:
    return {
        "1": node("CheckpointLoaderSimple", ckpt_name="tiny.safetensors"),
        "2": node("CLIPTextEncode", text="a lighthouse at night", clip=["1", 1]),
        "3": node("CLIPTextEncode", text="blurry", clip=["1", 1]),
        "4": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "5": node("KSampler", model=["1", 0], positive=["2", 0], negative=["3", 0],
                  latent_image=["4", 0], seed=seed, steps=4, cfg=2.0, sampler_name="euler",
                  scheduler="normal", denoise=1.0),
        "6": node("VAELoader", vae_name=vae_name),
        "7": node("VAEDecode", samples=["5", 0], vae=["6", 0]),
        "8": node("SaveImage", images=["7", 0], filename_prefix="quick"),
    }


def chain(length: int, start: int) -> Graph:
    graph = {"1": node("StandinValue", value=start)}
    for number in range(2, length + 1):
        graph[str(number)] = node("StandinValue", value=[str(number - 1), 0])
    graph[str(length + 1)] = node("StandinOut", value=[str(length), 0])
    return graph


def rows(count: int, length: int) -> Graph:
    """`count` chains of `length` nodes; the last of each chain is an output node."""
    graph: Graph = {}
    for row in range(count):
        graph[f"{row * length + 1}"] = node("StandinValue", value=1000 * (row + 1))
        for place in range(2, length + 1):
            kind = "StandinOut" if place == length else "StandinValue"
            graph[f"{row * length + place}"] = node(
                kind, value=[f"{row * length + place - 1}", 0])
    return graph


WORKFLOWS: dict[str, Graph] = {
    "quick": diffusion("pixel_space", 1),
    "vae_tiled_retry": diffusion("oom_vae", 2),
    "tiny": {"1": node("StandinValue", value=5), "2": node("StandinOut", value=["1", 0])},
    "cached": {"1": node("StandinValue", value=7), "2": node("StandinValue", value=["1", 0]),
               "3": node("StandinOut", value=["2", 0])},
    "twins": {"1": node("StandinValue", value=9), "2": node("StandinValue", value=9),
              "3": node("StandinAdd", a=["1", 0], b=["2", 0]),
              "4": node("StandinOut", value=["3", 0])},
    "failing": after("StandinRaise", message="on purpose", repeat=1),
    "failing_unicode": after("StandinRaise", message="böse ✗ 失敗 \u0000 \U0001f4a5", repeat=1),
    "failing_huge": after("StandinRaise", message="0123456789abcdef", repeat=1 << 16),
    "interrupted": after("StandinSteps", steps=3000, seconds=0.01),
    "interrupt_self": after("StandinInterruptSelf"),
    "steps": after("StandinSteps", steps=5, seconds=0.001),
    "subgraph": after("StandinSubgraph"),
    "subgraph_failing": after("StandinSubgraphRaise"),
    "async_two": {"1": node("StandinAsync", value=1, seconds=0.3),
                  "2": node("StandinAsync", value=2, seconds=0.3),
                  "3": node("StandinAdd", a=["1", 0], b=["2", 0]),
                  "4": node("StandinOut", value=["3", 0])},
    "async_failing": after("StandinAsyncRaise", seconds=0.05),
    "lazy": {"1": node("StandinValue", value=1), "2": node("StandinValue", value=2),
             "3": node("StandinLazy", first=True, a=["1", 0], b=["2", 0]),
             "4": node("StandinOut", value=["3", 0])},
    "list_fan_out": {"1": node("StandinList", count=4), "2": node("StandinValue", value=["1", 0]),
                     "3": node("StandinSum", value=["2", 0]),
                     "4": node("StandinOut", value=["3", 0])},
    "blocked": after("StandinBlock", message="not today"),
    "always": after("StandinAlways"),
    "gpu_oom": after("StandinGpuOom"),
    "host_alloc": after("StandinHostAlloc"),
    "allocate": {"1": node("StandinAllocate", mbytes=64, keep=False),
                 "2": node("StandinMeasure", image=["1", 0]),
                 "3": node("StandinOut", value=["2", 0])},
    "sleep": after("StandinSleep", seconds=0.2),
    "busy": after("StandinBusy", seconds=0.5),
    "threads": after("StandinThreads", count=4),
    "chain100": chain(100, 3),
    "rows400": rows(50, 8),
    "invalid": {"1": node("StandinSteps", value=1, steps=10 ** 9, seconds=0.0),
                "2": node("StandinOut", value=["1", 0])},
    "cycle": {"1": node("StandinValue", value=["2", 0]), "2": node("StandinValue", value=["1", 0]),
              "3": node("StandinOut", value=["2", 0])},
    "zombie": deadly("StandinExit"),
    "segfault": deadly("StandinSegfault"),
    "abort": deadly("StandinAbort"),
    "sigkill": deadly("StandinKill"),
    "exec_restart": deadly("StandinExec"),
    "hang_short": after("StandinHang", seconds=1.0),
    "hang": after("StandinHang", seconds=3600.0),
}


def main() -> None:
    folder = os.path.join(HERE, "workflows")
    for name, graph in WORKFLOWS.items():
        with open(os.path.join(folder, name + ".json"), "w", encoding="utf-8") as file:
            lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}"
                               for key, value in graph.items())
            file.write("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
