"""Reading a /v0.4/traces request as Datadog's agent would, and naming all that is wrong with it.

    payload = read_payload(headers, body, rules)
    payload.error       why an agent answers 400, or ""
    payload.problems    what a strict receiver complains about (headers, types, limits, tags)
    payload.spans       decoded spans, each with 'tid' (high half of the trace id) of its chunk
    payload.marks       what the ledger compares
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

from support import msgpack
from support.content import STRICT, Mark, Rules, Span, mark

TEXT_LIMITS = {"service": 100, "name": 100, "resource": 5000, "type": 100}
KNOWN_FIELDS = {
    "service", "name", "resource", "type", "trace_id", "span_id", "parent_id", "start",
    "duration", "error", "meta", "metrics", "meta_struct", "span_links", "span_events",
}
MANDATORY_HEADERS = (
    "datadog-meta-lang", "datadog-meta-lang-version", "datadog-meta-tracer-version",
)
PRIORITY = "_sampling_priority_v1"
TID = re.compile(r"[0-9a-f]{16}\Z")


@dataclass
class Payload:
    error: str = ""
    chunks: int = 0
    duplicate_keys: int = 0
    problems: List[str] = field(default_factory=list)
    spans: List[Span] = field(default_factory=list)
    marks: List[Mark] = field(default_factory=list)


def check_headers(headers: Mapping[str, str], chunks: int) -> List[str]:
    """headers has lower case names."""
    problems = []
    if headers.get("content-type") != "application/msgpack":
        problems.append(f"Content-Type is {headers.get('content-type')!r}")
    if "content-length" not in headers:
        problems.append("Content-Length is missing")
    count = headers.get("x-datadog-trace-count", "")
    if not count.isdigit() or int(count) != chunks:
        problems.append(f"X-Datadog-Trace-Count is {count!r}, the body has {chunks} chunks")
    for name in MANDATORY_HEADERS:
        if not headers.get(name):
            problems.append(f"header {name} is missing")
    return problems


def _is_int(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value < high


def check_numbers(span: Span) -> List[str]:
    problems = []
    for name in ("trace_id", "span_id"):
        if not _is_int(span.get(name), 1, 1 << 64):
            problems.append(f"{name} is {span.get(name)!r}")
    if not _is_int(span.get("parent_id", 0), 0, 1 << 64):
        problems.append(f"parent_id is {span['parent_id']!r}")
    if not _is_int(span.get("start"), 1, 1 << 63):
        problems.append(f"start is {span.get('start')!r}")
    if not _is_int(span.get("duration"), 0, 1 << 63):
        problems.append(f"duration is {span.get('duration')!r}")
    if not _is_int(span.get("error", 0), 0, 2):
        problems.append(f"error is {span['error']!r}")
    return problems


def check_tags(span: Span) -> List[str]:
    problems = []
    meta = span.get("meta", {})
    metrics = span.get("metrics", {})
    if not isinstance(meta, dict) or not all(isinstance(v, str) for v in meta.values()):
        problems.append("meta is no map of strings")
    if not isinstance(metrics, dict):
        return problems + ["metrics is no map"]
    for key, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            problems.append(f"metric {key} is {value!r}")
        elif not math.isfinite(value):
            problems.append(f"metric {key} is not finite")
    return problems


def fatal_problems(span: Any) -> List[str]:
    """What makes an agent refuse the request that carries this span."""
    if not isinstance(span, dict):
        return [f"a span is {type(span).__name__}, not a map"]
    return check_numbers(span) + check_tags(span)


def text_problems(span: Span) -> List[str]:
    """What an agent would repair or cut, and a careful sender therefore never sends."""
    problems = []
    for name, limit in TEXT_LIMITS.items():
        text = span.get(name, "")
        if not isinstance(text, str):
            problems.append(f"{name} is {text!r}")
        elif len(text.encode()) > limit:
            problems.append(f"{name} has {len(text.encode())} bytes, limit {limit}")
        elif name in ("service", "name", "resource") and not text:
            problems.append(f"{name} is empty")
    unknown = sorted(set(span) - KNOWN_FIELDS)
    if unknown:
        problems.append(f"unknown fields {unknown}")
    return problems


def check_first(first: Span) -> List[str]:
    """The first span of a chunk carries the decision and the high half of the trace id."""
    problems = []
    priority = first.get("metrics", {}).get(PRIORITY)
    if priority not in (-1, 0, 1, 2):
        problems.append(f"first span has {PRIORITY} {priority!r}")
    elif priority > 0 and not re.match(r"-\d+\Z", first.get("meta", {}).get("_dd.p.dm", "")):
        problems.append("first span of a kept chunk has no _dd.p.dm")
    tid = first.get("meta", {}).get("_dd.p.tid")
    if tid is not None and not TID.match(tid):
        problems.append(f"_dd.p.tid is {tid!r}")
    return problems


def _priority(first: Span) -> Optional[int]:
    value = first.get("metrics", {}).get(PRIORITY)
    return int(value) if isinstance(value, (int, float)) else None


def _read_chunk(payload: Payload, chunk: Any, rules: Rules) -> None:
    if not isinstance(chunk, list) or not chunk:
        payload.problems.append("a chunk is no array, or an empty one")
        payload.error = payload.error or "chunk is not an array of spans"
        return
    fatal = [text for span in chunk for text in fatal_problems(span)]
    if fatal:
        payload.problems += fatal
        payload.error = payload.error or fatal[0]
        return
    for span in chunk:
        payload.problems += text_problems(span)
    payload.problems += check_first(chunk[0])
    if len({span["trace_id"] for span in chunk}) != 1:
        payload.problems.append("a chunk has spans of several traces")
    if len({span["span_id"] for span in chunk}) != len(chunk):
        payload.problems.append("a chunk has a span id twice")
    tid = chunk[0].get("meta", {}).get("_dd.p.tid", "")
    priority = _priority(chunk[0])
    for span in chunk:
        span["tid"] = tid if TID.match(tid) else ""
        payload.spans.append(span)
        payload.marks.append(mark(span, priority, rules))


def read_payload(headers: Mapping[str, str], body: bytes, rules: Rules = STRICT) -> Payload:
    payload = Payload()
    try:
        value, payload.duplicate_keys = msgpack.decode(body)
    except msgpack.MsgpackError as error:
        payload.error = f"msgpack: {error}"
        payload.problems.append(payload.error)
        return payload
    if not isinstance(value, list):
        payload.error = f"payload is {type(value).__name__}, not an array"
        payload.problems.append(payload.error)
        return payload
    payload.chunks = len(value)
    payload.problems += check_headers(headers, payload.chunks)
    if payload.duplicate_keys:
        payload.problems.append(f"{payload.duplicate_keys} map keys are repeated")
    for chunk in value:
        _read_chunk(payload, chunk, rules)
    return payload


def info_document() -> Dict[str, Any]:
    """What /info of an ordinary agent says, as far as a client reads it."""
    return {
        "version": "7.99.0",
        "endpoints": ["/v0.3/traces", "/v0.4/traces", "/v0.5/traces", "/v0.7/traces",
                      "/v0.6/stats", "/telemetry/proxy/", "/dogstatsd/v2/proxy",
                      "/profiling/v1/input"],
        "feature_flags": [],
        "client_drop_p0s": False,
        "span_meta_structs": True,
        "long_running_spans": True,
        "span_events": True,
        "config": {"receiver_port": 8126, "statsd_port": 8125},
    }
