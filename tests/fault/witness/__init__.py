"""Custom nodes that bear witness: a line in $WITNESS when a node's function begins and when it has ended.

Written with one write(2) each, so what is in the file had happened, whatever the process died of.
"""
from __future__ import annotations

import os
import time
from typing import Any

FILE = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


class Witness:
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = ("INT",), "run", "witness", True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"default": 0}), "job": ("STRING", {"default": ""}),
                             "seconds": ("FLOAT", {"default": 0.0}), "mbytes": ("INT", {"default": 0})},
                "hidden": {"node": "UNIQUE_ID"}}

    def run(self, value: int, job: str, seconds: float, mbytes: int, node: str = "") -> tuple[int]:
        os.write(FILE, f"{job} {node} begun\n".encode())
        held = []
        for _ in range(mbytes):
            held.append(bytearray(b"x" * (1 << 20)))
        if seconds:
            time.sleep(seconds)
        os.write(FILE, f"{job} {node} ended\n".encode())
        return (value + 1,)


NODE_CLASS_MAPPINGS = {"Witness": Witness}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}
