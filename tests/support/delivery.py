"""What was delivered, seen span by span, and which repeated deliveries are excused."""

from __future__ import annotations

from typing import Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from support.content import Key, Mark, Span, key_text, span_key
from support.record import Request

SLACK_NS = 5_000_000_000    # a body may be read this long after its sender was killed
RECORD_NS = 2_000_000_000   # a reply older than this must have been recorded before the kill


class Delivery:
    """Index of the delivered requests (2xx, or received while the reply was lost)."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self.of: Dict[Key, List[Request]] = {}
        self.marks: Dict[Key, Set[Mark]] = {}
        self.refused: Set[Key] = set()
        self.requests = 0
        for request in requests:
            if not request.delivered:
                self.refused.update(item.key for item in request.marks)
                continue
            self.requests += 1
            for item in request.marks:
                self.of.setdefault(item.key, []).append(request)
                self.marks.setdefault(item.key, set()).add(item)
        self.repeated = sum(len(found) - 1 for found in self.of.values())

    def span(self, key: Key) -> Optional[Span]:
        """The delivered span itself, unless only marks were kept."""
        for request in self.of.get(key, []):
            for span in request.spans:
                if span_key(span) == key:
                    return span
        return None


class Repeat(NamedTuple):
    """A request whose spans came again although its reply was not lost by the script."""

    first: Request
    again_ns: int
    keys: List[Key]


def _repeats(delivery: Delivery) -> Tuple[List[Repeat], List[str]]:
    found: Dict[int, Repeat] = {}
    inside: List[str] = []
    for key, requests in delivery.of.items():
        for first, again in zip(requests, requests[1:]):
            if first is again:
                inside.append(f"{key_text(key)} twice within request {first.number}")
            elif not first.excused:
                repeat = found.get(first.number, Repeat(first, again.time_ns, []))
                repeat.keys.append(key)
                found[first.number] = repeat._replace(
                    again_ns=min(repeat.again_ns, again.time_ns))
    return list(found.values()), inside


def in_flight_at(repeat: Repeat, begin: int, end: int) -> bool:
    """Could this request's reply have been under way at the kill between begin and end?"""
    done = repeat.first.done_ns
    return (repeat.first.time_ns - SLACK_NS <= end and begin <= repeat.again_ns
            and (done == 0 or begin - RECORD_NS <= done))


def duplicates_not_excused(delivery: Delivery, kills: List[Tuple[int, int]],
                           per_kill: int) -> List[str]:
    """Spans delivered again without a lost reply and without a kill of their own.

    Each kill excuses at most per_kill requests: in flight at the kill (begun before it, and
    answered no longer than RECORD_NS before it) and sent again after it. Kills are handed out in
    order of time, each to the request that was sent again first: this excuses as many as any
    other choice.
    """
    repeats, offenders = _repeats(delivery)
    waiting = sorted(repeats, key=lambda repeat: repeat.again_ns)
    for begin, end in sorted(kills):
        for _ in range(per_kill):
            for repeat in waiting:
                if in_flight_at(repeat, begin, end):
                    waiting.remove(repeat)
                    break
    for repeat in waiting:
        offenders += [f"{key_text(key)} in request {repeat.first.number} and again later"
                      for key in repeat.keys]
    return offenders
