"""A careless node that loads before everybody else and wraps what a monitor wraps.

Its wrappers name the parameters of the running generation one by one, as published nodes
do: they work today, and break whoever passes anything else.
"""
from __future__ import annotations

import inspect
from typing import Any, Callable

import comfy.model_management
import execution
import server

NODE_CLASS_MAPPINGS: dict[str, Any] = {}


def fixed(original: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function that takes exactly as many positional arguments as the original now."""
    parameters = inspect.signature(original).parameters.values()
    most = len([one for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD])
    names = {one.name for one in parameters}

    def taken(args: Any, kwargs: Any) -> None:
        if len(args) > most or not set(kwargs) <= names:
            raise TypeError(f"aaa_before knows {most} arguments, was given "
                            f"{len(args)} and {sorted(kwargs)}")

    if inspect.iscoroutinefunction(original):
        async def replaced(*args: Any, **kwargs: Any) -> Any:
            taken(args, kwargs)
            return await original(*args, **kwargs)
    else:
        def replaced(*args: Any, **kwargs: Any) -> Any:
            taken(args, kwargs)
            return original(*args, **kwargs)
    return replaced


def replace(owner: Any, name: str) -> None:
    original = getattr(owner, name, None)
    if original is not None:
        setattr(owner, name, fixed(original))


for _owner, _names in ((execution, ("execute", "get_output_data", "validate_prompt")),
                       (execution.PromptExecutor, ("execute", "add_message")),
                       (execution.PromptQueue, ("put", "get", "task_done")),
                       (server.PromptServer, ("send_sync",)),
                       (comfy.model_management, ("load_models_gpu",))):
    for _name in _names:
        replace(_owner, _name)
