"""Cost of a span and of a hook from Python, against an empty `with` and the bare call, in nanoseconds.

Prints one JSON line for each figure, see report.py.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import timeit
from typing import Callable

sys.path.insert(0, os.path.join(os.environ.get("COMFYMON_BUILD", "build/release"), "node", "comfymon"))

import _comfymon  # noqa: E402
from report import report  # noqa: E402

CALLS, ROUNDS = 4000, 75  # short rounds: a quiet moment is enough
trace = _comfymon.trace


class Empty:
    def __enter__(self) -> "Empty":
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def bare(value: int) -> int:
    return value


empty, hooked = Empty(), trace("hooked")(bare)


def no_span() -> None:
    with empty:
        pass


def span() -> None:
    with trace("x"):
        pass


def span_with_tags() -> None:
    with trace("x") as s:
        s.set_tag("a", "GET")
        s.set_tag("b", "value")
        s.set_tag("c", 200)
        s.set_tag("d", True)
        s.set_tag("e", 1.5)


def call_bare() -> None:
    bare(1)


def call_hooked() -> None:
    hooked(1)


def best(function: Callable[[], None], folder: str) -> float:
    """The fastest round; each has a ring of its own, so that none is full."""
    least = float("inf")
    for _ in range(ROUNDS):
        _comfymon.stop(0)
        if not _comfymon.start(run_dir=folder, sender=False, ring_bytes=4 << 20):
            raise SystemExit(_comfymon.status()["reason"])
        least = min(least, timeit.timeit(function, number=CALLS) / CALLS * 1e9)
        if _comfymon.status()["lost"]:
            raise SystemExit("spans were lost: the figure would be too good")
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
    return least


def main() -> None:
    folder = tempfile.mkdtemp(dir="/dev/shm")
    try:
        base, call = best(no_span, folder), best(call_bare, folder)
        for name, value, baseline, baseline_value, goal in (
                ("span, 0 tags", best(span, folder), "empty with", base, 400),
                ("span, 5 tags", best(span_with_tags, folder), "empty with", base, 900),
                ("hook over the bare call", best(call_hooked, folder) - call, "bare call", call, 350)):
            report(name, value, "ns", baseline, baseline_value, goal)
    finally:
        _comfymon.stop(0)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
