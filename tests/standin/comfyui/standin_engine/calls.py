"""Gathering a node's inputs and calling it once per list element."""
from __future__ import annotations

import asyncio
import inspect
from typing import Any, Callable, Optional

import nodes
from comfy_execution.graph_utils import ExecutionBlocker, is_link
from comfy_execution.utils import CurrentNodeContext


class PendingCall:
    """Stands for an output that an async node has not delivered yet."""

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self.task = task


def hidden_value(kind: Any, unique_id: str, dynprompt: Any, extra_data: dict[str, Any]) -> Any:
    if kind == "PROMPT":
        return dynprompt.get_original_prompt() if dynprompt is not None else {}
    if kind == "DYNPROMPT":
        return dynprompt
    if kind == "EXTRA_PNGINFO":
        return extra_data.get("extra_pnginfo")
    if kind == "UNIQUE_ID":
        return unique_id
    if kind == "AUTH_TOKEN_COMFY_ORG":
        return extra_data.get("auth_token_comfy_org")
    if kind == "API_KEY_COMFY_ORG":
        return extra_data.get("api_key_comfy_org")
    return None


def gather_inputs(inputs: dict[str, Any], class_def: Any, unique_id: str,
                  lookup: Callable[[str], Optional[list[Any]]], dynprompt: Any,
                  extra_data: dict[str, Any]) -> tuple[dict[str, list[Any]], set[str]]:
    """Each input as a list, and the names whose link has no value (lazy ones)."""
    declared = class_def.INPUT_TYPES()
    named = {**declared.get("required", {}), **declared.get("optional", {})}
    found: dict[str, list[Any]] = {}
    missing: set[str] = set()
    for name, value in inputs.items():
        if is_link(value):
            outputs = lookup(value[0])
            if outputs is None:
                missing.add(name)
            else:
                found[name] = outputs[value[1]]
        elif name in named:
            found[name] = [value]
    for name, kind in declared.get("hidden", {}).items():
        found[name] = [hidden_value(kind, unique_id, dynprompt, extra_data)]
    return found, missing


def slices(obj: Any, input_data_all: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """The keyword arguments of each call: the longest list decides how many."""
    if getattr(obj, "INPUT_IS_LIST", False):
        return [dict(input_data_all)]
    if not input_data_all:
        return [{}]
    count = max(len(values) for values in input_data_all.values())
    return [{name: values[min(index, len(values) - 1)] for name, values in input_data_all.items()}
            for index in range(count)]


def first_blocker(call: dict[str, Any], as_list: bool) -> Optional[ExecutionBlocker]:
    for value in call.values():
        for item in value if as_list and isinstance(value, list) else [value]:
            if isinstance(item, ExecutionBlocker):
                return item
    return None


def map_sync(obj: Any, input_data_all: dict[str, list[Any]], func: str, allow_interrupt: bool,
             block_cb: Any, pre_cb: Any) -> list[Any]:
    results = []
    for index, call in enumerate(slices(obj, input_data_all)):
        if allow_interrupt:
            nodes.before_node_execution()
        blocker = first_blocker(call, getattr(obj, "INPUT_IS_LIST", False))
        if blocker is not None:
            results.append(block_cb(blocker) if block_cb is not None else blocker)
            continue
        if pre_cb is not None:
            pre_cb(index)
        results.append(getattr(obj, func)(**call))
    return results


async def map_async(prompt_id: str, unique_id: str, obj: Any,
                    input_data_all: dict[str, list[Any]], func: str, allow_interrupt: bool,
                    block_cb: Any, pre_cb: Any) -> list[Any]:
    results: list[Any] = []
    for index, call in enumerate(slices(obj, input_data_all)):
        if allow_interrupt:
            nodes.before_node_execution()
        blocker = first_blocker(call, getattr(obj, "INPUT_IS_LIST", False))
        if blocker is not None:
            results.append(block_cb(blocker) if block_cb is not None else blocker)
            continue
        if pre_cb is not None:
            pre_cb(index)
        method = getattr(obj, func)
        if inspect.iscoroutinefunction(method):
            task = asyncio.create_task(_in_context(prompt_id, unique_id, index, method, call))
            await asyncio.sleep(0)  # a node that never waits is done after one turn
            results.append(task.result() if task.done() else PendingCall(task))
        else:
            with CurrentNodeContext(prompt_id, unique_id, index):
                results.append(method(**call))
    return results


async def _in_context(prompt_id: str, unique_id: str, index: int, method: Any,
                      call: dict[str, Any]) -> Any:
    with CurrentNodeContext(prompt_id, unique_id, index):
        return await method(**call)


def merge_outputs(results: list[tuple[Any, ...]], obj: Any) -> list[list[Any]]:
    """One list per output slot, over all calls."""
    is_list = list(getattr(obj, "OUTPUT_IS_LIST", ()))
    width = len(results[0]) if results else len(getattr(obj, "RETURN_TYPES", ()))
    merged: list[list[Any]] = []
    for slot in range(width):
        values: list[Any] = []
        for result in results:
            if slot < len(is_list) and is_list[slot] and isinstance(result[slot], list):
                values.extend(result[slot])
            else:
                values.append(result[slot])
        merged.append(values)
    return merged


def split_results(results: list[Any], obj: Any
                  ) -> tuple[list[Any], dict[str, list[Any]], bool]:
    """(plain tuples or (expanded graph, tuple) pairs, merged ui, has a sub-graph)."""
    width = max(1, len(getattr(obj, "RETURN_TYPES", ())))
    outputs: list[Any] = []
    ui: dict[str, list[Any]] = {}
    has_subgraph = False
    for result in results:
        graph = None
        values: Any = result
        if isinstance(result, dict):
            for name, items in result.get("ui", {}).items():
                ui.setdefault(name, []).extend(items)
            graph = result.get("expand")
            values = result.get("result", ())
        if isinstance(values, ExecutionBlocker):
            values = (values,) * width
        has_subgraph = has_subgraph or graph is not None
        outputs.append((graph, tuple(values)))
    return outputs, ui, has_subgraph


def finish_output(results: list[Any], obj: Any) -> tuple[list[Any], dict[str, Any], bool]:
    """Merged outputs; with a sub-graph the (graph, values) pairs stay unmerged."""
    outputs, ui, has_subgraph = split_results(results, obj)
    if has_subgraph:
        return outputs, ui, True
    return merge_outputs([values for _, values in outputs], obj), ui, False
