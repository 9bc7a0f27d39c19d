"""Runs queued prompts node by node.

The functions a hook replaces (execute, get_output_data, validate_prompt, ...) are looked up
as globals of this module at each call. Their signatures follow PROFILE; what they do is in
one place below, written as coroutines that the synchronous generations drive to the end.
"""
from __future__ import annotations

import asyncio
import logging
import time
import traceback
from dataclasses import dataclass
from enum import Enum
from typing import Any, Optional

import torch

import comfy.model_management
import nodes
from comfy_execution.caching import CacheSet, settle
from comfy_execution.graph import DynamicPrompt, ExecutionBlocker, ExecutionList
from comfy_execution.graph_utils import GraphBuilder, is_link
from comfy_execution.progress import (WebUIProgressHandler, add_progress_handler,
                                      get_progress_state, reset_progress_state)
from standin_engine import calls, recursive
from standin_engine.queue import MAXIMUM_HISTORY_SIZE, ExecutionStatus, PromptQueue
from standin_engine.validation import check_prompt
from standin_profile import CONTEXT, PROFILE, check_context

__all__ = ["ExecutionStatus", "MAXIMUM_HISTORY_SIZE", "PromptExecutor", "PromptQueue"]


class ExecutionResult(Enum):
    SUCCESS = 0
    FAILURE = 1
    PENDING = 2


def drive(coroutine: Any) -> Any:
    """Runs a coroutine that never waits, as the synchronous generations need."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise RuntimeError("an async node cannot run in this generation")


# ---- inputs of one node ---------------------------------------------------------------------

def _get_input_data(inputs: Any, class_def: Any, unique_id: str, outputs: Any, dynprompt: Any,
                    extra_data: dict[str, Any]) -> Any:
    def lookup(node_id: str) -> Optional[list[Any]]:
        if outputs is None:
            return None
        if isinstance(outputs, dict):
            return outputs.get(node_id)
        if isinstance(outputs, ExecutionList):
            entry = outputs.get_cache(node_id, unique_id)
            return None if entry is None else entry.outputs
        return outputs.local_get(node_id)

    graph = DynamicPrompt(dynprompt) if isinstance(dynprompt, dict) else dynprompt
    return calls.gather_inputs(inputs, class_def, unique_id, lookup, graph, extra_data)


if PROFILE.style == "recursive":
    def get_input_data(inputs, class_def, unique_id, outputs={}, prompt={}, extra_data={}):
        return _get_input_data(inputs, class_def, unique_id, outputs, prompt, extra_data)[0]
elif PROFILE.style == "sync":
    def get_input_data(inputs, class_def, unique_id, outputs=None, dynprompt=None, extra_data={}):
        return _get_input_data(inputs, class_def, unique_id, outputs, dynprompt, extra_data)
elif PROFILE.execute_args >= 11:
    def get_input_data(inputs, class_def, unique_id, execution_list=None, dynprompt=None,
                       extra_data={}):
        found, missing = _get_input_data(inputs, class_def, unique_id, execution_list, dynprompt,
                                         extra_data)
        return found, missing, {}
else:
    def get_input_data(inputs, class_def, unique_id, outputs=None, dynprompt=None, extra_data={}):
        found, missing = _get_input_data(inputs, class_def, unique_id, outputs, dynprompt,
                                         extra_data)
        return found, missing, {}


# ---- calling one node -----------------------------------------------------------------------

if PROFILE.style == "recursive":
    def map_node_over_list(obj, input_data_all, func, allow_interrupt=False):
        return calls.map_sync(obj, input_data_all, func, allow_interrupt, None, None)

    def get_output_data(obj, input_data_all):
        results = map_node_over_list(obj, input_data_all, obj.FUNCTION, allow_interrupt=True)
        outputs, ui, _ = calls.split_results(results, obj)
        return calls.merge_outputs([values for _, values in outputs], obj), ui
elif PROFILE.style == "sync":
    map_node_over_list = None

    def _map_node_over_list(obj, input_data_all, func, allow_interrupt=False,
                            execution_block_cb=None, pre_execute_cb=None):
        return calls.map_sync(obj, input_data_all, func, allow_interrupt, execution_block_cb,
                              pre_execute_cb)

    def get_output_data(obj, input_data_all, execution_block_cb=None, pre_execute_cb=None):
        results = _map_node_over_list(obj, input_data_all, obj.FUNCTION, allow_interrupt=True,
                                      execution_block_cb=execution_block_cb,
                                      pre_execute_cb=pre_execute_cb)
        return calls.finish_output(results, obj)
else:
    async def _async_map_node_over_list(prompt_id, unique_id, obj, input_data_all, func,
                                        allow_interrupt=False, execution_block_cb=None,
                                        pre_execute_cb=None, hidden_inputs=None):
        return await calls.map_async(prompt_id, unique_id, obj, input_data_all, func,
                                     allow_interrupt, execution_block_cb, pre_execute_cb)

    async def get_output_data(prompt_id, unique_id, obj, input_data_all, execution_block_cb=None,
                              pre_execute_cb=None, hidden_inputs=None):
        results = await _async_map_node_over_list(
            prompt_id, unique_id, obj, input_data_all, obj.FUNCTION, allow_interrupt=True,
            execution_block_cb=execution_block_cb, pre_execute_cb=pre_execute_cb,
            hidden_inputs=hidden_inputs)
        if any(isinstance(result, calls.PendingCall) for result in results):
            return results, {}, False, True
        return (*calls.finish_output(results, obj), False)


# ---- one node -------------------------------------------------------------------------------

@dataclass
class NodeRun:
    """The arguments of execute() under one roof, whatever the generation passes."""

    server: Any
    dynprompt: DynamicPrompt
    caches: CacheSet
    node_id: str
    extra_data: dict[str, Any]
    executed: set[str]
    prompt_id: str
    execution_list: ExecutionList
    subgraphs: dict[str, Any]
    tasks: dict[str, Any]
    ui_outputs: dict[str, Any]

    def send(self, event: str, data: dict[str, Any]) -> None:
        if self.server.client_id is not None:
            self.server.send_sync(event, data, self.server.client_id, **CONTEXT)

    def send_executed(self, ui: dict[str, Any]) -> None:
        self.send("executed", {"node": self.node_id, "prompt_id": self.prompt_id, "output": ui,
                               "display_node": self.dynprompt.get_display_node_id(self.node_id)})


async def _run_node(run: NodeRun) -> tuple[ExecutionResult, Any, Any]:
    node = run.dynprompt.get_node(run.node_id)
    class_def = nodes.NODE_CLASS_MAPPINGS[node["class_type"]]
    kept = await settle(run.caches.outputs.get(run.node_id))
    if kept is not None:
        _, ui = run.caches.split(kept, run.node_id)
        if PROFILE.cache_entry and ui:
            run.ui_outputs[run.node_id] = ui
        run.send_executed(ui.get("output", {}))
        if PROFILE.progress:
            get_progress_state().finish_progress(run.node_id, **CONTEXT)
        return ExecutionResult.SUCCESS, None, None
    inputs: dict[str, Any] = {}
    try:
        result, inputs = await _step(run, node, class_def, inputs)
    except comfy.model_management.InterruptProcessingException as interrupted:
        logging.info("The job was interrupted")
        return (ExecutionResult.FAILURE,
                {"node_id": run.dynprompt.get_real_node_id(run.node_id)}, interrupted)
    except Exception as error:
        return ExecutionResult.FAILURE, _describe_error(run, error, inputs), error
    if result is ExecutionResult.SUCCESS:
        if PROFILE.progress:
            get_progress_state().finish_progress(run.node_id, **CONTEXT)
        run.executed.add(run.node_id)
    return result, None, None


def _describe_error(run: NodeRun, error: Exception, inputs: dict[str, Any]) -> dict[str, Any]:
    kind = type(error)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    text = str(error)
    is_oom = comfy.model_management.is_oom(error) if PROFILE.is_oom \
        else isinstance(error, comfy.model_management.OOM_EXCEPTION)
    logging.error("Node %s failed: %.300s", run.node_id, text)
    if is_oom:
        text += "\nThe job ran out of memory on your GPU: use a smaller image or batch."
        logging.error("Out of memory on the GPU, unloading all models")
        comfy.model_management.unload_all_models(**CONTEXT)
    return {
        "node_id": run.dynprompt.get_real_node_id(run.node_id), "exception_message": text + "\n",
        "exception_type": name, "traceback": traceback.format_tb(error.__traceback__),
        "current_inputs": {key: [value if isinstance(value, (int, float, str)) else str(value)
                                 for value in values]
                           for key, values in inputs.items()},
    }


async def _step(run: NodeRun, node: dict[str, Any], class_def: Any, inputs: dict[str, Any]
                ) -> tuple[ExecutionResult, dict[str, Any]]:
    """One visit of a node: first, after its tasks, or after its sub-graph."""
    ui: dict[str, Any] = {}
    if run.node_id in run.subgraphs:
        outputs = await _collect_subgraph(run, class_def)
    elif run.node_id in run.tasks:
        results = [call.task.result() if isinstance(call, calls.PendingCall) else call
                   for call in run.tasks.pop(run.node_id)]
        outputs, ui, has_subgraph = calls.finish_output(results, class_def)
        if has_subgraph:
            return await _expand(run, outputs), inputs
    else:
        if PROFILE.progress:
            get_progress_state().start_progress(run.node_id, **CONTEXT)
        display = run.dynprompt.get_display_node_id(run.node_id)
        source = run.execution_list if PROFILE.cache_entry else run.caches.outputs
        found = current("get_input_data")(node["inputs"], class_def, run.node_id, source,
                                          run.dynprompt, run.extra_data)
        inputs.update(found[0])
        missing = found[1]
        if run.server.client_id is not None:
            run.server.last_node_id = display
            run.send("executing", {"node": run.node_id, "display_node": display,
                                   "prompt_id": run.prompt_id})
        obj = await settle(run.caches.objects.get(run.node_id))
        if obj is None:
            obj = class_def()
            await settle(run.caches.objects.set(run.node_id, obj))
        if await _wants_lazy(run, obj, inputs, missing):
            return ExecutionResult.PENDING, inputs
        outputs, ui, has_subgraph, has_tasks = await _call_node(run, obj, inputs)
        if has_tasks:
            run.tasks[run.node_id] = outputs
            _wait_outside(run, outputs)
            return ExecutionResult.PENDING, inputs
        if has_subgraph:
            _send_ui(run, ui)
            return await _expand(run, outputs), inputs
    entry = _send_ui(run, ui)
    await run.caches.store(run.node_id, outputs, entry)
    return ExecutionResult.SUCCESS, inputs


def _send_ui(run: NodeRun, ui: dict[str, Any]) -> dict[str, Any]:
    if not ui:
        return {}
    display = run.dynprompt.get_display_node_id(run.node_id)
    entry = {"output": ui, "meta": {
        "node_id": run.node_id, "display_node": display,
        "parent_node": run.dynprompt.get_parent_node_id(run.node_id),
        "real_node_id": run.dynprompt.get_real_node_id(run.node_id)}}
    run.ui_outputs[run.node_id] = entry
    run.send_executed(ui)
    return entry


async def _wants_lazy(run: NodeRun, obj: Any, inputs: dict[str, Any], missing: set[str]) -> bool:
    """Asks the node which of its unread lazy inputs it needs; true if some must run first."""
    if not hasattr(obj, "check_lazy_status"):
        return False
    present = {**inputs, **{name: [None] for name in missing}}
    if PROFILE.style == "sync":
        asked = _map_node_over_list(obj, present, "check_lazy_status", allow_interrupt=True)
    else:
        asked = await _async_map_node_over_list(run.prompt_id, run.node_id, obj, present,
                                                "check_lazy_status", allow_interrupt=True)
    needed = {name for answer in asked if answer for name in answer} & missing
    for name in needed:
        run.execution_list.make_input_strong_link(run.node_id, name)
    if not needed:
        inputs.update({name: [None] for name in missing})
    return bool(needed)


async def _call_node(run: NodeRun, obj: Any, inputs: dict[str, Any]
                     ) -> tuple[Any, dict[str, Any], bool, bool]:
    def blocked(blocker: ExecutionBlocker) -> ExecutionBlocker:
        if blocker.message is None:
            return blocker
        run.server.send_sync("execution_error", {
            "prompt_id": run.prompt_id, "node_id": run.node_id,
            "node_type": run.dynprompt.get_node(run.node_id)["class_type"],
            "executed": list(run.executed), "exception_type": "ExecutionBlocked",
            "exception_message": f"Execution Blocked: {blocker.message}", "traceback": [],
            "current_inputs": [], "current_outputs": []}, run.server.client_id, **CONTEXT)
        return ExecutionBlocker(None)

    def before_call(index: int) -> None:
        GraphBuilder.set_default_prefix(run.node_id, index, 0)

    if PROFILE.style == "sync":
        return (*get_output_data(obj, inputs, execution_block_cb=blocked,
                                 pre_execute_cb=before_call), False)
    return await current("get_output_data")(run.prompt_id, run.node_id, obj, inputs,
                                            execution_block_cb=blocked,
                                            pre_execute_cb=before_call)


def _wait_outside(run: NodeRun, outputs: list[Any]) -> None:
    release = run.execution_list.add_external_block(run.node_id)
    tasks = [call.task for call in outputs if isinstance(call, calls.PendingCall)]

    async def wait() -> None:
        await asyncio.gather(*tasks, return_exceptions=True)
        release()

    asyncio.create_task(wait())


async def _expand(run: NodeRun, results: list[Any]) -> ExecutionResult:
    """Adds the node's sub-graphs to the job; their results are collected on the next visit."""
    for graph, values in results:
        if graph is None:
            continue
        for child_id, info in graph.items():
            run.dynprompt.add_ephemeral_node(child_id, info, run.node_id,
                                             info.get("override_display_id", run.node_id))
        for child_id, info in graph.items():
            if getattr(nodes.NODE_CLASS_MAPPINGS[info["class_type"]], "OUTPUT_NODE", False):
                run.execution_list.add_node(child_id)
        for value in values:
            if is_link(value):
                run.execution_list.add_strong_link(value[0], value[1], run.node_id)
    run.subgraphs[run.node_id] = results
    return ExecutionResult.PENDING


async def _collect_subgraph(run: NodeRun, class_def: Any) -> list[Any]:
    merged: list[tuple[Any, ...]] = []
    for graph, values in run.subgraphs.pop(run.node_id):
        resolved = []
        for value in values:
            if graph is not None and is_link(value):
                kept = await settle(run.caches.outputs.get(value[0]))
                resolved.append(run.caches.split(kept, value[0])[0][value[1]])
            else:
                resolved.append([value])
        merged.append(tuple(resolved))
    width = len(merged[0]) if merged else 0
    return [[item for result in merged for item in result[slot]] for slot in range(width)]


if PROFILE.style == "recursive":
    def recursive_execute(server, prompt, outputs, current_item, extra_data, executed, prompt_id,
                          outputs_ui, object_storage):
        return recursive.run_node(server, prompt, outputs, current_item, extra_data, executed,
                                  prompt_id, outputs_ui, object_storage, recursive_execute,
                                  get_input_data, get_output_data)
elif PROFILE.style == "sync":
    def execute(server, dynprompt, caches, current_item, extra_data, executed, prompt_id,
                execution_list, pending_subgraph_results):
        return drive(_run_node(NodeRun(server, dynprompt, caches, current_item, extra_data,
                                       executed, prompt_id, execution_list,
                                       pending_subgraph_results, {}, {})))
elif PROFILE.future:
    async def execute(server, dynprompt, caches, current_item, extra_data, executed, prompt_id,
                      execution_list, pending_subgraph_results, pending_async_nodes, *,
                      host_context):
        check_context(host_context)
        return await _run_node(NodeRun(server, dynprompt, caches, current_item, extra_data,
                                       executed, prompt_id, execution_list,
                                       pending_subgraph_results, pending_async_nodes, {}))
elif PROFILE.execute_args == 10:
    async def execute(server, dynprompt, caches, current_item, extra_data, executed, prompt_id,
                      execution_list, pending_subgraph_results, pending_async_nodes):
        return await _run_node(NodeRun(server, dynprompt, caches, current_item, extra_data,
                                       executed, prompt_id, execution_list,
                                       pending_subgraph_results, pending_async_nodes, {}))
elif PROFILE.execute_args == 11:
    async def execute(server, dynprompt, caches, current_item, extra_data, executed, prompt_id,
                      execution_list, pending_subgraph_results, pending_async_nodes, ui_outputs):
        return await _run_node(NodeRun(server, dynprompt, caches, current_item, extra_data,
                                       executed, prompt_id, execution_list,
                                       pending_subgraph_results, pending_async_nodes,
                                       ui_outputs))
else:
    async def execute(server, dynprompt, caches, current_item, extra_data, executed, prompt_id,
                      execution_list, pending_subgraph_results, pending_async_nodes, ui_outputs,
                      asset_manager):
        return await _run_node(NodeRun(server, dynprompt, caches, current_item, extra_data,
                                       executed, prompt_id, execution_list,
                                       pending_subgraph_results, pending_async_nodes,
                                       ui_outputs))


# ---- one prompt -----------------------------------------------------------------------------

class IsChangedCache:
    """Asks IS_CHANGED of the nodes that have it, before keys are made."""

    async def values(self, prompt_id: str, prompt: dict[str, Any]) -> dict[str, Any]:
        answers = {}
        for node_id, node in prompt.items():
            class_def = nodes.NODE_CLASS_MAPPINGS[node["class_type"]]
            if not hasattr(class_def, "IS_CHANGED"):
                continue
            inputs = calls.gather_inputs(node["inputs"], class_def, node_id, lambda _: None,
                                         None, {})[0]
            try:
                if PROFILE.style == "sync":
                    answers[node_id] = _map_node_over_list(class_def, inputs, "IS_CHANGED")
                else:
                    answers[node_id] = await _async_map_node_over_list(
                        prompt_id, node_id, class_def, inputs, "IS_CHANGED")
            except Exception as error:
                logging.warning("IS_CHANGED of node %s failed: %s", node_id, error)
                answers[node_id] = float("NaN")
        return answers


class _Executor:
    def __init__(self, server: Any) -> None:
        self.server = server
        self.asset_manager: Any = None
        self.reset()

    def reset(self) -> None:
        if PROFILE.style == "recursive":
            self.outputs: dict[str, Any] = {}   # this generation's whole cache
        else:
            self.caches = CacheSet()
        self.outputs_ui: dict[str, Any] = {}
        self.object_storage: dict[Any, Any] = {}
        self.old_prompt: dict[str, Any] = {}
        self.status_messages: list[Any] = []
        self.history_result: dict[str, Any] = {}
        self.success = True

    def add_message(self, event: str, data: dict[str, Any], broadcast: bool) -> None:
        if PROFILE.timestamps:
            data = {**data, "timestamp": int(time.time() * 1000)}
        self.status_messages.append((event, data))
        if self.server.client_id is not None or broadcast:
            self.server.send_sync(event, data, self.server.client_id, **CONTEXT)

    def handle_execution_error(self, prompt_id: str, prompt: dict[str, Any],
                               current_outputs: set[str], executed: set[str],
                               error: dict[str, Any], ex: Exception) -> None:
        node_id = error["node_id"]
        told = {"prompt_id": prompt_id, "node_id": node_id,
                "node_type": prompt[node_id]["class_type"], "executed": list(executed)}
        if isinstance(ex, comfy.model_management.InterruptProcessingException):
            self.add_message("execution_interrupted", told, broadcast=True, **CONTEXT)
            return
        told.update({key: error[key] for key in ("exception_message", "exception_type",
                                                 "traceback", "current_inputs")})
        told["current_outputs"] = list(current_outputs)
        self.add_message("execution_error", told, broadcast=False, **CONTEXT)

    def execute(self, prompt, prompt_id, extra_data={}, execute_outputs=[]):
        if PROFILE.style == "recursive":
            self._begin(prompt_id, extra_data)
            with torch.inference_mode():
                recursive.run_prompt(self, prompt, prompt_id, extra_data, execute_outputs,
                                     recursive_execute)
        elif PROFILE.style == "sync":
            drive(self._run(prompt, prompt_id, extra_data, execute_outputs))
        else:
            asyncio.run(self.execute_async(prompt, prompt_id, extra_data, execute_outputs))

    if PROFILE.style == "async":
        async def execute_async(self, prompt, prompt_id, extra_data={}, execute_outputs=[]):
            await self._run(prompt, prompt_id, extra_data, execute_outputs)

    def _begin(self, prompt_id: str, extra_data: dict[str, Any]) -> None:
        nodes.interrupt_processing(False)
        self.server.client_id = extra_data.get("client_id")
        self.status_messages = []
        self.add_message("execution_start", {"prompt_id": prompt_id}, broadcast=False, **CONTEXT)

    async def _run(self, prompt: dict[str, Any], prompt_id: str, extra_data: dict[str, Any],
                   execute_outputs: list[str]) -> None:
        self._begin(prompt_id, extra_data)
        with torch.inference_mode():
            dynprompt = DynamicPrompt(prompt)
            if PROFILE.progress:
                reset_progress_state(prompt_id, dynprompt)
                add_progress_handler(WebUIProgressHandler(self.server))
            changed = await IsChangedCache().values(prompt_id, prompt)
            for cache in self.caches.all:
                await cache.set_prompt(dynprompt, prompt.keys(), changed)
                cache.clean_unused()
            cached = [node_id for node_id in prompt
                      if await settle(self.caches.outputs.get(node_id)) is not None]
            comfy.model_management.cleanup_models_gc()
            self.add_message("execution_cached", {"nodes": cached, "prompt_id": prompt_id},
                             broadcast=False, **CONTEXT)
            ui_outputs: dict[str, Any] = {}
            if await self._run_nodes(prompt, prompt_id, extra_data, execute_outputs, dynprompt,
                                     ui_outputs):
                self.add_message("execution_success", {"prompt_id": prompt_id}, broadcast=False,
                                 **CONTEXT)
            for node_id in cached:
                entry = await settle(self.caches.outputs.get(node_id))
                ui = self.caches.split(entry, node_id)[1]
                if ui:
                    ui_outputs.setdefault(node_id, ui)
            self.history_result = {
                "outputs": {name: ui["output"] for name, ui in ui_outputs.items()},
                "meta": {name: ui["meta"] for name, ui in ui_outputs.items()}}
            self.server.last_node_id = None
            if comfy.model_management.DISABLE_SMART_MEMORY:
                comfy.model_management.unload_all_models(**CONTEXT)

    async def _run_nodes(self, prompt: dict[str, Any], prompt_id: str, extra_data: dict[str, Any],
                         execute_outputs: list[str], dynprompt: DynamicPrompt,
                         ui_outputs: dict[str, Any]) -> bool:
        executed: set[str] = set()
        more: list[Any] = [{}, {}, ui_outputs, self.asset_manager][:PROFILE.execute_args - 8]
        waiting = ExecutionList(dynprompt, self.caches.outputs.local_get)
        for node_id in execute_outputs:
            waiting.add_node(node_id)
        while not waiting.is_empty():
            node_id, error, ex = await waiting.stage_node_execution()
            if error is not None:
                self.handle_execution_error(prompt_id, prompt, dynprompt.all_node_ids(), executed,
                                            error, ex)
                return False
            result, error, ex = await settle(current("execute")(
                self.server, dynprompt, self.caches, node_id, extra_data, executed, prompt_id,
                waiting, *more, **CONTEXT))
            if self.caches.ui is not None and self.caches.ui.local_get(node_id) is not None:
                ui_outputs[node_id] = self.caches.ui.local_get(node_id)
            self.success = result != ExecutionResult.FAILURE
            if result == ExecutionResult.FAILURE:
                self.handle_execution_error(prompt_id, prompt, dynprompt.all_node_ids(), executed,
                                            error, ex)
                return False
            if result == ExecutionResult.PENDING:
                waiting.unstage_node_execution()
            else:
                waiting.complete_node_execution()
        return True


if PROFILE.style == "recursive":
    class PromptExecutor(_Executor):
        def __init__(self, server):
            super().__init__(server)
elif PROFILE.style == "sync":
    class PromptExecutor(_Executor):
        def __init__(self, server, lru_size=None):
            super().__init__(server)
elif PROFILE.future:
    class PromptExecutor(_Executor):
        def __init__(self, server, cache_type=False, cache_size=None):
            super().__init__(server)

        def add_message(self, event, data, broadcast, *, host_context):
            check_context(host_context)
            super().add_message(event, data, broadcast)

        def execute(self, prompt, prompt_id, extra_data={}, execute_outputs=[], *, host_context):
            check_context(host_context)
            super().execute(prompt, prompt_id, extra_data, execute_outputs)
elif PROFILE.asset_manager:
    class PromptExecutor(_Executor):
        def __init__(self, server, cache_type=False, cache_args=None, asset_manager=None):
            super().__init__(server)
            self.asset_manager = asset_manager
elif PROFILE.six_tuple:
    class PromptExecutor(_Executor):
        def __init__(self, server, cache_type=False, cache_args=None):
            super().__init__(server)
else:
    class PromptExecutor(_Executor):
        def __init__(self, server, cache_type=False, cache_size=None):
            super().__init__(server)


# Upstream has one class; who hooks it finds the methods on it, not on a base.
for _name in ("reset", "add_message", "handle_execution_error", "execute", "execute_async"):
    if hasattr(PromptExecutor, _name) and _name not in vars(PromptExecutor):
        setattr(PromptExecutor, _name, getattr(PromptExecutor, _name))


# ---- validation -----------------------------------------------------------------------------

if PROFILE.validate_args == 1:
    def validate_prompt(prompt):
        return check_prompt(prompt, None)
elif PROFILE.validate_args == 2:
    async def validate_prompt(prompt_id, prompt):
        return check_prompt(prompt, None)
elif PROFILE.future:
    async def validate_prompt(prompt_id, prompt, partial_execution_list=None, *, host_context):
        check_context(host_context)
        return check_prompt(prompt, partial_execution_list)
else:
    async def validate_prompt(prompt_id, prompt, partial_execution_list=None):
        return check_prompt(prompt, partial_execution_list)

# The minimal generation calls the same functions under names nobody hooks.
_hidden: dict[str, Any] = {}
if PROFILE.minimal:
    _hidden = {"execute": execute, "validate_prompt": validate_prompt,
               "get_output_data": get_output_data, "get_input_data": get_input_data}
    del execute, validate_prompt, get_output_data, get_input_data


def current(name: str) -> Any:
    """The function as it stands in this module now, hooked or not."""
    return globals().get(name) or _hidden[name]
