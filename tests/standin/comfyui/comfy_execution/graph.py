"""The graph of a running job: the prompt plus the nodes that sub-graphs add to it."""
from __future__ import annotations

import asyncio
import inspect
from typing import Any, Callable, Optional

import nodes
from comfy_execution.graph_utils import ExecutionBlocker, is_link

__all__ = ["DynamicPrompt", "ExecutionBlocker", "ExecutionList", "get_input_info", "is_link"]


class DependencyCycleError(Exception):
    pass


class NodeNotFoundError(Exception):
    pass


class DynamicPrompt:
    def __init__(self, original_prompt: dict[str, Any]) -> None:
        self.original_prompt = original_prompt
        self.ephemeral_prompt: dict[str, Any] = {}
        self.ephemeral_parents: dict[str, str] = {}
        self.ephemeral_display: dict[str, str] = {}

    def get_node(self, node_id: str) -> dict[str, Any]:
        for graph in (self.ephemeral_prompt, self.original_prompt):
            if node_id in graph:
                return graph[node_id]
        raise NodeNotFoundError(f"there is no node {node_id}")

    def has_node(self, node_id: str) -> bool:
        return node_id in self.original_prompt or node_id in self.ephemeral_prompt

    def add_ephemeral_node(self, node_id: str, node_info: dict[str, Any], parent_id: str,
                           display_id: str) -> None:
        self.ephemeral_prompt[node_id] = node_info
        self.ephemeral_parents[node_id] = parent_id
        self.ephemeral_display[node_id] = display_id

    def get_real_node_id(self, node_id: str) -> str:
        while node_id in self.ephemeral_parents:
            node_id = self.ephemeral_parents[node_id]
        return node_id

    def get_parent_node_id(self, node_id: str) -> Optional[str]:
        return self.ephemeral_parents.get(node_id)

    def get_display_node_id(self, node_id: str) -> str:
        while node_id in self.ephemeral_display:
            node_id = self.ephemeral_display[node_id]
        return node_id

    def all_node_ids(self) -> set[str]:
        return set(self.original_prompt) | set(self.ephemeral_prompt)

    def get_original_prompt(self) -> dict[str, Any]:
        return self.original_prompt


def get_input_info(class_def: Any, input_name: str,
                   valid_inputs: Optional[dict[str, Any]] = None
                   ) -> tuple[Any, Optional[str], Optional[dict[str, Any]]]:
    """(type, category, options) of one input, (None, None, None) if there is none."""
    inputs = valid_inputs or class_def.INPUT_TYPES()
    for category in ("required", "optional"):
        if input_name in inputs.get(category, {}):
            declared = inputs[category][input_name]
            return declared[0], category, declared[1] if len(declared) > 1 else {}
    hidden = inputs.get("hidden", {})
    if input_name in hidden:
        return hidden[input_name], "hidden", {}
    return None, None, None


class ExecutionList:
    """What still has to run, in an order that shows results early.

    A node enters when something needed wants it; links to nodes whose result is
    cached are never followed, so those nodes are not visited at all.
    """

    def __init__(self, dynprompt: DynamicPrompt, kept: Callable[[str], Any]) -> None:
        self.dynprompt = dynprompt
        self._kept = kept
        self._followed: set[tuple[str, str]] = set()
        self.pending: dict[str, None] = {}
        self.wanted_by: dict[str, dict[str, None]] = {}
        self.waits_for: dict[str, int] = {}
        self.staged_node_id: Optional[str] = None
        self.unblocked = asyncio.Event() if _loop_runs() else None
        self.external: dict[str, int] = {}

    def is_empty(self) -> bool:
        return not self.pending

    def is_cached(self, node_id: str) -> bool:
        return self._kept(node_id) is not None

    def get_cache(self, from_node_id: str, to_node_id: str) -> Any:
        """What from_node_id left, for a node that has a followed link to it; else None.

        A lazy input is not followed until it is asked for, even if its value is kept.
        """
        return self._kept(from_node_id) if (from_node_id, to_node_id) in self._followed else None

    def add_node(self, node_id: str, include_lazy: bool = False) -> None:
        unseen = [node_id]
        while unseen:
            current = unseen.pop()
            if current in self.pending:
                continue
            node = self.dynprompt.get_node(current)
            self.pending[current] = None
            self.waits_for.setdefault(current, 0)
            self.wanted_by.setdefault(current, {})
            class_def = nodes.NODE_CLASS_MAPPINGS[node["class_type"]]
            for name, value in node["inputs"].items():
                if not is_link(value):
                    continue
                _, _, options = get_input_info(class_def, name)
                if (options or {}).get("lazy") and not include_lazy:
                    continue
                self._followed.add((value[0], current))
                if not self.is_cached(value[0]):
                    unseen.append(value[0])
                    self._block(value[0], current)

    def _block(self, from_node_id: str, to_node_id: str) -> None:
        waiting = self.wanted_by.setdefault(from_node_id, {})
        if to_node_id not in waiting:
            waiting[to_node_id] = None
            self.waits_for[to_node_id] = self.waits_for.get(to_node_id, 0) + 1

    def add_strong_link(self, from_node_id: str, from_socket: int, to_node_id: str) -> None:
        self._followed.add((from_node_id, to_node_id))
        if not self.is_cached(from_node_id):
            self.add_node(from_node_id)
            self._block(from_node_id, to_node_id)

    def make_input_strong_link(self, to_node_id: str, to_input: str) -> None:
        value = self.dynprompt.get_node(to_node_id)["inputs"].get(to_input)
        if value is None or not is_link(value):
            raise ValueError(f"node {to_node_id} has no link at input {to_input}")
        self.add_strong_link(value[0], value[1], to_node_id)

    def add_external_block(self, node_id: str) -> Callable[[], None]:
        assert self.unblocked is not None
        self.external[node_id] = self.external.get(node_id, 0) + 1
        self.waits_for[node_id] += 1

        def release() -> None:
            self.external[node_id] -= 1
            self.waits_for[node_id] -= 1
            self.unblocked.set()  # type: ignore[union-attr]

        return release

    def _ready(self) -> list[str]:
        return [node_id for node_id in self.pending if self.waits_for[node_id] == 0]

    def _rank(self, node_id: str) -> int:
        """Outputs and async nodes first, then what leads to an output soon."""
        if self._is_output(node_id) or self._is_async(node_id):
            return 0
        after = list(self.wanted_by.get(node_id, {}))
        if any(self._is_output(other) for other in after):
            return 1
        if any(self._is_output(far) for other in after for far in self.wanted_by.get(other, {})):
            return 2
        return 3

    def _class(self, node_id: str) -> Any:
        return nodes.NODE_CLASS_MAPPINGS[self.dynprompt.get_node(node_id)["class_type"]]

    def _is_output(self, node_id: str) -> bool:
        return bool(getattr(self._class(node_id), "OUTPUT_NODE", False))

    def _is_async(self, node_id: str) -> bool:
        class_def = self._class(node_id)
        return inspect.iscoroutinefunction(getattr(class_def, class_def.FUNCTION))

    async def stage_node_execution(
            self) -> tuple[Optional[str], Optional[dict[str, Any]], Optional[Exception]]:
        available = self._ready()
        while not available and any(self.external.values()):
            assert self.unblocked is not None
            await self.unblocked.wait()
            self.unblocked.clear()
            available = self._ready()
        if not available:
            first = next(iter(self.pending))
            cycle = DependencyCycleError("the remaining nodes wait for one another")
            return None, {"node_id": first, "exception_message": str(cycle),
                          "exception_type": "graph.DependencyCycleError", "traceback": [],
                          "current_inputs": []}, cycle
        self.staged_node_id = min(available, key=self._rank)
        return self.staged_node_id, None, None

    def unstage_node_execution(self) -> None:
        self.staged_node_id = None

    def complete_node_execution(self) -> None:
        done = self.staged_node_id
        assert done is not None
        del self.pending[done]
        for other in self.wanted_by.pop(done, {}):
            self.waits_for[other] -= 1
        self.staged_node_id = None


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
