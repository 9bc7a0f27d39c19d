"""A websocket client small enough to read: text frames in, pings answered, one thread."""
from __future__ import annotations

import base64
import json
import os
import socket
import struct
import threading
import time
from typing import Any, Callable, Optional


class WebSocket:
    """Collects what the server sends; `messages` holds decoded JSON in order of arrival."""

    def __init__(self, host: str, port: int, path: str, timeout_s: float = 10.0) -> None:
        self.messages: list[dict[str, Any]] = []
        self.binary_bytes = 0
        self.closed = False
        self._changed = threading.Condition()
        self._socket = socket.create_connection((host, port), timeout=timeout_s)
        self._rest = b""
        self._handshake(host, port, path)
        self._socket.settimeout(None)
        self._thread = threading.Thread(target=self._read, name="websocket", daemon=True)
        self._thread.start()

    def _handshake(self, host: str, port: int, path: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self._socket.recv(4096)
            if not piece:
                raise ConnectionError("the server closed during the websocket handshake")
            head += piece
        head, self._rest = head.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise ConnectionError(head.split(b"\r\n", 1)[0].decode("latin-1"))

    def _take(self, count: int) -> bytes:
        while len(self._rest) < count:
            piece = self._socket.recv(65536)
            if not piece:
                raise ConnectionError("closed")
            self._rest += piece
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def _frame(self) -> tuple[int, bytes, bool]:
        first, second = self._take(2)
        length = second & 0x7f
        if length == 126:
            (length,) = struct.unpack(">H", self._take(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self._take(8))
        return first & 0x0f, self._take(length), bool(first & 0x80)

    def _send_frame(self, opcode: int, data: bytes) -> None:
        mask = os.urandom(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack(
            ">BH", 0xfe, len(data))
        body = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        self._socket.sendall(bytes([0x80 | opcode]) + size + mask + body)

    def _read(self) -> None:
        parts, kind = b"", 0
        try:
            while True:
                opcode, data, last = self._frame()
                if opcode == 8:
                    break
                if opcode == 9:
                    self._send_frame(10, data)
                    continue
                kind = opcode or kind
                parts += data
                if last:
                    self._deliver(kind, parts)
                    parts = b""
        except OSError:
            pass
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def _deliver(self, kind: int, data: bytes) -> None:
        with self._changed:
            if kind == 1:
                self.messages.append(json.loads(data))
            else:
                self.binary_bytes += len(data)
            self._changed.notify_all()

    def send(self, message: Any) -> None:
        self._send_frame(1, json.dumps(message).encode())

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool],
                 timeout_s: float = 30.0) -> Optional[dict[str, Any]]:
        """The first message that is wanted, None when time is up or the server is gone."""
        end, seen = time.monotonic() + timeout_s, 0
        with self._changed:
            while True:
                for message in self.messages[seen:]:
                    if wanted(message):
                        return message
                seen = len(self.messages)
                left = end - time.monotonic()
                if self.closed or left <= 0:
                    return None
                self._changed.wait(left)

    def close(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()
        self._thread.join(5.0)
