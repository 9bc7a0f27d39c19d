"""What a span is to the oracle: a key, and a hash of its content.

A span is a plain dict, as a test writes it or as it came out of a /v0.4/traces body:
trace_id (int, or 32 hex digits), span_id (int, or 16 hex digits), parent_id, service, name,
resource, type, start, duration (ns), error, meta (str -> str), metrics (str -> number).
Absent means 0 or empty.

The hash covers what the writer said and leaves out what the collector may add: see Rules.
Writer and fake Datadog must use equal Rules.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, NamedTuple, Optional, Tuple, Union

Span = Dict[str, Any]
Key = Tuple[int, int]

UNFINISHED_TAG = "comfymon.unfinished"
ADDED_KEYS = frozenset({
    "env", "version", "language", "runtime-id", "process_id", "_top_level",
    "_sampling_priority_v1", "comfymon.kept",
})


@dataclass(frozen=True)
class Rules:
    """Which parts of a span its hash covers.

    start, duration: False where the writer cannot know them (spans made through the probe).
    service: False where the collector fills it in from the probe's identity.
    ignore: tags and metrics that the collector may add; every `_dd.` key is left out as well.
    """

    start: bool = True
    duration: bool = True
    service: bool = True
    ignore: FrozenSet[str] = ADDED_KEYS

    def covers(self, key: str) -> bool:
        return not key.startswith("_dd.") and key not in self.ignore


STRICT = Rules()
LOOSE = Rules(start=False, duration=False, service=False)


class Mark(NamedTuple):
    """What the oracle keeps of a delivered span."""

    key: Key
    digest: bytes
    priority: Optional[int]
    unfinished: bool


def id_number(value: Union[int, str, None]) -> int:
    if isinstance(value, str):
        return int(value, 16)
    return value or 0


def span_key(span: Span) -> Key:
    """(128-bit trace id, span id). A span decoded from a chunk has its high half in 'tid'."""
    trace = id_number(span.get("trace_id"))
    high = span.get("tid")
    if high:
        trace |= int(high, 16) << 64
    return trace, id_number(span.get("span_id"))


def key_text(key: Key) -> str:
    return f"{key[0]:032x}/{key[1]:016x}"


def key_from_text(text: str) -> Key:
    trace, span = text.split("/")
    return int(trace, 16), int(span, 16)


def is_unfinished(span: Span) -> bool:
    return (span.get("meta") or {}).get(UNFINISHED_TAG) == "true"


def covered(span: Span, rules: Rules = STRICT) -> Dict[str, Any]:
    """The part of a span that its hash covers, in canonical types."""
    meta = span.get("meta") or {}
    metrics = span.get("metrics") or {}
    result: Dict[str, Any] = {
        "parent_id": id_number(span.get("parent_id")),
        "name": span.get("name") or "",
        "resource": span.get("resource") or "",
        "type": span.get("type") or "",
        "error": int(span.get("error") or 0),
        "meta": {k: v for k, v in meta.items() if rules.covers(k)},
        "metrics": {k: float(v) for k, v in metrics.items() if rules.covers(k)},
    }
    if rules.service:
        result["service"] = span.get("service") or ""
    if rules.start:
        result["start"] = span.get("start") or 0
    if rules.duration:
        result["duration"] = span.get("duration") or 0
    return result


def open_part(span: Span, rules: Rules = STRICT) -> Dict[str, Any]:
    """What is known of a span while it is open, so also of one that never finished."""
    result: Dict[str, Any] = {
        "parent_id": id_number(span.get("parent_id")),
        "name": span.get("name") or "",
        "resource": span.get("resource") or "",
    }
    if rules.start:
        result["start"] = span.get("start") or 0
    return result


def _digest(part: Dict[str, Any]) -> bytes:
    text = json.dumps(part, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def span_digest(span: Span, rules: Rules = STRICT) -> bytes:
    return _digest(covered(span, rules))


def open_digest(span: Span, rules: Rules = STRICT) -> bytes:
    return _digest(open_part(span, rules))


def mark(span: Span, priority: Optional[int], rules: Rules = STRICT) -> Mark:
    """The mark of a delivered span; an unfinished one is compared by its open part."""
    unfinished = is_unfinished(span)
    digest = open_digest(span, rules) if unfinished else span_digest(span, rules)
    return Mark(span_key(span), digest, priority, unfinished)
