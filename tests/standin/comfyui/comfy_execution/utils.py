"""Which node runs here: a context variable, so that overlapping async nodes are told apart."""
from __future__ import annotations

import contextvars
from contextlib import contextmanager
from typing import Iterator, NamedTuple, Optional


class ExecutionContext(NamedTuple):
    prompt_id: str
    node_id: str
    list_index: Optional[int]


_current: contextvars.ContextVar[Optional[ExecutionContext]] = contextvars.ContextVar(
    "standin_executing", default=None)


def get_executing_context() -> Optional[ExecutionContext]:
    return _current.get()


@contextmanager
def CurrentNodeContext(prompt_id: str, node_id: str,
                       list_index: Optional[int] = None) -> Iterator[None]:
    token = _current.set(ExecutionContext(prompt_id, node_id, list_index))
    try:
        yield
    finally:
        _current.reset(token)
