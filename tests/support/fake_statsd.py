"""A fake DogStatsD: a UDP or Unix datagram socket that can go and come back at the same address.

    with FakeStatsd() as dsd:                      # UDP on loopback; FakeStatsd(path) a Unix socket
        env["DD_DOGSTATSD_URL"] = dsd.url
        dsd.close_socket(); dsd.open_socket()      # gone, back
        dsd.count("comfymon.pipeline.received", signal="trace")   # sum of all that came
        dsd.gauge("comfymon.agent.up")                            # newest, None: never told
        dsd.problems                                # what was not as the protocol says

Everything that comes is held against the protocol (version 1.0): size of a datagram, form of a line, finite values.
"""

from __future__ import annotations

import math
import re
import socket
import threading
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

UDP_MAX, UNIX_MAX = 1432, 8192
LINE = re.compile(r"(comfymon\.[a-z]+\.[a-z_]+):(-?[0-9][0-9.e+]*)\|([gc])\|#([^|#\s]+)")


class Sample(NamedTuple):
    name: str
    kind: str
    value: float
    tags: Dict[str, str]


class FakeStatsd:
    def __init__(self, path: Optional[Path] = None) -> None:
        self.path = path
        self.port = 0
        self.samples: List[Sample] = []
        self.problems: List[str] = []
        self.datagrams = 0
        self.sizes: List[int] = []
        self._lock = threading.Lock()
        self._socket: Optional[socket.socket] = None
        self._thread: Optional[threading.Thread] = None
        self.open_socket()

    @property
    def url(self) -> str:
        return f"unix://{self.path}" if self.path else f"udp://127.0.0.1:{self.port}"

    def open_socket(self) -> None:
        if self.path:
            self.path.unlink(missing_ok=True)
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.bind(str(self.path))
        else:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            self._socket.bind(("127.0.0.1", self.port))
            self.port = self._socket.getsockname()[1]
        self._socket.settimeout(0.05)
        self._going = True
        self._thread = threading.Thread(target=self._serve, args=(self._socket,), daemon=True)
        self._thread.start()

    def close_socket(self, unlink: bool = False) -> None:
        """From now on senders are refused; what the kernel has taken before, and said so to them, is read first."""
        if self._socket and self.path:
            self._socket.shutdown(socket.SHUT_RD)
        elif self._socket:
            self._socket.connect(("127.0.0.1", 9))  # to the discard port: whoever else sends finds nobody
        self._going = False
        if self._thread:
            self._thread.join()
        if self._socket:
            self._socket.close()
        self._socket = None
        if unlink and self.path:
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        self.close_socket(unlink=True)

    def __enter__(self) -> "FakeStatsd":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def count(self, name: str, **tags: str) -> float:
        with self._lock:
            return math.fsum(s.value for s in self.samples if s.name == name and s.kind == "c" and has(s, tags))

    def gauge(self, name: str, **tags: str) -> Optional[float]:
        with self._lock:
            values = [s.value for s in self.samples if s.name == name and s.kind == "g" and has(s, tags)]
        return values[-1] if values else None

    def names(self) -> Dict[str, Sample]:
        with self._lock:
            return {s.name: s for s in self.samples}

    def _serve(self, sock: socket.socket) -> None:
        while True:
            try:
                datagram = sock.recv(65536)
                if datagram:
                    self._take(datagram)
                elif not self._going:
                    return
            except socket.timeout:
                if not self._going:
                    return
            except OSError:
                return

    def _take(self, datagram: bytes) -> None:
        with self._lock:
            self.datagrams += 1
            self.sizes.append(len(datagram))
            if len(datagram) > (UNIX_MAX if self.path else UDP_MAX):
                self.problems.append(f"a datagram of {len(datagram)} bytes")
            for line in datagram.decode("utf-8", "surrogateescape").split("\n"):
                match = LINE.fullmatch(line)
                if match is None:
                    self.problems.append(f"not a line: {line!r}")
                    continue
                name, value, kind, tags = match.groups()
                pairs = [tag.partition(":")[::2] for tag in tags.split(",")]
                if len({key for key, _ in pairs}) != len(pairs):
                    self.problems.append(f"a tag twice: {line!r}")
                self.samples.append(Sample(name, kind, float(value), dict(pairs)))


def has(sample: Sample, tags: Dict[str, str]) -> bool:
    return all(sample.tags.get(key) == value for key, value in tags.items())
