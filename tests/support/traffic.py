"""Traces for a Writer: one root and some children, each with some tags, never the same id twice."""

from __future__ import annotations

import random
from typing import Any, Dict, List

from support.writer import Writer


class Traffic:
    def __init__(self, writer: Writer, seed: int = 1, error: int = 0) -> None:
        self.writer = writer
        self.random = random.Random(seed)
        self.error = error      # of every span from now on
        self.made = 0

    def trace(self, spans: int = 5, text: str = "") -> List[Dict[str, Any]]:
        trace_id = self.random.getrandbits(63) | 1
        root = self.random.getrandbits(63) | 1
        made = []
        for i in range(spans):
            made.append({"trace_id": trace_id, "span_id": root if i == 0 else self.random.getrandbits(63) | 1,
                         "parent_id": 0 if i == 0 else root, "service": "shop", "name": "comfyui.node.execute",
                         "resource": f"Node{i}", "type": "worker", "start": self.writer.now(), "duration": 1000 + i,
                         "error": self.error, "meta": {"node.id": str(i), "note": text},
                         "metrics": {"node.steps": i * 1.5}})
        self.made += spans
        return made[1:] + made[:1]  # the root finishes last

    def send(self, traces: int, spans: int = 5, text: str = "x") -> None:
        for _ in range(traces):
            self.writer.finish(self.trace(spans, text))
            self.writer.pump(0)
