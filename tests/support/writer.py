"""A probe without ComfyUI: writes spans to the collector's socket and keeps the ledger.

    with Writer(agent.socket_path, ledger, {"service": "comfyui"}) as writer:
        writer.finish([{"trace_id": 1 << 64 | 7, "span_id": 1, "name": "x", "resource": "y",
                        "service": "s", "start": writer.now(), "duration": 5}])
        writer.flush(10)          # until all is stored; reconnects while the agent is away

It behaves as the probe's sender: hello, then batches that start where the last one ended; each
is kept until a stored frame covers it, and sent again from the position that the collector
names after a reconnect. Spans are issued in the ledger before their bytes leave and acked when
stored. There is no ring file: open spans of a closed writer are for the collector to close.
One thread only.
"""

from __future__ import annotations

import os
import secrets
import select
import socket
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Set

from support import wire
from support.content import Key, Span, span_key
from support.ledger import Ledger

BATCH_MAX = 200 * 1024


class WriterError(AssertionError):
    """The collector did not confirm in time, or answered nonsense."""


class Batch(NamedTuple):
    first: int
    end: int
    body: bytes
    keys: List[Key]


def own_identity() -> wire.Identity:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    stat = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
    return wire.Identity(secrets.token_bytes(16), bytes.fromhex(boot.strip().replace("-", "")),
                         os.getpid(), int(stat.rpartition(")")[2].split()[19]),
                         time.monotonic_ns(), time.time_ns())


class Writer:
    def __init__(self, path: Path, ledger: Optional[Ledger] = None,
                 attrs: Optional[Dict[str, str]] = None,
                 identity: Optional[wire.Identity] = None) -> None:
        self.who = identity or own_identity()
        self.refused: List[Batch] = []
        self.losses = (0,) * 8  # as the next batch says, in the order of wire_loss
        self.stored = 0
        self.head = 0
        self._path = path
        self._ledger = ledger
        self._attrs = attrs or {}
        self._strings = wire.Strings()
        self._unacked: List[Batch] = []
        self._sock: Optional[socket.socket] = None
        self._input = b""
        self._ready = False

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._sock:
            self._sock.close()
        self._sock = None
        self._input = b""
        self._ready = False

    def now(self) -> int:
        """The time of day as the collector will compute it from our clock pair."""
        return time.monotonic_ns() + self.who.real_ns - self.who.mono_ns

    @property
    def waiting(self) -> int:
        """Batches not yet confirmed."""
        return len(self._unacked)

    def open(self, spans: List[Span]) -> None:
        """Announce spans that have started: sent now if connected, else by the next flush."""
        if self._ledger:
            self._ledger.issue_open(spans)
        self._queue(spans, wire.OPEN)

    def finish(self, spans: List[Span]) -> None:
        """Hand over finished spans: sent now if connected, else by the next flush."""
        if self._ledger:
            self._ledger.issue(spans)
        self._queue(spans, wire.SPAN)

    def hooks(self, states: Dict[str, int]) -> None:
        """What became of "module:attribute": 0 attached, 1 missing, 2 of unknown shape, 3 detached."""
        records: List[bytes] = []
        used: Set[int] = set()
        first = self.head
        for name, state in states.items():
            records.append(wire.encode_hook(name, state, self.head, self._strings, used))
            self.head += len(records[-1])
        self._add(first, records, wire.HOOK, used, [])
        self.pump(0)

    def _queue(self, spans: List[Span], kind: int) -> None:
        records: List[bytes] = []
        used: Set[int] = set()
        keys: List[Key] = []
        first = self.head
        for span in spans:
            record = wire.encode_span(span, kind, self.head, self.who.real_ns - self.who.mono_ns,
                                      self._strings, used)
            records.append(record)
            keys.append(span_key(span))
            self.head += len(record)
            if self.head - first >= BATCH_MAX:
                self._add(first, records, kind, used, keys)
                first, records, used, keys = self.head, [], set(), []
        if records:
            self._add(first, records, kind, used, keys)
        self.pump(0)

    def _add(self, first: int, records: List[bytes], kind: int, used: Set[int],
             keys: List[Key]) -> None:
        count = len(records) if kind == wire.SPAN else 0
        body = wire.encode_batch(self.who, first, self.head, records, count,
                                 self._strings.dictionary(used), self.losses)
        batch = Batch(first, self.head, body, keys)
        self._unacked.append(batch)
        if self._ready:
            self._send(wire.frame_message(body))

    def _send(self, data: bytes) -> None:
        try:
            if self._sock:
                self._sock.sendall(data)
        except OSError:
            self.close()

    def connect(self) -> bool:
        """Handshake and hello; the unconfirmed batches follow when the answer has come."""
        self.close()
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(5)
        try:
            sock.connect(str(self._path))
            sock.sendall(wire.HANDSHAKE_PUSH)
            answer = b""
            while len(answer) < 8:
                piece = sock.recv(8 - len(answer))
                if not piece:
                    raise ConnectionResetError
                answer += piece
            if answer != wire.HANDSHAKE_PULL:
                raise WriterError(f"handshake answered {answer.hex()}")
            sock.sendall(self._greet())
        except OSError:
            sock.close()
            return False
        self._sock = sock
        return True

    def connect_blind(self) -> None:
        """Only the connection, no word: a peer that stays silent."""
        self.close()
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(str(self._path))

    def _greet(self) -> bytes:
        """What is said after the handshake."""
        return wire.frame_message(wire.encode_hello(self.who, self.stored, self.head, self._attrs))

    def pump(self, timeout: float) -> bool:
        """Take in what the collector says within timeout; False if there is no connection."""
        if not self._sock:
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        if not poll.poll(timeout * 1000):
            return True
        try:
            data = self._sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        self._input += data
        while len(self._input) >= 9:
            size = int.from_bytes(self._input[1:9], "big")
            if self._input[0] != 1 or size > wire.FRAME_MAX:
                raise WriterError(f"no message: {self._input[:32].hex()}")
            if len(self._input) < 9 + size:
                break
            frame, self._input = self._input[9:9 + size], self._input[9 + size:]
            self._take(wire.decode_stored(frame))
        return True

    def _take(self, stored: wire.Stored) -> None:
        if stored.probe_id != self.who.probe_id:
            raise WriterError("stored frame for another probe")
        if stored.end > self.head:
            raise WriterError(f"stored up to {stored.end}, only {self.head} was written")
        resume = not self._ready or stored.status == wire.WANTED
        self._ready = True
        self.stored = stored.end
        covered = [batch for batch in self._unacked if batch.end <= stored.end]
        self._unacked = self._unacked[len(covered):]
        if stored.status == wire.MALFORMED and covered:
            self.refused.append(covered.pop())
        if self._ledger and covered:
            self._ledger.ack([key for batch in covered for key in batch.keys])
        if resume:
            for batch in self._unacked:
                if batch.first >= stored.end:
                    self._send(wire.frame_message(batch.body))

    def flush(self, timeout: float) -> None:
        """Until every batch is confirmed, connecting as often as it takes."""
        deadline = time.monotonic() + timeout
        while self._unacked:
            if time.monotonic() > deadline:
                raise WriterError(f"{self.waiting} batches unconfirmed after {timeout} s, "
                                  f"stored {self.stored} of {self.head}")
            if not self._sock and not self.connect():
                time.sleep(0.02)
            self.pump(0.1)
