"""Whoever listens behind COMFYMON_WEBHOOK_URL: keeps every request, answers as told.

    with HookReceiver() as hook:
        env["COMFYMON_WEBHOOK_URL"] = hook.url
        hook.always(Reply(503)); hook.script(Reply(429, {"Retry-After": "1"}))
        hook.refuse(); hook.reopen()              # nobody listens; back on the same port
        wait_until(lambda: len(hook.told()) == 3, 10)

A request is told when it was answered with a 2xx. Standard library only, loopback only.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional

HEAD_MAX = 64 * 1024


class Reply(NamedTuple):
    """A status with headers and body; `raw` are the bytes instead, sent as often as `repeat` says, at such pauses."""
    status: int = 204
    headers: Dict[str, str] = {}
    body: bytes = b""
    raw: Optional[bytes] = None
    repeat: int = 1
    pause_s: float = 0.0
    wait_s: float = 0.0


class Call(NamedTuple):
    path: str
    headers: Dict[str, str]  # names in lower case
    body: bytes
    at: float  # time.monotonic()
    status: int

    @property
    def job(self) -> Dict[str, Any]:
        return json.loads(self.body)

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]


def is_signed(call: Call, secret: str) -> bool:
    """As a receiver would check it."""
    said = dict(part.split("=", 1) for part in call.headers.get("comfymon-signature", "").split(",") if "=" in part)
    message = said.get("t", "").encode() + b"." + call.body
    good = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    return hmac.compare_digest(good, said.get("v1", "")) and said["t"] == call.headers.get("comfymon-timestamp")


class HookReceiver:
    def __init__(self, path: str = "/hook") -> None:
        self._path = path
        self._lock = threading.Lock()
        self._calls: List[Call] = []
        self._queue: Deque[Reply] = deque()
        self._always = Reply()
        self._special: Dict[str, Reply] = {}
        self._listener: Optional[socket.socket] = None
        self._open: List[socket.socket] = []
        self._port = 0
        self.reopen()

    def __enter__(self) -> "HookReceiver":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}{self._path}"

    @property
    def calls(self) -> List[Call]:
        with self._lock:
            return list(self._calls)

    def told(self) -> List[Call]:
        return [call for call in self.calls if 200 <= call.status < 300]

    def script(self, *replies: Reply) -> None:
        """For the next requests, one each."""
        with self._lock:
            self._queue.extend(replies)

    def always(self, reply: Reply) -> None:
        with self._lock:
            self._queue.clear()
            self._always = reply

    def for_prompt(self, prompt_id: str, reply: Reply) -> None:
        """Whenever it is this job's, before anything else."""
        with self._lock:
            self._special[prompt_id] = reply

    def refuse(self) -> None:
        with self._lock:
            listener, self._listener = self._listener, None
            conns, self._open = self._open, []
        for sock in [listener, *conns]:
            if sock is not None:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        if listener is not None:
            listener.close()

    close = refuse

    def reopen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(64)
        self._port = listener.getsockname()[1]
        with self._lock:
            self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.append(conn)
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn: socket.socket) -> None:
        try:
            conn.settimeout(30)
            with conn.makefile("rb") as stream:
                while self._exchange(conn, stream.readline, stream.read):
                    pass
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                if conn in self._open:
                    self._open.remove(conn)
            conn.close()

    def _exchange(self, conn: socket.socket, readline: Callable[[int], bytes], read: Callable[[int], bytes]) -> bool:
        first = readline(HEAD_MAX)
        if not first:
            return False
        headers: Dict[str, str] = {}
        for line in iter(lambda: readline(HEAD_MAX), b"\r\n"):
            if not line:
                return False
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        body = read(int(headers.get("content-length", "0")))
        if not first.startswith(b"POST "):  # the agent looks which server of a probe's process is ComfyUI
            conn.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return True
        with self._lock:
            reply = self._special.get(json.loads(body)["prompt_id"]) if self._special else None
            if reply is None:
                reply = self._queue.popleft() if self._queue else self._always
            status = reply.status if reply.raw is None else 0
            self._calls.append(Call(first.split()[1].decode(), headers, body, time.monotonic(), status))
        time.sleep(reply.wait_s)
        return self._answer(conn, reply)

    @staticmethod
    def _answer(conn: socket.socket, reply: Reply) -> bool:
        if reply.raw is not None:
            for _ in range(reply.repeat):
                conn.sendall(reply.raw)
                time.sleep(reply.pause_s)
            conn.shutdown(socket.SHUT_RDWR)
            return False
        lines = [f"HTTP/1.1 {reply.status} X", *(f"{k}: {v}" for k, v in reply.headers.items()),
                 f"Content-Length: {len(reply.body)}", "", ""]
        conn.sendall("\r\n".join(lines).encode() + reply.body)
        return True
