"""Nodes whose execution is not one plain call: async, lazy, lists, sub-graphs, blockers."""
from __future__ import annotations

import asyncio
from typing import Any

try:
    from comfy_execution.graph_utils import ExecutionBlocker
except ImportError:
    from comfy_execution.graph import ExecutionBlocker
from comfy_execution.graph_utils import GraphBuilder

CATEGORY = "standin"
VALUE = ("INT", {"default": 0})


class StandinAsync:
    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": VALUE, "seconds": ("FLOAT", {"default": 0.1})}}

    async def run(self, value: int, seconds: float) -> tuple[int]:
        await asyncio.sleep(seconds)
        return (value,)


class StandinAsyncRaise:
    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": VALUE, "seconds": ("FLOAT", {"default": 0.1})}}

    async def run(self, value: int, seconds: float) -> tuple[int]:
        await asyncio.sleep(seconds)
        raise ValueError("async on purpose")


class StandinAdd:
    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"a": VALUE, "b": VALUE}}

    def run(self, a: int, b: int) -> tuple[int]:
        return (a + b,)


class StandinLazy:
    """Needs one of two lazy inputs: visited twice."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"first": ("BOOLEAN", {"default": True}),
                             "a": ("INT", {"lazy": True}), "b": ("INT", {"lazy": True})}}

    def check_lazy_status(self, first: bool, a: Any = None, b: Any = None) -> list[str]:
        return ["a"] if first and a is None else ["b"] if not first and b is None else []

    def run(self, first: bool, a: Any = None, b: Any = None) -> tuple[int]:
        return (a if first else b,)


class StandinSubgraph:
    """Answers with two child nodes."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": VALUE}}

    def run(self, value: int) -> dict[str, Any]:
        graph = GraphBuilder()
        first = graph.node("StandinValue", value=value + 100)
        second = graph.node("StandinValue", value=first.out(0))
        return {"result": (second.out(0),), "expand": graph.finalize()}


class StandinSubgraphRaise:
    """Answers with two children of which the second fails."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": VALUE}}

    def run(self, value: int) -> dict[str, Any]:
        graph = GraphBuilder()
        first = graph.node("StandinValue", value=value + 200)
        second = graph.node("StandinRaise", value=first.out(0), message="in a child", repeat=1)
        return {"result": (second.out(0),), "expand": graph.finalize()}


class StandinList:
    """One call that gives a list: what follows is called once per element."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_IS_LIST = ("INT",), "run", CATEGORY, (True,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"count": ("INT", {"default": 3, "min": 1, "max": 1000})}}

    def run(self, count: int) -> tuple[list[int]]:
        return (list(range(count)),)


class StandinSum:
    """Takes the whole list in one call."""

    RETURN_TYPES, FUNCTION, CATEGORY, INPUT_IS_LIST = ("INT",), "run", CATEGORY, True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": VALUE}}

    def run(self, value: list[int]) -> tuple[int]:
        return (sum(value),)


class StandinBlock:
    """Blocks whoever takes its output; with a message the client gets an execution_error."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": VALUE, "message": ("STRING", {"default": "blocked"})}}

    def run(self, value: int, message: str) -> tuple[Any]:
        return (ExecutionBlocker(message or None),)


class StandinAlways:
    """Never cached: IS_CHANGED answers with something new each time."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": VALUE}}

    @classmethod
    def IS_CHANGED(cls, value: int) -> float:
        return float("NaN")

    def run(self, value: int) -> tuple[int]:
        return (value,)


SHAPES = {node.__name__: node for node in (
    StandinAsync, StandinAsyncRaise, StandinAdd, StandinLazy, StandinSubgraph,
    StandinSubgraphRaise, StandinList, StandinSum, StandinBlock, StandinAlways)}
