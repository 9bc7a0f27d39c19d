"""A custom node that uses comfymon's public functions, as other people's nodes may.

One long span around each job and one around each node by rows of its own; node classes that make
many spans, or fork children that make spans. Without comfymon the same nodes do the same, unseen.
"""
from __future__ import annotations

import contextlib
import os
import sys
import types
from typing import Any

try:
    import comfymon
except ImportError:  # not installed, or switched off
    comfymon = None


def trace(name: str) -> Any:
    return comfymon.trace(name) if comfymon else contextlib.nullcontext()


if comfymon:
    comfymon.attach([
        {"module": "execution", "attr": owner + ".execute", "name": "test.job", "long": True, "optional": True,
         "resource": "'job'", "tags": {"prompt": "prompt_id"}} for owner in ("PromptExecutor", "_Executor")
    ] + [
        {"module": "execution", "attr": "get_output_data", "name": "test.node", "long": True, "resource": "'node'"},
        {"module": "test_late", "attr": "appear", "name": "test.late", "resource": "'late'"},
    ])

# A module that appears when everybody has attached already.
test_late = types.ModuleType("test_late")
exec("def appear(): pass", test_late.__dict__)
sys.modules["test_late"] = test_late


class _Counted:
    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {"value": ("INT", {"default": 0}), "count": ("INT", {"default": 1, "max": 1 << 31})}}


class TestSpans(_Counted):
    def run(self, value: int, count: int) -> tuple:
        for _ in range(count):
            with trace("test.span"):
                pass
        test_late.appear()
        return (count,)


class TestForks(_Counted):
    """A storm of children, five at a time; each makes spans and ends. Returns how many ended well."""

    def run(self, value: int, count: int) -> tuple:
        good, running = 0, []
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                for _ in range(20):
                    with trace("test.child"):
                        pass
                os._exit(0)
            running.append(pid)
            if len(running) == 5:
                good += self.reap(running)
        return (good + self.reap(running),)

    @staticmethod
    def reap(running: list) -> int:
        good = sum(os.waitpid(pid, 0)[1] == 0 for pid in running)
        running.clear()
        return good


NODE_CLASS_MAPPINGS = {"TestSpans": TestSpans, "TestForks": TestForks}
