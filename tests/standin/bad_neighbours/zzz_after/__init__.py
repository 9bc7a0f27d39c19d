"""A careless node that loads after everybody else: it wraps twice and leaves no trail.

No functools.wraps, so names and signatures of what lies below are lost; every call passes
through two layers; and one callback of its own always fails.
"""
from __future__ import annotations

import inspect
from typing import Any, Callable

import comfy.model_management
import execution
import server

NODE_CLASS_MAPPINGS: dict[str, Any] = {}
calls: dict[str, int] = {}


def counted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(original):
        async def layer(*args: Any, **kwargs: Any) -> Any:
            calls[name] = calls.get(name, 0) + 1
            return await original(*args, **kwargs)
    else:
        # An awaitable that is no coroutine function ends here: handed on as it came.
        def layer(*args: Any, **kwargs: Any) -> Any:
            calls[name] = calls.get(name, 0) + 1
            return original(*args, **kwargs)
    return layer


def replace_twice(owner: Any, name: str) -> None:
    original = getattr(owner, name, None)
    if original is not None:
        setattr(owner, name, counted(name, counted(name, original)))


def broken_handler(json_data: Any) -> Any:
    raise RuntimeError("zzz_after always fails here")


for _owner, _names in ((execution, ("execute", "get_output_data", "validate_prompt")),
                       (execution.PromptExecutor, ("execute", "add_message")),
                       (execution.PromptQueue, ("put", "get", "task_done")),
                       (server.PromptServer, ("send_sync",)),
                       (comfy.model_management, ("load_models_gpu",))):
    for _name in _names:
        replace_twice(_owner, _name)
if hasattr(server.PromptServer, "add_on_prompt_handler"):
    server.PromptServer.instance.add_on_prompt_handler(broken_handler)
