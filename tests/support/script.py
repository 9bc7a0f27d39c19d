"""What the fake Datadog does with the next requests: a queue of Acts, then a default.

    script.queue(Act(status=503, times=3), Act(mode="reset_after_read"))
    script.always(Act(delay_s=0.2))          # what happens when the queue is empty

Modes (the reply is lost wherever the table says so; "not received" means no span is counted):

    ok                 answer `status` (default 200 with rate_by_service)
    reset_accept       RST as soon as the connection is accepted         not received
    close_accept       close as soon as the connection is accepted       not received
    hang_accept        accept and never read or answer                   not received
    close_before_read  close after the headers, body unread              not received
    slow_read          read the body at read_bps, then answer
    hang               read everything, never answer                     lost
    close_after_read   read everything, close                            lost
    reset_after_read   read everything, RST                              lost
    close_mid_reply    close in the middle of the status line            lost
    truncated          full headers, half of the reply body, close       lost
    garbage            answer bytes that are no HTTP                     lost
    bad_chunked        200 with an invalid chunked body                  lost
    huge               200 with reply_bytes of body                      lost
    slow_reply         200, one byte of the reply at a time, reply_bps   lost
    empty              200 with an empty body                            lost
    portal             200 with an HTML page (captive portal)            refused

Where the status line is still seen (STATUS_SHOWN) a status other than 2xx means refused.
"""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

AT_ACCEPT = ("reset_accept", "close_accept", "hang_accept")
LOST_MODES = ("hang", "close_after_read", "reset_after_read", "close_mid_reply", "truncated",
              "garbage", "bad_chunked", "huge", "slow_reply", "empty")
STATUS_SHOWN = ("truncated", "bad_chunked", "huge", "slow_reply", "empty")
MODES = ("ok", "close_before_read", "slow_read", "portal") + AT_ACCEPT + LOST_MODES


@dataclass
class Act:
    """One behaviour; plain data, so that it travels to a fake in another process as JSON."""

    status: int = 200
    mode: str = "ok"
    times: int = 1
    delay_s: float = 0.0
    retry_after: Optional[str] = None
    max_body: Optional[int] = None
    rates: Optional[Dict[str, float]] = None
    body: Optional[str] = None
    headers: Dict[str, str] = field(default_factory=dict)
    read_bps: int = 65536
    reply_bps: int = 10
    reply_bytes: int = 100_000_000
    path: str = "/v0.4/traces"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"unknown mode {self.mode!r}: one of {', '.join(MODES)}")

    def to_json(self) -> Dict[str, Any]:
        return dataclasses.asdict(self)


class Script:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: List[Act] = []
        self._default = Act()

    def queue(self, *acts: Act) -> None:
        """After what is queued already, behave like these, each `times` times."""
        with self._lock:
            self._queue.extend(dataclasses.replace(act) for act in acts if act.times > 0)

    def always(self, act: Act) -> None:
        """Forget the queue and behave like this until told otherwise."""
        with self._lock:
            self._queue.clear()
            self._default = dataclasses.replace(act)

    def clear(self) -> None:
        self.always(Act())

    def left(self) -> int:
        """How many queued behaviours have not been used yet."""
        with self._lock:
            return sum(act.times for act in self._queue)

    def _current(self) -> Act:
        return self._queue[0] if self._queue else self._default

    def _use(self) -> Act:
        act = self._current()
        if self._queue:
            act.times -= 1
            if act.times == 0:
                self._queue.pop(0)
        return act

    def take_at_accept(self) -> Optional[Act]:
        """The act for a connection just accepted, if the current one is of that kind."""
        with self._lock:
            return self._use() if self._current().mode in AT_ACCEPT else None

    def take(self, path: str) -> Act:
        """The act for a request; requests of other paths are answered normally."""
        with self._lock:
            act = self._current()
            if act.mode in AT_ACCEPT or path.startswith(act.path):
                return self._use()
            return Act()
