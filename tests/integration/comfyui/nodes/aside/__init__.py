"""Puts a job into the queue by other means than a request: from a thread of its own, as schedulers do."""

from __future__ import annotations

import os
import threading
import time
import uuid
from typing import Any, Dict

import server

NODE_CLASS_MAPPINGS: Dict[str, Any] = {}
PROMPT = {"1": {"class_type": "StandinValue", "inputs": {"value": 1}},
          "2": {"class_type": "StandinOut", "inputs": {"value": ["1", 0]}}}


EXTRA: Dict[str, Any] = {"thing": object()} if os.environ.get("ASIDE_EXTRA") == "object" else {}


def put() -> None:
    time.sleep(1.0)  # the worker thread is there, and nobody asked for anything
    server.PromptServer.instance.prompt_queue.put((0, str(uuid.uuid4()), PROMPT, EXTRA, ["2"]))


if os.environ.get("ASIDE") == "1":
    threading.Thread(target=put, daemon=True).start()
