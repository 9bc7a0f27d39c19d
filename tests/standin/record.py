"""A custom node that writes down what a host does, call by call, in order.

Link it into custom_nodes of a real ComfyUI or of the stand-in with STANDIN_RECORD naming a
file: each line is one JSON object {role, call, node, state, keys}. Ids and values of a run
are left out, so that two recordings of the same scenario are equal. It changes nothing.
"""
from __future__ import annotations

import asyncio
import functools
import inspect
import json
import os
import sys
import threading
from typing import Any, Callable, Optional

NODE_CLASS_MAPPINGS: dict[str, Any] = {}

_lock = threading.Lock()
_path = os.environ.get("STANDIN_RECORD", "")
_main = threading.main_thread()


def write(call: str, node: Any = None, state: Any = None, keys: Any = None) -> None:
    thread = threading.current_thread()
    role = "loop" if thread is _main else "worker" if _is_worker(thread) else "other"
    line = {"role": role, "call": call}
    for name, value in (("node", node), ("state", state), ("keys", keys)):
        if value is not None:
            line[name] = value
    with _lock, open(_path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line, sort_keys=True) + "\n")


def _is_worker(thread: threading.Thread) -> bool:
    return "prompt_worker" in thread.name or thread.name in ("Thread-1", "Thread-2", "Thread-3")


def _bound(function: Callable[..., Any], args: Any, kwargs: Any) -> dict[str, Any]:
    return dict(inspect.signature(function).bind(*args, **kwargs).arguments)


def wrap(owner: Any, name: str, before: Optional[Callable[[dict[str, Any]], None]] = None,
         after: Optional[Callable[[dict[str, Any], Any], None]] = None) -> None:
    """Replaces owner.name if it is there; before and after see the arguments by name."""
    original = getattr(owner, name, None)
    if original is None:
        return
    if inspect.iscoroutinefunction(original):
        @functools.wraps(original)
        async def around(*args: Any, **kwargs: Any) -> Any:
            bound = _bound(original, args, kwargs)
            if before is not None:
                before(bound)
            result = await original(*args, **kwargs)
            if after is not None:
                after(bound, result)
            return result
    else:
        @functools.wraps(original)
        def around(*args: Any, **kwargs: Any) -> Any:
            bound = _bound(original, args, kwargs)
            if before is not None:
                before(bound)
            result = original(*args, **kwargs)
            if after is not None:
                after(bound, result)
            return result
    setattr(owner, name, around)


def _event(call: str) -> Callable[[dict[str, Any]], None]:
    def before(bound: dict[str, Any]) -> None:
        event, data = bound["event"], bound["data"]
        if not isinstance(data, dict):
            write(f"{call}:{event}")
            return
        state = None
        if event == "progress_state":
            state = {node: entry["state"] for node, entry in sorted(data["nodes"].items())}
        elif event == "execution_cached":
            state = sorted(data["nodes"])
        elif event == "progress":
            state = [data["value"], data["max"]]
        elif "exception_type" in data:
            state = data["exception_type"]
        write(f"{call}:{event}", data.get("node", data.get("node_id")), state, sorted(data))
    return before


def _node(call: str) -> Callable[[dict[str, Any]], None]:
    return lambda bound: write(call, bound["node_id"])


def _plain(call: str) -> Callable[[dict[str, Any]], None]:
    return lambda bound: write(call)


def _stage() -> None:
    """What a custom node sees while it is imported."""
    import comfy.utils
    import server

    try:
        asyncio.get_running_loop()
        looping = True
    except RuntimeError:
        looping = False
    app = server.PromptServer.instance.app
    write("import", state={
        "loop_runs": looping, "main_thread": threading.current_thread() is _main,
        "modules": [name for name in ("torch", "execution", "server", "nodes")
                    if name in sys.modules],
        "hook_is_none": comfy.utils.PROGRESS_BAR_HOOK is None,
        "worker_exists": any("prompt_worker" in thread.name for thread in threading.enumerate()),
        "app_frozen": app.frozen, "routes_added": any(
            route.resource is not None and route.resource.canonical == "/prompt"
            for route in app.router.routes()),
        "main_is_main_py": os.path.basename(
            getattr(sys.modules["__main__"], "__file__", "")) == "main.py",
        "name_is_path": os.path.isabs(__name__.replace("_x_", "."))})


def _attach() -> None:
    import comfy.model_management
    import comfy.sample
    import comfy.samplers
    import comfy.sd
    import comfy.utils
    import execution
    import server

    queue, executor = execution.PromptQueue, execution.PromptExecutor
    wrap(queue, "put", lambda bound: write("put", state=len(bound["item"])))
    wrap(queue, "get", None, lambda bound, result: write("get", state=len(result[0]))
         if result is not None else None)
    wrap(queue, "task_done", lambda bound: write(
        "task_done", state=[bound["status"].status_str, bound["status"].completed],
        keys=sorted(bound["history_result"]) if "history_result" in bound else None))
    wrap(queue, "delete_queue_item", _plain("delete_queue_item"))
    wrap(queue, "wipe_queue", _plain("wipe_queue"))
    wrap(executor, "execute", _plain("executor"), lambda bound, _: write(
        "executor_end", state=bound["self"].success))
    wrap(executor, "add_message", _event("message"))
    wrap(server.PromptServer, "send_sync", _event("send"))
    wrap(execution, "validate_prompt", _plain("validate"), lambda bound, result: write(
        "validate_end", state=[result[0], (result[1] or {}).get("type")]))
    wrap(execution, "execute", lambda bound: write("execute", bound["current_item"]),
         lambda bound, result: write(
             "execute_end", bound["current_item"],
             [result[0].name, type(result[2]).__name__ if result[2] is not None else None]))
    wrap(execution, "get_output_data", lambda bound: write(
        "get_output_data", bound.get("unique_id"), keys=sorted(bound["input_data_all"])))
    try:
        from comfy_execution.progress import ProgressRegistry
    except ImportError:
        pass
    else:
        wrap(ProgressRegistry, "start_progress", _node("start_progress"))
        wrap(ProgressRegistry, "update_progress", _node("update_progress"))
        wrap(ProgressRegistry, "finish_progress", _node("finish_progress"))
    wrap(comfy.model_management, "load_models_gpu", _plain("model.load_models_gpu"))
    wrap(comfy.model_management, "unload_all_models", _plain("unload_all_models"))
    wrap(comfy.utils, "load_torch_file", _plain("model.load_torch_file"))
    wrap(comfy.sd, "load_checkpoint_guess_config", _plain("model.load_checkpoint"))
    wrap(comfy.sd.CLIP, "encode_from_tokens", _plain("model.clip_encode"))
    wrap(comfy.sd.VAE, "decode", _plain("model.vae_decode"))
    wrap(comfy.sample, "sample", _plain("model.sample"))
    wrap(comfy.samplers.CFGGuider, "sample", _plain("model.guider_sample"))


if _path:
    _stage()
    _attach()
