"""The prompt queue: a heap of items, what runs, and the history of what ran."""
from __future__ import annotations

import copy
import heapq
import threading
from typing import Any, Callable, NamedTuple, Optional

from standin_profile import PROFILE, check_context

if PROFILE.lifecycle:
    from comfy_api.latest import publish
else:
    def publish(kind: str, prompt_id: str, **more: Any) -> None:
        """Nobody listens in this generation."""

MAXIMUM_HISTORY_SIZE = 10000
SECRETS = ("auth_token_comfy_org", "api_key_comfy_org")


class ExecutionStatus(NamedTuple):
    status_str: str
    completed: bool
    messages: list


class PromptQueue:
    ExecutionStatus = ExecutionStatus

    def __init__(self, server: Any) -> None:
        self.server = server
        self.mutex = threading.RLock()
        self.not_empty = threading.Condition(self.mutex)
        self.task_counter = 0
        self.queue: list[Any] = []
        self.currently_running: dict[int, Any] = {}
        self.history: dict[str, Any] = {}
        self.flags: dict[str, Any] = {}
        if PROFILE.style != "async":
            server.prompt_queue = self

    def put(self, item: Any) -> None:
        with self.mutex:
            heapq.heappush(self.queue, item)
            publish("queued", item[1])
            self.server.queue_updated()
            self.not_empty.notify()

    def get(self, timeout: Optional[float] = None) -> Optional[tuple[Any, int]]:
        with self.not_empty:
            while not self.queue:
                self.not_empty.wait(timeout=timeout)
                if timeout is not None and not self.queue:
                    return None
            item = heapq.heappop(self.queue)
            number = self.task_counter
            self.currently_running[number] = copy.deepcopy(item)
            self.task_counter += 1
            publish("started", item[1])
            self.server.queue_updated()
            return item, number

    def _finish(self, item_id: int, history_result: dict[str, Any], status: Any,
                process_item: Optional[Callable[[Any], Any]] = None) -> None:
        with self.mutex:
            item = self.currently_running.pop(item_id)
            if len(self.history) > MAXIMUM_HISTORY_SIZE:
                self.history.pop(next(iter(self.history)))
            if process_item is not None:
                item = process_item(item)
            for name in SECRETS:
                item[3].pop(name, None)
            entry = {"prompt": item, "outputs": {},
                     "status": copy.deepcopy(status._asdict()) if status is not None else None}
            entry.update(history_result)
            self.history[item[1]] = entry
            self.server.queue_updated()

    if PROFILE.process_item:
        def task_done(self, item_id: int, history_result: dict[str, Any], status: Any,
                      process_item: Optional[Callable[[Any], Any]] = None) -> None:
            self._finish(item_id, history_result, status, process_item)
    elif PROFILE.style == "recursive":
        def task_done(self, item_id: int, outputs: dict[str, Any], status: Any) -> None:
            self._finish(item_id, {"outputs": outputs}, status)
    else:
        def task_done(self, item_id: int, history_result: dict[str, Any], status: Any) -> None:
            self._finish(item_id, history_result, status)

    def get_current_queue(self) -> tuple[list[Any], list[Any]]:
        with self.mutex:
            return (list(self.currently_running.values()),
                    copy.deepcopy(self.queue))

    get_current_queue_volatile = get_current_queue

    def get_tasks_remaining(self) -> int:
        with self.mutex:
            return len(self.queue) + len(self.currently_running)

    def wipe_queue(self) -> None:
        with self.mutex:
            for item in self.queue:
                publish("cancelled", item[1])
            self.queue = []
            self.server.queue_updated()

    def delete_queue_item(self, function: Callable[[Any], bool]) -> bool:
        with self.mutex:
            for index, item in enumerate(self.queue):
                if function(item):
                    # As upstream: the last pending item goes by wipe_queue, with a status more.
                    if len(self.queue) == 1:
                        self.wipe_queue()
                    else:
                        publish("cancelled", self.queue.pop(index)[1])
                        heapq.heapify(self.queue)
                    self.server.queue_updated()
                    return True
        return False

    def get_history(self, prompt_id: Optional[str] = None, max_items: Optional[int] = None,
                    offset: int = -1) -> dict[str, Any]:
        with self.mutex:
            if prompt_id is not None:
                found = self.history.get(prompt_id)
                return {} if found is None else {prompt_id: copy.deepcopy(found)}
            names = list(self.history)
            if max_items is not None:
                start = offset if offset >= 0 else max(0, len(names) - max_items)
                names = names[start:start + max_items]
            return {name: copy.deepcopy(self.history[name]) for name in names}

    def wipe_history(self) -> None:
        with self.mutex:
            self.history = {}

    def delete_history_item(self, id_to_delete: str) -> None:
        with self.mutex:
            self.history.pop(id_to_delete, None)

    def set_flag(self, name: str, data: Any) -> None:
        with self.mutex:
            self.flags[name] = data
            self.not_empty.notify()

    def get_flags(self, reset: bool = True) -> dict[str, Any]:
        with self.mutex:
            flags = self.flags
            self.flags = {} if reset else dict(flags)
            return flags


def publish_end(prompt_id: str, status: ExecutionStatus) -> None:
    """The one terminal event of a job that has started; after task_done."""
    said = dict(status.messages)
    if "execution_interrupted" in said:
        publish("interrupted", prompt_id)
    elif status.completed:
        publish("succeeded", prompt_id)
    else:
        error = said.get("execution_error", {})
        publish("failed", prompt_id, **{key: error.get(key) for key in (
            "exception_message", "exception_type", "node_id")})


class FutureQueue(PromptQueue):
    """The same with a parameter no released version has."""

    def put(self, item: Any, *, host_context: Any) -> None:  # type: ignore[override]
        check_context(host_context)
        super().put(item)

    def get(self, timeout: Optional[float] = None, *,  # type: ignore[override]
            host_context: Any) -> Optional[tuple[Any, int]]:
        check_context(host_context)
        return super().get(timeout)

    def task_done(self, item_id: int, history_result: dict[str, Any],  # type: ignore[override]
                  status: Any, *, host_context: Any) -> None:
        check_context(host_context)
        super().task_done(item_id, history_result, status)


if PROFILE.future:
    FutureQueue.__name__ = FutureQueue.__qualname__ = "PromptQueue"
    PromptQueue = FutureQueue  # type: ignore[misc]
PromptQueue.__module__ = "execution"
