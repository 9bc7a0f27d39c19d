"""Keeps one function and puts it back, so that a custom node cannot replace it for good."""
from __future__ import annotations

from typing import Any

_GUARDED = (("comfy.model_management", "cast_to"),)
_saved: dict[tuple[str, str], Any] = {}


def save_functions() -> None:
    import importlib

    for module, name in _GUARDED:
        _saved[(module, name)] = getattr(importlib.import_module(module), name)


def restore_functions() -> None:
    import importlib

    for (module, name), function in _saved.items():
        setattr(importlib.import_module(module), name, function)
