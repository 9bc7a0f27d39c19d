"""The executor of early 2024: each node first runs what it depends on, by recursion."""
from __future__ import annotations

import traceback
from typing import Any, Callable

import comfy.model_management
import nodes
from comfy_execution.graph_utils import is_link


def output_changed(prompt: dict[str, Any], old_prompt: dict[str, Any], outputs: dict[str, Any],
                   current_item: str) -> bool:
    """Drops the kept result of a node whose inputs, or whose ancestors, are not the same."""
    node, old = prompt[current_item], old_prompt.get(current_item)
    changed = old is None or current_item not in outputs or old["inputs"] != node["inputs"] \
        or old["class_type"] != node["class_type"] \
        or hasattr(nodes.NODE_CLASS_MAPPINGS[node["class_type"]], "IS_CHANGED")
    for value in node["inputs"].values():
        if is_link(value):
            changed = output_changed(prompt, old_prompt, outputs, value[0]) or changed
    if changed:
        outputs.pop(current_item, None)
    return changed


def run_node(server: Any, prompt: dict[str, Any], outputs: dict[str, Any], current_item: str,
             extra_data: dict[str, Any], executed: set[str], prompt_id: str,
             outputs_ui: dict[str, Any], object_storage: dict[Any, Any],
             recurse: Callable[..., Any], get_input_data: Callable[..., Any],
             get_output_data: Callable[..., Any]) -> tuple[bool, Any, Any]:
    node = prompt[current_item]
    class_def = nodes.NODE_CLASS_MAPPINGS[node["class_type"]]
    if current_item in outputs:
        return True, None, None
    for value in node["inputs"].values():
        if is_link(value) and value[0] not in outputs:
            done, error, exception = recurse(server, prompt, outputs, value[0], extra_data,
                                             executed, prompt_id, outputs_ui, object_storage)
            if not done:
                return done, error, exception
    inputs: dict[str, Any] = {}
    try:
        inputs = get_input_data(node["inputs"], class_def, current_item, outputs, prompt,
                                extra_data)
        if server.client_id is not None:
            server.last_node_id = current_item
            server.send_sync("executing", {"node": current_item, "prompt_id": prompt_id},
                             server.client_id)
        key = (current_item, node["class_type"])
        if key not in object_storage:
            object_storage[key] = class_def()
        result, ui = get_output_data(object_storage[key], inputs)
        outputs[current_item] = result
        if ui:
            outputs_ui[current_item] = ui
            if server.client_id is not None:
                server.send_sync("executed", {"node": current_item, "output": ui,
                                              "prompt_id": prompt_id}, server.client_id)
    except comfy.model_management.InterruptProcessingException as interrupted:
        return False, {"node_id": current_item}, interrupted
    except Exception as error:
        kind = type(error)
        return False, {
            "node_id": current_item, "exception_message": str(error),
            "exception_type": kind.__name__ if kind.__module__ == "builtins"
            else f"{kind.__module__}.{kind.__name__}",
            "traceback": traceback.format_tb(error.__traceback__),
            "current_inputs": {name: [str(value)] for name, value in inputs.items()},
            "current_outputs": {name: str(value) for name, value in outputs.items()},
        }, error
    executed.add(current_item)
    return True, None, None


def run_prompt(executor: Any, prompt: dict[str, Any], prompt_id: str, extra_data: dict[str, Any],
               execute_outputs: list[str], recurse: Callable[..., Any]) -> None:
    """One whole prompt; the executor keeps outputs from prompt to prompt."""
    for node_id in [known for known in executor.outputs if known not in prompt]:
        del executor.outputs[node_id]
    for node_id in prompt:
        output_changed(prompt, executor.old_prompt, executor.outputs, node_id)
    executor.outputs_ui = {node_id: ui for node_id, ui in executor.outputs_ui.items()
                           if node_id in executor.outputs}
    comfy.model_management.cleanup_models_gc()
    executor.add_message("execution_cached", {"nodes": list(executor.outputs),
                                              "prompt_id": prompt_id}, broadcast=False)
    executed: set[str] = set()
    for node_id in execute_outputs:
        executor.success, error, ex = recurse(
            executor.server, prompt, executor.outputs, node_id, extra_data, executed, prompt_id,
            executor.outputs_ui, executor.object_storage)
        if not executor.success:
            executor.handle_execution_error(prompt_id, prompt, set(executor.outputs), executed,
                                            error, ex)
            break
    for node_id in executed:
        executor.old_prompt[node_id] = prompt[node_id]
    executor.history_result = {"outputs": dict(executor.outputs_ui)}
    executor.server.last_node_id = None
