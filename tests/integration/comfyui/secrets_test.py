"""What a person typed, from ComfyUI through the collector: in no ring, database, log or payload."""

from __future__ import annotations

import json
import os
import sys
import unittest
from pathlib import Path
from typing import Any, Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "node"))
from node import Place  # noqa: E402
from client import ComfyError, workflow  # noqa: E402
from support.harness import wait_until  # noqa: E402

CANARY = "xyzzy-canary"


def place(where: str) -> str:
    return f"{CANARY}-{where}-0123456789"


def failing() -> Dict[str, Any]:
    graph = workflow("failing")
    raising = next(node for node in graph.values() if node["class_type"] == "StandinRaise")
    raising["inputs"].update(message=place("input") + "\n'quoted' \\ é", unknown={place("key"): [place("nested")]})
    raising["_meta"] = {"title": place("title")}
    return graph


def told(path: Path) -> List[Dict[str, Any]]:
    """Every object of the payload file that has a name: the spans, however they are grouped."""
    found: List[Dict[str, Any]] = []

    def walk(o: Any) -> None:
        if isinstance(o, dict):
            if "span_id" in o and "name" in o:
                found.append(o)
            for value in o.values():
                walk(value)
        elif isinstance(o, list):
            for value in o:
                walk(value)

    for line in path.read_text().splitlines() if path.exists() else []:
        walk(json.loads(line))
    return found


class Secrets(unittest.TestCase):
    def test_are_in_nothing_that_we_write(self) -> None:
        with Place() as spot:
            payload = spot.dirs.data.parent / "payload.jsonl"
            spot.env["COMFYMON_DESTINATIONS"] = f"file:{payload}"
            comfy = spot.comfy()
            with comfy:
                extra = {"client_id": place("client"), "api_key_comfy_org": place("api"), "auth_token_comfy_org": place("token"),
                         "job_id": place("job"), "extra_pnginfo": {"workflow": {"nodes": [{"widgets_values": [place("widget")]}]}}}
                comfy.submit(failing(), extra_data=extra, prompt_id=place("prompt"))
                invalid = workflow("invalid")
                invalid["9"] = {"class_type": place("class"), "inputs": {"text": place("refused")}}
                with self.assertRaises(ComfyError):
                    comfy.submit(invalid, extra_data=extra)
                wait_until(lambda: {s["name"] for s in told(payload)} >= {"comfyui.workflow.execute", "comfyui.node.execute",
                                                                        "comfyui.workflow.validate"}, 30, "the job's trace")
                self.assertIn(CANARY, comfy.log(), "the host itself may print it, and did")
                folders = [spot.dirs.run, spot.dirs.data, payload]
                for root in folders:
                    files = [root] if root.is_file() else [Path(top) / name for top, _, names in os.walk(root) for name in names]
                    self.assertTrue(files, root)
                    for path in files:
                        if path.is_file():
                            self.assertNotIn(CANARY.encode(), path.read_bytes(), path)
            job = next(s for s in told(payload) if s["name"] == "comfyui.workflow.execute")
            self.assertIn("<redacted>", job["meta"]["error.message"])
            self.assertEqual(job["meta"]["workflow.status"], "error")


if __name__ == "__main__":
    unittest.main()
