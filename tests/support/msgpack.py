"""A strict msgpack decoder, and a small encoder for tests.

    value, duplicate_keys = decode(body)      # raises MsgpackError
    body = encode({"service": "x"})

Strict means: no trailing bytes, no reserved or extension types, map keys are strings, strings
are UTF-8, nesting is bounded, and a declared length is checked against the bytes that are
there before anything is built. A repeated map key keeps its last value and is counted.
Independent of any msgpack library on purpose: it is one half of the oracle.
"""

from __future__ import annotations

import struct
from typing import Any, List, Tuple

MAX_DEPTH = 32


class MsgpackError(ValueError):
    """The bytes are not one well formed msgpack document; the text says why and where."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.duplicates = 0

    def fail(self, why: str) -> MsgpackError:
        return MsgpackError(f"{why} at byte {self.at} of {len(self.data)}")

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise self.fail(f"{count} bytes declared, {len(self.data) - self.at} left")
        piece = self.data[self.at:end]
        self.at = end
        return piece

    def number(self, code: str, size: int) -> Any:
        return struct.unpack(code, self.take(size))[0]

    def text(self, count: int) -> str:
        try:
            return self.take(count).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.fail(f"string is not UTF-8 ({error.reason})") from error

    def array(self, count: int, depth: int) -> List[Any]:
        if count > len(self.data) - self.at:
            raise self.fail(f"array of {count} in {len(self.data) - self.at} bytes")
        return [self.value(depth + 1) for _ in range(count)]

    def map(self, count: int, depth: int) -> dict:
        if count * 2 > len(self.data) - self.at:
            raise self.fail(f"map of {count} in {len(self.data) - self.at} bytes")
        result: dict = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, str):
                raise self.fail(f"map key is {type(key).__name__}, not a string")
            result[key] = self.value(depth + 1)
        self.duplicates += count - len(result)
        return result

    def value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise self.fail(f"nested deeper than {MAX_DEPTH}")
        if self.at >= len(self.data):
            raise self.fail("value missing")
        tag = self.data[self.at]
        self.at += 1
        if tag <= 0x7F:
            return tag
        if tag <= 0x8F:
            return self.map(tag & 0x0F, depth)
        if tag <= 0x9F:
            return self.array(tag & 0x0F, depth)
        if tag <= 0xBF:
            return self.text(tag & 0x1F)
        if tag >= 0xE0:
            return tag - 0x100
        return self.long_value(tag, depth)

    def long_value(self, tag: int, depth: int) -> Any:
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if tag in _NUMBERS:
            return self.number(*_NUMBERS[tag])
        if tag in _STRINGS:
            return self.text(self.number(*_STRINGS[tag]))
        if tag in _BINARIES:
            return self.take(self.number(*_BINARIES[tag]))
        if tag in _ARRAYS:
            return self.array(self.number(*_ARRAYS[tag]), depth)
        if tag in _MAPS:
            return self.map(self.number(*_MAPS[tag]), depth)
        self.at -= 1
        raise self.fail(f"type 0x{tag:02x} is not allowed")


_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {
    0xCA: (">f", 4), 0xCB: (">d", 8),
    0xCC: (">B", 1), 0xCD: (">H", 2), 0xCE: (">I", 4), 0xCF: (">Q", 8),
    0xD0: (">b", 1), 0xD1: (">h", 2), 0xD2: (">i", 4), 0xD3: (">q", 8),
}
_BINARIES = {0xC4: (">B", 1), 0xC5: (">H", 2), 0xC6: (">I", 4)}
_STRINGS = {0xD9: (">B", 1), 0xDA: (">H", 2), 0xDB: (">I", 4)}
_ARRAYS = {0xDC: (">H", 2), 0xDD: (">I", 4)}
_MAPS = {0xDE: (">H", 2), 0xDF: (">I", 4)}


def decode(data: bytes) -> Tuple[Any, int]:
    """The one document in data, and how many map keys were repeated."""
    reader = _Reader(bytes(data))
    value = reader.value(0)
    if reader.at != len(reader.data):
        raise reader.fail(f"{len(reader.data) - reader.at} trailing bytes")
    return value, reader.duplicates


def _head(count: int, fix: int, fix_limit: int, wide: List[Tuple[int, str, int]]) -> bytes:
    if count < fix_limit:
        return bytes([fix | count])
    for tag, code, limit in wide:
        if count < limit:
            return bytes([tag]) + struct.pack(code, count)
    raise MsgpackError(f"length {count} is too large")


_STR = [(0xD9, ">B", 1 << 8), (0xDA, ">H", 1 << 16), (0xDB, ">I", 1 << 32)]
_BIN = [(0xC4, ">B", 1 << 8), (0xC5, ">H", 1 << 16), (0xC6, ">I", 1 << 32)]
_ARR = [(0xDC, ">H", 1 << 16), (0xDD, ">I", 1 << 32)]
_MAP = [(0xDE, ">H", 1 << 16), (0xDF, ">I", 1 << 32)]


def _integer(value: int) -> bytes:
    if 0 <= value < 0x80:
        return bytes([value])
    if -0x20 <= value < 0:
        return bytes([value + 0x100])
    if value >= 0:
        return b"\xcf" + struct.pack(">Q", value)
    return b"\xd3" + struct.pack(">q", value)


def encode(value: Any) -> bytes:
    """msgpack of None, bool, int, float, str, bytes, lists, tuples and maps."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        raw = value.encode("utf-8")
        return _head(len(raw), 0xA0, 32, _STR) + raw
    if isinstance(value, (bytes, bytearray)):
        return _head(len(value), 0, 0, _BIN) + bytes(value)
    if isinstance(value, (list, tuple)):
        return _head(len(value), 0x90, 16, _ARR) + b"".join(encode(item) for item in value)
    if isinstance(value, dict):
        parts = [encode(key) + encode(item) for key, item in value.items()]
        return _head(len(value), 0x80, 16, _MAP) + b"".join(parts)
    raise MsgpackError(f"cannot encode {type(value).__name__}")
