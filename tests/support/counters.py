"""Do the counters of `comfymon status --json` add up, and agree with the ledger?

    received = sent + sampled_out + queued + in_flight + dropped{} + rejected{}   at every moment

and once drained (queued and in_flight 0): received lies between what was acked or delivered and
what was issued, sent is what fake Datadog has of kept traces, sampled_out at least what it has of
rejected ones. From these it follows that the counters name every received span that is missing.
"""

from __future__ import annotations

from typing import Any, Dict, List, Set

from support.content import Key
from support.delivery import Delivery

PLAIN = ("received", "sent", "sampled_out", "queued", "in_flight")
GROUPS = ("dropped", "rejected")


def trace_counters(status: Dict[str, Any]) -> Dict[str, Any]:
    return status["signals"]["trace"]


def identity_problems(status: Dict[str, Any]) -> List[str]:
    """What is wrong with the identity itself; holds at every moment, drained or not."""
    counters = trace_counters(status)
    problems = []
    values = {name: counters.get(name) for name in PLAIN}
    for group in GROUPS:
        if not isinstance(counters.get(group), dict):
            return [f"{group} is {counters.get(group)!r}, not a map"]
        values.update({f"{group}.{k}": v for k, v in counters[group].items()})
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            problems.append(f"{name} is {value!r}")
    if problems:
        return problems
    total = sum(value for name, value in values.items() if name != "received")
    if values["received"] != total:
        problems.append(f"received {values['received']} is not the sum {total} of {values}")
    if counters.get("identity") is not True:
        problems.append(f"status says identity {counters.get('identity')!r}")
    return problems


def _last_priority(delivery: Delivery, key: Key) -> int:
    priorities = [item.priority for item in delivery.marks[key] if item.priority is not None]
    return max(priorities, default=1)


def check_counters(status: Dict[str, Any], acked: Set[Key], issued: Set[Key],
                   delivery: Delivery, allow_loss: bool) -> List[str]:
    """Every disagreement as a sentence; status must be read after the drain."""
    problems = identity_problems(status)
    if problems:
        return problems
    counters = trace_counters(status)
    lost = sum(sum(counters[group].values()) for group in GROUPS)
    if counters["queued"] or counters["in_flight"]:
        problems.append(f"not drained: queued {counters['queued']}, "
                        f"in_flight {counters['in_flight']}")
        return problems
    received = counters["received"]
    delivered = set(delivery.of)
    least = len(acked | delivered)
    if not least <= received <= len(issued):
        problems.append(f"received {received}, but {least} were acked or delivered and "
                        f"{len(issued)} issued")
    kept = {key for key in delivered if _last_priority(delivery, key) > 0}
    sure = {key for key in kept - delivery.refused
            if any(request.outcome == "answered" and not request.excused
                   for request in delivery.of[key])}
    if not len(sure) <= counters["sent"] <= len(kept):
        problems.append(f"sent {counters['sent']}, but {len(kept)} kept spans were delivered, "
                        f"{len(sure)} of them beyond doubt")
    if counters["sampled_out"] < len(delivered - kept):
        problems.append(f"sampled_out {counters['sampled_out']}, but {len(delivered - kept)} "
                        "rejected spans were delivered")
    if lost and not allow_loss:
        problems.append(f"{lost} spans dropped or rejected: {counters['dropped']} "
                        f"{counters['rejected']}")
    return problems
