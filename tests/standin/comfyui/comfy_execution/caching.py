"""Results kept from job to job, found by what a node is and all that leads to it."""
from __future__ import annotations

import inspect
import itertools
from typing import Any, NamedTuple, Optional

import nodes
from comfy_execution.graph_utils import is_link
from standin_profile import PROFILE


class CacheEntry(NamedTuple):
    """What caches.outputs holds in the generations that joined ui and outputs."""

    ui: dict[str, Any]
    outputs: list[Any]


_unequal = itertools.count()


def _mark(answer: Any) -> str:
    """What IS_CHANGED said, as text; NaN is equal to nothing, not even to last time's."""
    values = answer if isinstance(answer, list) else [answer]
    if any(value != value for value in values):
        return f"unequal {next(_unequal)}"
    return repr(answer)


class CacheKeySet:
    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}


class BasicCache:
    def __init__(self, by_id: bool = False) -> None:
        self._by_id = by_id
        self.cache: dict[Any, Any] = {}
        self.cache_key_set = CacheKeySet()
        self.dynprompt: Any = None
        self._changed: dict[str, Any] = {}

    async def set_prompt(self, dynprompt: Any, node_ids: Any, changed: dict[str, Any]) -> None:
        self.dynprompt, self._changed, self.cache_key_set = dynprompt, changed, CacheKeySet()
        for node_id in node_ids:
            self.key(node_id)

    def key(self, node_id: str) -> Any:
        if node_id not in self.cache_key_set.keys:
            self.cache_key_set.keys[node_id] = self._make_key(node_id)
        return self.cache_key_set.keys[node_id]

    def _make_key(self, node_id: str) -> Any:
        if not self.dynprompt.has_node(node_id):
            return None
        node = self.dynprompt.get_node(node_id)
        class_type = node["class_type"]
        if self._by_id:
            return (node_id, class_type)
        class_def = nodes.NODE_CLASS_MAPPINGS[class_type]
        hidden = class_def.INPUT_TYPES().get("hidden", {})
        own = node_id if ("UNIQUE_ID" in hidden.values()
                          or getattr(class_def, "NOT_IDEMPOTENT", False)) else None
        parts: list[Any] = [class_type, own, _mark(self._changed.get(node_id, False))]
        for name in sorted(node["inputs"]):
            value = node["inputs"][name]
            if is_link(value):
                # hash() keeps keys of deep chains short; a collision would need equal hashes
                # within one process, which tests do not provoke.
                parts.append((name, "link", hash(self.key(value[0])), value[1]))
            else:
                parts.append((name, "value", repr(value)))
        return tuple(parts)

    def clean_unused(self) -> None:
        used = set(self.cache_key_set.keys.values())
        self.cache = {key: value for key, value in self.cache.items() if key in used}

    def local_get(self, node_id: str) -> Any:
        return self.cache.get(self.key(node_id)) if self.dynprompt is not None else None

    def get(self, node_id: str) -> Any:
        return self.local_get(node_id)

    def set(self, node_id: str, value: Any) -> Any:
        self.cache[self.key(node_id)] = value

    def all_node_ids(self) -> set[str]:
        return {node_id for node_id in self.cache_key_set.keys if self.local_get(node_id) is not None}


class AsyncCache(BasicCache):
    async def get(self, node_id: str) -> Any:  # type: ignore[override]
        return self.local_get(node_id)

    async def set(self, node_id: str, value: Any) -> None:
        BasicCache.set(self, node_id, value)


class CacheSet:
    def __init__(self) -> None:
        made = AsyncCache if PROFILE.async_caches else BasicCache
        self.outputs = made()
        self.objects = made(by_id=True)
        self.all = [self.outputs, self.objects]
        self.ui: Optional[BasicCache] = None
        if not PROFILE.cache_entry:
            self.ui = made()
            self.all.insert(1, self.ui)

    def recursive_debug_dump(self) -> dict[str, Any]:
        return {"outputs": sorted(self.outputs.all_node_ids())}

    async def store(self, node_id: str, outputs: list[Any], ui: dict[str, Any]) -> None:
        if PROFILE.cache_entry:
            await settle(self.outputs.set(node_id, CacheEntry(ui, outputs)))
            return
        await settle(self.outputs.set(node_id, outputs))
        if ui and self.ui is not None:
            await settle(self.ui.set(node_id, ui))

    def split(self, entry: Any, node_id: str) -> tuple[list[Any], dict[str, Any]]:
        """(outputs, ui) of what outputs.get gave."""
        if PROFILE.cache_entry:
            return entry.outputs, entry.ui
        ui = self.ui.local_get(node_id) if self.ui is not None else None
        return entry, ui or {}


async def settle(value: Any) -> Any:
    """The value itself, or what it gives when awaited: one core for all generations."""
    return await value if inspect.isawaitable(value) else value
