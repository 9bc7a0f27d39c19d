"""The connections of the fake Datadog: HTTP/1.1 over TCP or a Unix socket, read by hand.

By hand because every fault of the script (reset, half a status line, bad chunks, slow reads)
must be made on the socket itself. One thread per connection. The owner gives a handler:

    handler.begin(path, headers) -> Act          which behaviour, before the body is read
    handler.receive(path, headers, body) -> (request, status, reply headers, reply body)
    handler.finish(request, outcome, status, excused)
    handler.at_accept() -> Act or None
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO, Dict, List, Optional, Tuple

from support.record import ANSWERED, LOST, REFUSED
from support.script import LOST_MODES, STATUS_SHOWN, Act

MAX_BODY = 64 << 20
IDLE_S = 300.0
SLOW_S = 1.0    # an answer later than this may have met a sender's timeout


class Gone(Exception):
    """The peer went away, or sent something that is no request."""


def reset(conn: socket.socket) -> None:
    """Close with RST (on a Unix socket: a plain close)."""
    if conn.family == socket.AF_INET:
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def peer_is_gone(conn: socket.socket) -> bool:
    """True if the peer has closed or reset: the reply would go nowhere. Never waits."""
    ready = select.poll()
    ready.register(conn, select.POLLIN | select.POLLRDHUP)
    if not ready.poll(0):
        return False
    try:
        return conn.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def read_head(stream: BinaryIO) -> Optional[Tuple[str, str, Dict[str, str]]]:
    """Method, path and headers (lower case names), or None at an orderly end."""
    line = stream.readline(65536)
    if not line:
        return None
    parts = line.decode("latin-1").split()
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise Gone("no request line")
    headers: Dict[str, str] = {}
    while True:
        line = stream.readline(65536)
        if line in (b"\r\n", b"\n"):
            return parts[0], parts[1], headers
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise Gone("no header line")
        headers[name.strip().lower()] = value.strip()


def read_exactly(stream: BinaryIO, size: int, bps: int = 0) -> bytes:
    pieces = []
    left = size
    while left:
        piece = stream.read(min(left, max(1, bps // 10)) if bps else left)
        if not piece:
            raise Gone("body cut short")
        pieces.append(piece)
        left -= len(piece)
        if bps:
            time.sleep(len(piece) / bps)
    return b"".join(pieces)


def read_chunked(stream: BinaryIO) -> bytes:
    body = b""
    while True:
        size = int(stream.readline(64).split(b";")[0] or b"0", 16)
        if size == 0:
            while stream.readline(65536) not in (b"\r\n", b"\n", b""):
                pass
            return body
        body += read_exactly(stream, size)
        stream.readline(8)


def read_body(conn: socket.socket, stream: BinaryIO, headers: Dict[str, str], act: Act) -> bytes:
    if headers.get("expect", "").lower() == "100-continue":
        conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return read_chunked(stream)
    size = int(headers.get("content-length", "0"))
    if size > MAX_BODY:
        raise Gone("body too large")
    return read_exactly(stream, size, act.read_bps if act.mode == "slow_read" else 0)


def reply_bytes(status: int, headers: Dict[str, str], body: bytes) -> bytes:
    """A whole reply; 204 and 304 have no body by definition."""
    if status in (204, 304):
        return head_bytes(status, headers)
    return head_bytes(status, {**headers, "Content-Length": str(len(body))}) + body


def head_bytes(status: int, headers: Dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Status"] + [f"{k}: {v}" for k, v in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def send_lost_reply(conn: socket.socket, act: Act, headers: Dict[str, str], body: bytes,
                    stop: threading.Event) -> None:
    """The replies that leave the sender in doubt; the connection is closed after each."""
    length = {"Content-Length": str(len(body))}
    if act.mode == "hang":
        while not stop.is_set() and not peer_is_gone(conn):
            time.sleep(0.05)
    elif act.mode == "reset_after_read":
        reset(conn)
    elif act.mode == "close_mid_reply":
        conn.sendall(b"HTTP/1.1 2")
    elif act.mode == "truncated":
        conn.sendall(head_bytes(act.status, {**headers, **length}) + body[:len(body) // 2])
    elif act.mode == "garbage":
        conn.sendall(b"\x15\x03\x01\x00\x02\x02\x46" + bytes(range(256)) * 4)
    elif act.mode == "bad_chunked":
        chunked = {**headers, "Transfer-Encoding": "chunked"}
        conn.sendall(head_bytes(act.status, chunked) + b"zz\r\n{}\r\n-1\r\n\r\n")
    elif act.mode == "huge":
        conn.sendall(head_bytes(act.status, {**headers, "Content-Length": str(act.reply_bytes)}))
        for _ in range(act.reply_bytes // 65536 + 1):
            conn.sendall(b"x" * 65536)
    elif act.mode == "slow_reply":
        for byte in head_bytes(act.status, {**headers, **length}) + body:
            if stop.is_set():
                return
            conn.sendall(bytes([byte]))
            time.sleep(1.0 / act.reply_bps)
    elif act.mode == "empty":
        conn.sendall(head_bytes(act.status, {**headers, "Content-Length": "0"}))


class HttpServer:
    """Listeners on loopback and/or a Unix socket that can be closed and opened again."""

    def __init__(self, handler: Any, port: Optional[int], unix: Optional[Path]) -> None:
        self._handler = handler
        self.port = port
        self.unix = unix
        self.host = "127.0.0.1"
        self.accepted = 0
        self._lock = threading.Lock()
        self._listeners: List[socket.socket] = []
        self._conns: List[socket.socket] = []
        self._stop = threading.Event()

    def open(self) -> None:
        """Listen; the port chosen the first time is kept for later openings."""
        listeners = []
        if self.port is not None:
            sock = socket.socket(socket.AF_INET)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self.host, self.port))
            self.port = sock.getsockname()[1]
            listeners.append(sock)
        if self.unix is not None:
            if os.path.lexists(self.unix):
                os.unlink(self.unix)
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(str(self.unix))
            listeners.append(sock)
        with self._lock:
            self._stop = threading.Event()
            self._listeners = listeners
        for sock in listeners:
            sock.listen(128)
            threading.Thread(target=self._accept, args=(sock, self._stop), daemon=True).start()

    def close(self) -> None:
        """Stop listening and drop every connection; further connects are refused."""
        with self._lock:
            self._stop.set()
            socks = self._listeners + self._conns
            listeners, self._listeners, self._conns = self._listeners, [], []
        for sock in socks:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for sock in listeners:
            sock.close()
        if listeners and self.unix is not None and os.path.lexists(self.unix):
            os.unlink(self.unix)

    def _accept(self, listener: socket.socket, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                if stop.is_set():
                    conn.close()
                    return
                self.accepted += 1
                self._conns.append(conn)
            threading.Thread(target=self._serve, args=(conn, stop), daemon=True).start()

    def _serve(self, conn: socket.socket, stop: threading.Event) -> None:
        try:
            conn.settimeout(IDLE_S)
            act = self._handler.at_accept()
            if act:
                self._at_accept(conn, act, stop)
                return
            with conn.makefile("rb") as stream:
                while not stop.is_set() and self._exchange(conn, stream, stop):
                    pass
        except (OSError, Gone, ValueError):
            pass
        finally:
            with self._lock:
                if conn in self._conns:
                    self._conns.remove(conn)
            conn.close()

    def _at_accept(self, conn: socket.socket, act: Act, stop: threading.Event) -> None:
        if act.mode == "reset_accept":
            reset(conn)
        while act.mode == "hang_accept" and not stop.is_set():
            ready = select.poll()
            ready.register(conn, select.POLLRDHUP)
            if ready.poll(50):
                return

    def _exchange(self, conn: socket.socket, stream: BinaryIO, stop: threading.Event) -> bool:
        """One request and its reply; False when the connection is over."""
        head = read_head(stream)
        if head is None:
            return False
        _, path, headers = head
        began = time.monotonic()
        act = self._handler.begin(path, headers)
        if act.mode.endswith("_accept") or act.mode == "close_before_read":
            self._at_accept(conn, act, stop)
            return False
        body = read_body(conn, stream, headers, act)
        request, status, extra, reply = self._handler.receive(path, headers, body, act)
        told = act.mode in STATUS_SHOWN and not 200 <= act.status < 300
        outcome, excused = REFUSED if told else LOST, True
        try:
            stop.wait(act.delay_s)
            if act.mode in LOST_MODES and status == act.status:
                send_lost_reply(conn, act, extra, reply, stop)
                return False
            outcome = self._answer(conn, act, status, extra, reply)
            excused = stop.is_set() or time.monotonic() - began > SLOW_S
        finally:
            self._handler.finish(request, outcome, status, excused)
        return outcome != LOST and headers.get("connection", "").lower() != "close"

    @staticmethod
    def _answer(conn: socket.socket, act: Act, status: int, extra: Dict[str, str],
                reply: bytes) -> str:
        """Writes a whole reply; the outcome is lost when the peer did not wait for it."""
        refused = not 200 <= status < 300 or act.mode == "portal"
        try:
            if peer_is_gone(conn):
                raise ConnectionResetError
            conn.sendall(reply_bytes(status, extra, reply))
        except OSError:
            return REFUSED if refused else LOST
        return REFUSED if refused else ANSWERED
