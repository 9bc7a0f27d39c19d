"""The oracle T0: what was promised against what fake Datadog received.

    ledger = Ledger(path)                  # path: synced JSONL, survives the writer's death
    ledger.issue([span, ...])              # before the span can reach the collector
    ledger.issue_open([span, ...])         # opened: may be delivered as unfinished
    ledger.ack([span, ...])                # the collector said: stored
    with ledger.kill():                    # around each kill -9 of the collector
        agent.kill9()
    ledger.check(dd.requests(), agent.status())     # raises LedgerError with the offenders

Spans are plain dicts (content.py); ids may be integers or hex. Three sets:

    issued     what the writer produced, with a hash of its content
    acked      what the collector confirmed as stored
    delivered  what fake Datadog answered 2xx to, plus what it read while the reply was lost

Checked, once everything is drained: acked within delivered within issued; equal hashes; each
span delivered once, except again after a reply that the script itself lost, and except the
spans of one request per kill (its reply was under way); counters add up. With allow_loss an
acked span may be missing if, and only if, the counters name as many dropped or rejected ones.

A writer in another process, in C as well, can append the same lines to the file; reload() reads
them: {"k":"issued","spans":[{...}]}, {"k":"open","spans":[{...}]},
{"k":"acked","keys":["32 hex digits/16 hex digits"]}, and, of a probe that is asked to outlive
its process, {"k":"held","keys":[...]}: an open span is in its table and must be delivered, as
finished or as unfinished; {"k":"lost","keys":[...]}: it said no, and counted.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Set, Tuple, Union

from support.content import (
    STRICT, Key, Rules, Span, covered, key_from_text, key_text, open_digest, span_digest,
    span_key,
)
from support.counters import check_counters
from support.delivery import Delivery, duplicates_not_excused
from support.record import Request

SHOWN = 20
KEPT_CONTENTS = 50_000


class LedgerError(AssertionError):
    """The ledger does not hold; the text has the summary and the first offenders."""


class Report:
    """What a check found: counts, and the offenders by kind (an empty dict: it holds)."""

    def __init__(self) -> None:
        self.counts: Dict[str, int] = {}
        self.violations: Dict[str, List[str]] = {}

    @property
    def ok(self) -> bool:
        return not self.violations

    def add(self, kind: str, texts: List[str]) -> None:
        if texts:
            self.violations[kind] = texts

    def __str__(self) -> str:
        lines = ["ledger holds" if self.ok else "LEDGER DOES NOT HOLD",
                 "  " + ", ".join(f"{k} {v}" for k, v in self.counts.items())]
        for kind, texts in self.violations.items():
            lines.append(f"  {kind}: {len(texts)}")
            lines += [f"    {text}" for text in texts[:SHOWN]]
            if len(texts) > SHOWN:
                lines.append(f"    ... and {len(texts) - SHOWN} more")
        return "\n".join(lines)


class Ledger:
    """See the module's text. Thread-safe; several processes may append to one file."""

    def __init__(self, path: Optional[Path] = None, rules: Rules = STRICT,
                 sync: bool = True) -> None:
        self.rules = rules
        self.issued: Dict[Key, bytes] = {}
        self.opened: Dict[Key, bytes] = {}
        self.acked: Set[Key] = set()
        self.held: Set[Key] = set()
        self.kills: List[Tuple[int, int]] = []
        self._contents: Dict[Key, Span] = {}
        self._sync = sync
        self._lock = threading.Lock()
        self._path = path
        self._file = None
        if path:
            if path.exists():
                self._load(path)
            self._file = open(path, "ab", buffering=0)

    def close(self) -> None:
        with self._lock:
            if self._file:
                self._file.close()
                self._file = None

    def _write(self, line: Dict[str, Any]) -> None:
        if self._file:
            self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            if self._sync:
                os.fdatasync(self._file.fileno())

    def _load(self, path: Path) -> None:
        raw = path.read_bytes()
        if raw and not raw.endswith(b"\n"):
            os.truncate(path, raw.rfind(b"\n") + 1)
        for text in raw.split(b"\n")[:-1]:
            self._apply(json.loads(text))

    def reload(self) -> None:
        """Read again what other processes have appended to the file."""
        assert self._path is not None
        self.read(self._path)

    def read(self, path: Path) -> None:
        """Take in the file of a process that may be dead; what it wrote half is left out."""
        with self._lock:
            for text in path.read_bytes().split(b"\n")[:-1]:
                self._apply(json.loads(text))

    def _apply(self, line: Dict[str, Any]) -> None:
        kind = line["k"]
        if kind == "acked":
            self.acked.update(key_from_text(text) for text in line["keys"])
        elif kind == "held":
            self.held.update(key_from_text(text) for text in line["keys"])
        elif kind == "lost":
            self.held.difference_update(key_from_text(text) for text in line["keys"])
        elif kind == "kill":
            if (line["from"], line["to"]) not in self.kills:
                self.kills.append((line["from"], line["to"]))
        elif kind in ("issued", "open"):
            self._take(kind, line["spans"])
        else:
            raise ValueError(f"unknown ledger line {kind!r}")

    def _take(self, kind: str, spans: List[Span]) -> None:
        for span in spans:
            key = span_key(span)
            self.opened[key] = open_digest(span, self.rules)
            if kind == "issued":
                self.issued[key] = span_digest(span, self.rules)
            if len(self._contents) < KEPT_CONTENTS or key in self._contents:
                self._contents[key] = span

    def _record(self, kind: str, spans: Iterable[Span]) -> None:
        batch = list(spans)
        with self._lock:
            self._write({"k": kind, "spans": batch})
            self._take(kind, batch)

    def issue(self, spans: Iterable[Span]) -> None:
        """These finished spans may reach the collector from now on."""
        self._record("issued", spans)

    def issue_open(self, spans: Iterable[Span]) -> None:
        """These spans were opened; each may be issued later, or delivered as unfinished."""
        self._record("open", spans)

    def ack(self, spans: Iterable[Union[Span, Key]]) -> None:
        """The collector has confirmed these spans as stored."""
        keys = [item if isinstance(item, tuple) else span_key(item) for item in spans]
        with self._lock:
            self._write({"k": "acked", "keys": [key_text(key) for key in keys]})
            self.acked.update(keys)

    @contextlib.contextmanager
    def kill(self) -> Iterator[None]:
        """Put this around each kill of the collector: it excuses one request in flight."""
        begin = time.monotonic_ns()
        yield
        self.killed(begin, time.monotonic_ns())

    def killed(self, begin: int, end: int) -> None:
        """The collector was killed, by itself or by another, between these monotonic times."""
        with self._lock:
            self._write({"k": "kill", "from": begin, "to": end})
            self.kills.append((begin, end))

    def verify(self, requests: Iterable[Request], status: Optional[Dict[str, Any]] = None,
               allow_loss: bool = False, in_flight_per_kill: int = 1) -> Report:
        """Compares the sets; never raises on a violation, see Report."""
        report = Report()
        with self._lock:
            delivery = Delivery(requests)
            self._check_sets(report, delivery, allow_loss)
            self._check_contents(report, delivery)
            twice = duplicates_not_excused(delivery, self.kills, in_flight_per_kill)
            report.add("delivered more than once", twice)
            if status is not None:
                expected = set(self.issued) | set(self.opened)
                promised = self.acked | self.held
                report.add("counters", check_counters(status, promised, expected, delivery,
                                                      allow_loss))
        return report

    def check(self, requests: Iterable[Request], status: Optional[Dict[str, Any]] = None,
              allow_loss: bool = False, in_flight_per_kill: int = 1) -> Report:
        """As verify, but a violation raises LedgerError. status: `comfymon status --json`."""
        report = self.verify(requests, status, allow_loss, in_flight_per_kill)
        if not report.ok:
            raise LedgerError(str(report))
        return report

    def _name(self, key: Key) -> str:
        span = self._contents.get(key)
        return f"{key_text(key)} {span.get('name', '?')}" if span else key_text(key)

    def _check_sets(self, report: Report, delivery: Delivery, allow_loss: bool) -> None:
        delivered = set(delivery.of)
        known = set(self.issued) | set(self.opened)
        missing = sorted(self.acked - delivered)
        report.counts = {
            "issued": len(self.issued), "opened only": len(known) - len(self.issued),
            "acked": len(self.acked), "held": len(self.held), "delivered": len(delivered), "missing": len(missing),
            "unfinished": sum(any(m.unfinished for m in marks) for marks in delivery.marks.values()),
            "requests": delivery.requests, "kills": len(self.kills),
            "repeated": delivery.repeated,
        }
        if not allow_loss:
            report.add("acked but never delivered", [self._name(key) for key in missing])
            report.add("open in the table, but delivered neither finished nor unfinished",
                       [self._name(key) for key in sorted(self.held - delivered)])
        report.add("acked but never issued",
                   [self._name(key) for key in sorted(self.acked - known)])
        report.add("delivered but never issued", [
            f"{self._name(key)} in request {delivery.of[key][0].number}"
            for key in sorted(delivered - known)])

    def _check_contents(self, report: Report, delivery: Delivery) -> None:
        altered: List[str] = []
        unfinished: List[str] = []
        finished: List[str] = []
        both: List[str] = []
        for key, marks in delivery.marks.items():
            if len({item.unfinished for item in marks}) > 1:
                both.append(self._name(key))
            for item in marks:
                if item.unfinished and key in self.issued and key in self.acked:
                    unfinished.append(self._name(key))
                elif item.unfinished and self.opened.get(key, item.digest) != item.digest:
                    altered.append(self._difference(key, delivery))
                elif not item.unfinished and self.issued.get(key, item.digest) != item.digest:
                    altered.append(self._difference(key, delivery))
                elif not item.unfinished and key in self.opened and key not in self.issued:
                    finished.append(self._name(key))
        report.add("content differs", altered)
        report.add("delivered as finished and as unfinished", both)
        report.add("finished and acked, delivered as unfinished", unfinished)
        report.add("only opened, delivered as finished", finished)

    def _difference(self, key: Key, delivery: Delivery) -> str:
        wrote, got = self._contents.get(key), delivery.span(key)
        if wrote is None or got is None:
            return self._name(key)
        left, right = covered(wrote, self.rules), covered(got, self.rules)
        differing = [f"{name}: {left[name]!r} became {right[name]!r}"
                     for name in left if left[name] != right[name]]
        return f"{self._name(key)} {'; '.join(differing)}"[:400]
