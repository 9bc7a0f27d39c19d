"""Reads a ring file as schema/frame.h draws it: records, spans with their tags, attrs, open slots."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

SPAN, OPEN, HOOK = 1, 2, 4
PUBLISHED = 2
ERROR, LOCAL_ROOT, REMOTE_PARENT, OPENED = 0x1, 0x2, 0x4, 0x8


@dataclass
class Span:
    trace_id: int
    span_id: int
    parent_id: int
    start_ns: int
    duration_ns: int
    service: str
    name: str
    resource: str
    type: str
    flags: int
    priority: int
    mechanism: int
    meta: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def error(self) -> bool:
        return bool(self.flags & ERROR)


class Ring:
    def __init__(self, path: Path) -> None:
        self.bytes = path.read_bytes()
        if self.bytes[:8] != b"CMRING01":
            raise ValueError("not a ring")
        self.area, self.area_bytes = self._u64(72), self._u64(80)
        self.open, self.slots, self.slot_bytes = self._u64(88), self._u32(96), self._u32(100)
        self.head = self._u64(512)
        self.strings = list(self._strings(self._u64(104), self._u64(768)))

    def _u32(self, at: int) -> int:
        return int(struct.unpack_from("<I", self.bytes, at)[0])

    def _u64(self, at: int) -> int:
        return int(struct.unpack_from("<Q", self.bytes, at)[0])

    def _strings(self, at: int, used: int) -> Iterator[str]:
        end = at + used
        while at < end:
            size = self._u32(at)
            yield self.bytes[at + 8:at + 8 + size].decode()
            at += (8 + size + 7) & ~7

    def string(self, number: int) -> str:
        return self.strings[number - 1] if number else ""

    def attrs(self) -> dict[str, str]:
        at, end, found = 1024, 1024 + self._u32(136), {}
        while at < end:
            key, value = struct.unpack_from("<HH", self.bytes, at)
            text = self.bytes[at + 4:at + 4 + key + value].decode()
            found[text[:key]] = text[key:]
            at += 4 + key + value
        return found

    def records(self) -> Iterator[tuple[int, bytes]]:
        position = 0
        while position < self.head:
            at = self.area + position % self.area_bytes
            left = self.area_bytes - position % self.area_bytes
            if left < 24:
                position += left
                continue
            where, length, kind, state = struct.unpack_from("<QIHB", self.bytes, at)
            if where != position or state != PUBLISHED:
                raise ValueError(f"no record at {position}")
            yield kind, self.bytes[at + 24:at + length]
            position += length

    def spans(self, kind: int = SPAN) -> list[Span]:
        return [self._span(payload) for found, payload in self.records() if found == kind]

    def hooks(self) -> dict[str, int]:
        found = {}
        for kind, payload in self.records():
            if kind == HOOK:
                name, state = struct.unpack_from("<II", payload)
                found[self.string(name)] = state
        return found

    def open_slots(self) -> list[Span]:
        found = []
        for i in range(self.slots):
            at = self.open + i * self.slot_bytes
            if self._u32(at) == 2:
                found.append(self._span(self.bytes[at + 32:at + 32 + self._u32(at + 4)]))
        return found

    def _span(self, p: bytes) -> Span:
        hi, lo, span_id, parent, start, duration = struct.unpack_from("<6Q", p)
        service, name, resource, kind, flags, priority, mechanism, count, words = struct.unpack_from("<4IHbbHH", p, 48)
        span = Span(hi << 64 | lo, span_id, parent, start, duration, self.string(service), self.string(name),
                    self.string(resource), self.string(kind), flags, priority, mechanism)
        self._tags(p[72:72 + words * 8], span)
        if len(span.meta) + len(span.metrics) != count:
            raise ValueError(f"{count} tags, found {span.meta} {span.metrics}")
        return span

    def _tags(self, p: bytes, span: Span) -> None:
        at = 0
        while at < len(p):
            word, value = struct.unpack_from("<II", p, at)
            key, kind = self.string(word & 0x0FFFFFFF), word >> 28
            at += 8
            if kind == 0:
                span.meta[key] = self.string(value)
            elif kind == 1:
                span.meta[key] = p[at:at + value].decode()
                at += (value + 7) & ~7
            elif kind == 2:
                span.metrics[key] = float(struct.unpack("<i", struct.pack("<I", value))[0])
            else:
                span.metrics[key] = float(struct.unpack_from("<d", p, at)[0])
                at += 8


def rings(folder: str) -> list[Ring]:
    return [Ring(path) for path in sorted(Path(folder).glob("ring-*.cm"))]


def only(items: list[Any]) -> Any:
    if len(items) != 1:
        raise AssertionError(f"expected one, got {len(items)}: {items}")
    return items[0]
