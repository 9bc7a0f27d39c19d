"""What the fake Datadog received: in memory, and on request in a file that survives a crash.

A Request is written with all its marks, and synced, *before* it is answered; a second line
states the outcome after the answer. So the file never knows less than the collector does.
load(path) reads it back: a request without outcome counts as received with the reply lost.

Outcomes: "answered" (2xx, reply written in full), "lost" (body received in full, the sender
cannot know), "refused" (any other status, or a captive portal), "pending" (not over yet).
`excused`: the script itself made the outcome ambiguous, so a resend is the sender's duty.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional

from support.content import Mark, Span, key_from_text, key_text

PENDING, ANSWERED, LOST, REFUSED = "pending", "answered", "lost", "refused"


@dataclass
class Request:
    number: int
    time_ns: int
    path: str
    size: int
    sha256: str
    headers: Dict[str, str]
    marks: List[Mark] = field(default_factory=list)
    spans: List[Span] = field(default_factory=list)
    body: bytes = b""
    outcome: str = PENDING
    status: int = 0
    excused: bool = False
    done_ns: int = 0    # when its reply was over; 0 while it is not

    @property
    def delivered(self) -> bool:
        """Datadog has these spans: answered 2xx, or received while the reply was lost."""
        return self.outcome in (ANSWERED, LOST, PENDING)


def mark_to_json(item: Mark) -> List[Any]:
    return [key_text(item.key), item.digest.hex(), item.priority, int(item.unfinished)]


def mark_from_json(item: List[Any]) -> Mark:
    return Mark(key_from_text(item[0]), bytes.fromhex(item[1]), item[2], bool(item[3]))


def request_to_json(request: Request) -> Dict[str, Any]:
    return {
        "n": request.number, "t_ns": request.time_ns, "path": request.path,
        "bytes": request.size, "sha256": request.sha256, "headers": request.headers,
        "marks": [mark_to_json(item) for item in request.marks], "spans": request.spans,
        "outcome": request.outcome, "status": request.status, "excused": request.excused,
        "done_ns": request.done_ns,
    }


def request_from_json(line: Dict[str, Any]) -> Request:
    return Request(
        line["n"], line["t_ns"], line["path"], line["bytes"], line["sha256"], line["headers"],
        [mark_from_json(item) for item in line["marks"]], line["spans"], b"",
        line["outcome"], line["status"], line["excused"], line["done_ns"])


class Recorder:
    """Thread-safe list of requests. compact=True keeps marks only, for millions of spans."""

    def __init__(self, path: Optional[Path] = None, compact: bool = False) -> None:
        self._lock = threading.Lock()
        self._compact = compact
        self._requests: List[Request] = []
        self._next = 1
        if path and path.exists():
            cut_torn_line(path)
            self._requests = load(path)
            self._next = 1 + max((r.number for r in self._requests), default=0)
        self._file = open(path, "ab", buffering=0) if path else None

    def _append(self, line: Dict[str, Any]) -> None:
        if self._file:
            text = json.dumps(line, separators=(",", ":"), default=bytes.hex)
            self._file.write(text.encode() + b"\n")
            os.fdatasync(self._file.fileno())

    def add(self, path: str, headers: Dict[str, str], body: bytes, marks: List[Mark],
            spans: List[Span]) -> Request:
        digest = hashlib.sha256(body).hexdigest()
        with self._lock:
            request = Request(self._next, time.monotonic_ns(), path, len(body), digest, headers,
                              marks)
            self._next += 1
            if not self._compact:
                request.spans = spans
                request.body = body
            self._append(request_to_json(request))
            self._requests.append(request)
        return request

    def finish(self, request: Request, outcome: str, status: int, excused: bool) -> None:
        with self._lock:
            request.outcome, request.status, request.excused = outcome, status, excused
            request.done_ns = time.monotonic_ns()
            self._append({"n": request.number, "outcome": outcome, "status": status,
                          "excused": excused, "done_ns": request.done_ns})

    def requests(self, path: str = "/v0.4/traces") -> List[Request]:
        with self._lock:
            return [r for r in self._requests if r.path.startswith(path)]

    def close(self) -> None:
        with self._lock:
            if self._file:
                self._file.close()
                self._file = None


def cut_torn_line(path: Path) -> None:
    """Drops what follows the last newline, so that appending starts on a line of its own."""
    raw = path.read_bytes()
    if raw and not raw.endswith(b"\n"):
        os.truncate(path, raw.rfind(b"\n") + 1)


def load(path: Path) -> List[Request]:
    """The requests of a record file; a torn last line is a request never answered: left out."""
    requests: Dict[int, Request] = {}
    for raw in Path(path).read_bytes().split(b"\n")[:-1]:
        line = json.loads(raw)
        if "path" in line:
            requests[line["n"]] = request_from_json(line)
        else:
            request = requests[line["n"]]
            request.outcome, request.status = line["outcome"], line["status"]
            request.excused, request.done_ns = line["excused"], line["done_ns"]
    for request in requests.values():
        if request.outcome == PENDING:
            request.outcome, request.excused = LOST, True
    return list(requests.values())
