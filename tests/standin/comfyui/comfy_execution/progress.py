"""Progress of each node of the running job, told to handlers.

execution.py and main.py import the functions below by name, as upstream does:
replacing the module's attributes afterwards has no effect, patching the class has.
"""
from __future__ import annotations

from enum import Enum
from typing import Any, Optional

from standin_profile import CONTEXT, PROFILE, check_context


class NodeState(Enum):
    Pending = "pending"
    Running = "running"
    Finished = "finished"
    Error = "error"


class ProgressHandler:
    def __init__(self, name: str) -> None:
        self.name = name
        self.enabled = True

    def start_handler(self, node_id: str, state: dict[str, Any], prompt_id: str) -> None:
        pass

    def update_handler(self, node_id: str, value: float, max_value: float,
                       state: dict[str, Any], prompt_id: str, image: Any = None) -> None:
        pass

    def finish_handler(self, node_id: str, state: dict[str, Any], prompt_id: str) -> None:
        pass

    def reset(self) -> None:
        pass

    def enable(self) -> None:
        self.enabled = True

    def disable(self) -> None:
        self.enabled = False


class WebUIProgressHandler(ProgressHandler):
    """Sends the whole map of active nodes at each change."""

    def __init__(self, server_instance: Any) -> None:
        super().__init__("webui")
        self.server_instance = server_instance

    def _send(self, prompt_id: str) -> None:
        registry = global_progress_registry
        if registry is None:
            return
        active = {}
        for node_id, state in registry.nodes.items():
            if state["state"] == NodeState.Pending:
                continue
            active[node_id] = {
                "value": state["value"], "max": state["max"], "state": state["state"].value,
                "node_id": node_id, "prompt_id": prompt_id,
                "display_node_id": registry.dynprompt.get_display_node_id(node_id),
                "parent_node_id": registry.dynprompt.get_parent_node_id(node_id),
                "real_node_id": registry.dynprompt.get_real_node_id(node_id),
            }
        self.server_instance.send_sync("progress_state",
                                       {"prompt_id": prompt_id, "nodes": active},
                                       self.server_instance.client_id, **CONTEXT)

    def start_handler(self, node_id: str, state: dict[str, Any], prompt_id: str) -> None:
        self._send(prompt_id)

    def update_handler(self, node_id: str, value: float, max_value: float,
                       state: dict[str, Any], prompt_id: str, image: Any = None) -> None:
        self._send(prompt_id)

    def finish_handler(self, node_id: str, state: dict[str, Any], prompt_id: str) -> None:
        self._send(prompt_id)


class ProgressRegistry:
    def __init__(self, prompt_id: str, dynprompt: Any) -> None:
        self.prompt_id = prompt_id
        self.dynprompt = dynprompt
        self.nodes: dict[str, dict[str, Any]] = {}
        self.handlers: dict[str, ProgressHandler] = {}

    def register_handler(self, handler: ProgressHandler) -> None:
        self.handlers[handler.name] = handler

    def unregister_handler(self, handler_name: str) -> None:
        self.handlers.pop(handler_name, None)

    def ensure_entry(self, node_id: str) -> dict[str, Any]:
        return self.nodes.setdefault(node_id,
                                     {"state": NodeState.Pending, "value": 0, "max": 1})

    def _enabled(self) -> list[ProgressHandler]:
        return [handler for handler in self.handlers.values() if handler.enabled]

    def start_progress(self, node_id: str) -> None:
        entry = self.ensure_entry(node_id)
        entry.update(state=NodeState.Running, value=0.0, max=1.0)
        for handler in self._enabled():
            handler.start_handler(node_id, entry, self.prompt_id)

    def update_progress(self, node_id: str, value: float, max_value: float,
                        image: Any = None) -> None:
        entry = self.ensure_entry(node_id)
        entry.update(state=NodeState.Running, value=value, max=max_value)
        for handler in self._enabled():
            handler.update_handler(node_id, value, max_value, entry, self.prompt_id, image)

    def finish_progress(self, node_id: str) -> None:
        entry = self.ensure_entry(node_id)
        entry.update(state=NodeState.Finished, value=entry["max"])
        for handler in self._enabled():
            handler.finish_handler(node_id, entry, self.prompt_id)

    def reset_handlers(self) -> None:
        for handler in self.handlers.values():
            handler.reset()


class _FutureRegistry(ProgressRegistry):
    def start_progress(self, node_id: str, *, host_context: Any) -> None:
        check_context(host_context)
        super().start_progress(node_id)

    def update_progress(self, node_id: str, value: float, max_value: float, image: Any = None,
                        *, host_context: Any) -> None:
        check_context(host_context)
        super().update_progress(node_id, value, max_value, image)

    def finish_progress(self, node_id: str, *, host_context: Any) -> None:
        check_context(host_context)
        super().finish_progress(node_id)


if PROFILE.future:
    _FutureRegistry.__name__ = _FutureRegistry.__qualname__ = "ProgressRegistry"
    ProgressRegistry = _FutureRegistry  # type: ignore[misc]

_Registry = ProgressRegistry
if not PROFILE.progress:
    # The module is as old as this class: generations without it must not offer it to hooks.
    del ProgressRegistry

global_progress_registry: "Optional[_Registry]" = None


def reset_progress_state(prompt_id: str, dynprompt: Any) -> None:
    global global_progress_registry
    if global_progress_registry is not None:
        global_progress_registry.reset_handlers()
    global_progress_registry = _Registry(prompt_id, dynprompt)


def add_progress_handler(handler: ProgressHandler) -> None:
    get_progress_state().register_handler(handler)


def get_progress_state() -> "_Registry":
    global global_progress_registry
    if global_progress_registry is None:
        from comfy_execution.graph import DynamicPrompt

        global_progress_registry = _Registry("", DynamicPrompt({}))
    return global_progress_registry
