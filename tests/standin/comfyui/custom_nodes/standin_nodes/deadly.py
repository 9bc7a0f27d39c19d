"""Nodes that end the worker or the process, or never return."""
from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import Any

CATEGORY = "standin"


class _Deadly:
    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"default": 0})}}


class StandinExit(_Deadly):
    """Ends the worker thread and nothing else: the zombie."""

    def run(self, value: int) -> tuple[int]:
        sys.exit(3)


class StandinSegfault(_Deadly):
    def run(self, value: int) -> tuple[int]:
        return (ctypes.string_at(8)[0],)


class StandinAbort(_Deadly):
    def run(self, value: int) -> tuple[int]:
        os.abort()


class StandinKill(_Deadly):
    def run(self, value: int) -> tuple[int]:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
        return (value,)


class StandinExec(_Deadly):
    """Starts the program again in the same process, as a manager's restart does."""

    def run(self, value: int) -> tuple[int]:
        os.execv(sys.executable, [sys.executable, *sys.argv])


class StandinHang:
    """Sleeps in short pieces without progress: no interrupt is seen, signals still are."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"default": 0}),
                             "seconds": ("FLOAT", {"default": 3600.0})}}

    def run(self, value: int, seconds: float) -> tuple[int]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.05)
        return (value,)


DEADLY = {node.__name__: node for node in (
    StandinExit, StandinSegfault, StandinAbort, StandinKill, StandinExec, StandinHang)}
