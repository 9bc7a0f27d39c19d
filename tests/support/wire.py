"""The frames a probe sends and a collector answers, encoded a second time, in Python.

Layouts are those of schema/frame.h; a self test holds them against the C codec. Functions are
pure. Strings of a probe have one id for its life: class Strings keeps them.
"""

from __future__ import annotations

import struct
from typing import Any, Dict, Iterable, List, NamedTuple, Set, Tuple

from support.content import Span, id_number

SPAN, OPEN, LOSS, HOOK = 1, 2, 3, 4
ERROR, LOCAL_ROOT, REMOTE_PARENT, OPENED = 0x01, 0x02, 0x04, 0x08
PUBLISHED = 2
NO_PRIORITY = 127
OK, WANTED, MALFORMED = 0, 1, 2
TAG_STR, TAG_TEXT, TAG_I32, TAG_F64 = 0, 1, 2, 3
STRING_MAX = 1024
TEXT_MAX = 16 * 1024
FRAME_MAX = 512 * 1024
HANDSHAKE_PUSH = b"\0SP\0\0\x50\0\0"
HANDSHAKE_PULL = b"\0SP\0\0\x51\0\0"


def _crc_table() -> List[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    table = CRC_TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def sealed(frame: bytes, field: int) -> bytes:
    """The frame with the crc of the whole, taken with that field 0, put into the field."""
    crc = crc32c(frame[:field] + bytes(4) + frame[field + 4:])
    return frame[:field] + struct.pack("<I", crc) + frame[field + 4:]


class Strings:
    """Interned strings of one probe: the n-th has id n, from 1; the empty one is 0."""

    def __init__(self) -> None:
        self._ids: Dict[str, int] = {}
        self._texts: List[bytes] = [b""]

    def id(self, text: str) -> int:
        if not text:
            return 0
        if text not in self._ids:
            raw = text.encode()
            if len(raw) > STRING_MAX:
                raise ValueError(f"a string of {len(raw)} bytes cannot be interned")
            self._ids[text] = len(self._texts)
            self._texts.append(raw)
        return self._ids[text]

    def dictionary(self, ids: Iterable[int]) -> bytes:
        entries = []
        for number in sorted(set(ids) - {0}):
            raw = self._texts[number]
            entries.append(padded(struct.pack("<II", number, len(raw)) + raw))
        return b"".join(entries)


def _tag(key: int, kind: int, value: bytes, more: bytes = b"") -> bytes:
    return struct.pack("<I", key | kind << 28) + value + padded(more)


def encode_tags(span: Span, strings: Strings, used: Set[int]) -> Tuple[int, bytes]:
    """Count and bytes of the tags: texts inline, numbers as I32 where that is exact."""
    tags = []
    for name, text in (span.get("meta") or {}).items():
        key = strings.id(name)
        used.add(key)
        raw = text.encode()
        if len(raw) > TEXT_MAX:
            raise ValueError(f"tag {name} has {len(raw)} bytes")
        tags.append(_tag(key, TAG_TEXT, struct.pack("<I", len(raw)), raw))
    for name, number in (span.get("metrics") or {}).items():
        key = strings.id(name)
        used.add(key)
        if float(number).is_integer() and -2**31 <= number < 2**31:
            tags.append(_tag(key, TAG_I32, struct.pack("<i", int(number))))
        else:
            tags.append(_tag(key, TAG_F64, bytes(4), struct.pack("<d", number)))
    return len(tags), b"".join(tags)


def span_flags(span: Span) -> int:
    """span['flags'] if given, else what follows from parent and error."""
    flags = span.get("flags")
    if flags is None:
        flags = 0 if id_number(span.get("parent_id")) else LOCAL_ROOT
    return flags | (ERROR if span.get("error") else 0)


def encode_span(span: Span, kind: int, position: int, real_minus_mono: int, strings: Strings,
                used: Set[int]) -> bytes:
    """A whole SPAN or OPEN record; ids of its strings are added to used."""
    trace = id_number(span.get("trace_id"))
    names = [strings.id(span.get(field) or "") for field in ("service", "name", "resource", "type")]
    used.update(names)
    count, tags = encode_tags(span, strings, used)
    priority = span.get("priority", NO_PRIORITY)
    payload = struct.pack(
        "<6Q4IHbbHH", trace >> 64, trace & (2**64 - 1), id_number(span.get("span_id")),
        id_number(span.get("parent_id")), span["start"] - real_minus_mono,
        span.get("duration") or 0 if kind == SPAN else 0, *names, span_flags(span), priority,
        span.get("mechanism", NO_PRIORITY), count, len(tags) // 8) + tags
    return encode_record(payload, kind, position)


def encode_hook(name: str, state: int, position: int, strings: Strings, used: Set[int]) -> bytes:
    """A whole HOOK record: 0 attached, 1 missing, 2 of unknown shape, 3 detached."""
    number = strings.id(name)
    used.add(number)
    return encode_record(struct.pack("<II", number, state), HOOK, position)


def encode_record(payload: bytes, kind: int, position: int) -> bytes:
    head = struct.pack("<QIH", position, 24 + len(payload), kind)
    return head + struct.pack("<BBII", PUBLISHED, 0, crc32c(head + payload), 0) + payload


class Identity(NamedTuple):
    """Who a probe is, and the pair of clocks that all its frames carry."""

    probe_id: bytes
    boot_id: bytes
    pid: int
    start_ticks: int
    mono_ns: int
    real_ns: int


def encode_attrs(attrs: Dict[str, str]) -> bytes:
    parts = []
    for key, value in attrs.items():
        name, text = key.encode(), value.encode()
        parts.append(struct.pack("<HH", len(name), len(text)) + name + text)
    return b"".join(parts)


def encode_hello(who: Identity, acknowledged: int, head: int, attrs: Dict[str, str]) -> bytes:
    tail = encode_attrs(attrs)
    frame = b"CMH1" + struct.pack("<HH", 1, 0) + who.probe_id + who.boot_id + struct.pack(
        "<6QII", who.pid, who.start_ticks, acknowledged, head, who.mono_ns, who.real_ns,
        len(tail), 0) + tail
    return sealed(frame, 92)


def encode_batch(who: Identity, first: int, end: int, records: List[bytes], spans: int,
                 dictionary: bytes, losses: Tuple[int, ...] = (0,) * 8) -> bytes:
    body = b"".join(records)
    frame = b"CMB1" + struct.pack("<HH", 1, 0) + who.probe_id + who.boot_id + struct.pack(
        "<4Q8Q6I", first, end, who.mono_ns, who.real_ns, *losses, len(body), len(dictionary),
        len(records), spans, 0, 0) + body + dictionary
    return sealed(frame, 152)


class Stored(NamedTuple):
    probe_id: bytes
    end: int
    status: int


def decode_stored(frame: bytes) -> Stored:
    """A stored frame; ValueError if it is anything else."""
    if len(frame) != 40 or frame[:6] != b"CMS1\x01\0" or sealed(frame, 32) != frame:
        raise ValueError(f"no stored frame: {frame[:64].hex()}")
    status, = struct.unpack_from("<H", frame, 6)
    end, = struct.unpack_from("<Q", frame, 24)
    return Stored(frame[8:24], end, status)


def frame_message(body: bytes, length: Any = None) -> bytes:
    """SP over IPC: 01, big-endian length, body. A false length can be given."""
    return b"\x01" + struct.pack(">Q", len(body) if length is None else length) + body
