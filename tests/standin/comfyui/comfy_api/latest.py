"""The proposed official lifecycle handlers; only the generation that has them imports well.

One dispatcher thread calls handlers in order; what a handler raises is logged and forgotten.
"""
from __future__ import annotations

import logging
import queue
import threading
from dataclasses import dataclass
from typing import Any, Optional

from standin_profile import PROFILE

if not PROFILE.lifecycle:
    raise ImportError("this generation has no lifecycle handlers")


class ComfyExtension:
    async def on_load(self) -> None:
        pass

    async def get_node_list(self) -> list[Any]:
        return []


@dataclass(frozen=True)
class LifecycleEvent:
    prompt_id: str
    kind: str
    exception_message: Optional[str] = None
    exception_type: Optional[str] = None
    node_id: Optional[str] = None


class Handler:
    def on_queued(self, event: LifecycleEvent) -> None:
        pass

    def on_started(self, event: LifecycleEvent) -> None:
        pass

    def on_succeeded(self, event: LifecycleEvent) -> None:
        pass

    def on_failed(self, event: LifecycleEvent) -> None:
        pass

    def on_interrupted(self, event: LifecycleEvent) -> None:
        pass

    def on_cancelled(self, event: LifecycleEvent) -> None:
        pass


_handlers: list[Handler] = []
_events: "queue.Queue[LifecycleEvent]" = queue.Queue()


class ExecutionLifecycle:
    Handler = Handler

    async def register(self, handler: Handler) -> None:
        if not _handlers:
            threading.Thread(target=_dispatch, name="lifecycle", daemon=True).start()
        _handlers.append(handler)


def publish(kind: str, prompt_id: str, **more: Any) -> None:
    if _handlers:
        _events.put(LifecycleEvent(prompt_id, kind, **more))


def _dispatch() -> None:
    while True:
        event = _events.get()
        for handler in list(_handlers):
            try:
                getattr(handler, "on_" + event.kind)(event)
            except Exception:
                logging.exception("a lifecycle handler failed")
