"""
Everything at once: threads, tasks, generators, cycles, exceptions and forks through hooked functions, with the
collector running at every allocation and CPython's own checks on memory. What it computes must be what it
computes without us, every call must have its span, and nothing may be kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import subprocess
import sys
import threading
import types
import unittest
from typing import Any, AsyncIterator, Awaitable, Callable, Iterator

if __name__ == "__main__" and os.environ.get("PYTHONMALLOC") != "debug":
    # Freed memory is overwritten, writes past a block abort, references that go wrong crash.
    sys.exit(subprocess.run([sys.executable, "-X", "dev", *sys.argv],
                            env={**os.environ, "PYTHONMALLOC": "debug"}).returncode)

from base import Case, _comfymon

THREADS = 8
ROUNDS = 60


class Sulky(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


class Work:
    """What is hooked: one of each shape."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.me = self  # a cycle, so that only the collector frees it

    def method(self, *more: int, by: int = 1) -> int:
        return self.number + sum(more) * by

    def failing(self) -> None:
        raise Sulky(self.number)

    def deep(self, depth: int) -> int:
        return self.deep(depth - 1) + 1 if depth else 0

    async def later(self, value: int) -> int:
        await asyncio.sleep(0)
        if value % 7 == 3:
            raise Sulky(value)
        return value * 2

    async def stream(self, n: int) -> AsyncIterator[int]:
        with _comfymon.trace("stream"):
            for i in range(n):
                yield await self.later(i * 7)

    def parts(self, n: int) -> Iterator[int]:
        with _comfymon.trace("parts"):
            for i in range(n):
                yield self.method(i)


NAMES = ["method", "failing", "deep", "later", "stream", "parts"]


def quiet(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (Sulky, asyncio.CancelledError) as e:
        return type(e).__name__


async def settled(one: Awaitable[Any]) -> Any:
    try:
        return await one
    except (Sulky, asyncio.CancelledError) as e:
        return type(e).__name__


async def tasks(work: Any, seed: int) -> list[Any]:
    found = list(await asyncio.gather(*(settled(work.later(i + seed)) for i in range(6))))
    task = asyncio.ensure_future(work.later(seed * 7))
    await asyncio.sleep(0)
    task.cancel()
    found.append(await settled(task))
    never = work.later(1)
    never.close()
    async for i in work.stream(3):
        found.append(i)
        if i > 10:
            break
    async with contextlib.aclosing(work.stream(3)) if hasattr(contextlib, "aclosing") else _Closing(work) as s:
        found.append(await s.__anext__())
    thrown = work.later(2)
    found.append(quiet(lambda: thrown.throw(Sulky("in"))))
    return found


class _Closing:
    def __init__(self, work: Any) -> None:
        self.stream = work.stream(3)

    async def __aenter__(self) -> Any:
        return self.stream

    async def __aexit__(self, *_: object) -> None:
        await self.stream.aclose()


def one_round(cls: Any, seed: int) -> list[Any]:
    dice = random.Random(seed)
    work = cls(seed)
    found: list[Any] = [work.method(1, 2, by=dice.randrange(5)), quiet(work.failing), work.deep(20)]
    half = work.parts(5)
    found += [next(half), list(work.parts(3)), sorted(map(work.method, range(3)))]
    with _comfymon.trace("outer", resource=f"r{seed}") as span:
        span.set_tag("seed", seed)
        span.set_tag("long", "x" * dice.randrange(2000))
        found.append(_comfymon.trace("inner")(work.method)(3))
        found += asyncio.run(tasks(work, seed))
    del half
    return found


def in_threads(cls: Any, results: dict[int, list[Any]]) -> None:
    def run(number: int) -> None:
        for i in range(ROUNDS // THREADS):
            results[number * 1000 + i] = one_round(cls, number * 1000 + i)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


class Stress(Case):
    def setUp(self) -> None:
        super().setUp()
        self.name = f"stressed_{self._testMethodName}"  # rows are never taken back
        self.module = types.ModuleType(self.name)
        sys.modules[self.name] = self.module
        self.addCleanup(sys.modules.pop, self.name)
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.addCleanup(_comfymon.detach)

    def test_threads_tasks_and_a_collector_at_every_allocation(self) -> None:
        bare: dict[int, list[Any]] = {}
        hooked: dict[int, list[Any]] = {}
        in_threads(type("Work", (), dict(Work.__dict__)), bare)
        cls = type("Work", (), dict(Work.__dict__))
        self.module.Work = cls  # type: ignore[attr-defined]
        _comfymon.attach([{"module": self.name, "attr": f"Work.{n}", "name": n, "resource": "type(self)",
                           "long": n == "later", "tags": {"n": "self.number", "r": "result"}} for n in NAMES])
        sys.setswitchinterval(1e-5)
        self.addCleanup(sys.setswitchinterval, 0.005)
        gc.set_threshold(1)
        in_threads(cls, hooked)
        gc.collect()
        self.assertEqual(hooked, bare)
        self.assertEqual([h["failures"] for h in _comfymon.hooks() if h["module"] == self.name], [0] * len(NAMES))
        self.assertEqual(self.ring().open_slots(), [])
        self.assertEqual(_comfymon.status()["open_slots"], 0)
        self.assertIsNone(_comfymon.current())
        rounds = THREADS * (ROUNDS // THREADS)
        if _comfymon.status()["lost"] == 0:
            deep = [s for s in self.ring().spans() if s.name == "deep"]
            self.assertEqual(len(deep), 21 * rounds)

    def test_nothing_is_kept(self) -> None:
        cls = type("Work", (), dict(Work.__dict__))
        self.module.Work = cls  # type: ignore[attr-defined]
        _comfymon.attach([{"module": self.name, "attr": f"Work.{n}", "name": n} for n in NAMES])

        def count() -> tuple[int, list[int]]:
            gc.collect()
            held = [sys.getrefcount(o) for o in (None, cls, _comfymon.trace, *(getattr(cls, n) for n in NAMES))]
            return len(gc.get_objects()), held

        for i in range(3):
            one_round(cls, i)
        objects, held = count()
        for i in range(40):
            one_round(cls, i)
        after, still = count()
        # Caches of asyncio and of the strings of the ring may hold a few objects more.
        self.assertLess(after - objects, 40)
        self.assertTrue(all(abs(b - a) < 20 for a, b in zip(held[1:], still[1:])), (held, still))
        self.assertLess(still[0] - held[0], 20)  # until 3.11 the cache of attributes lets None go

    def test_forks_from_threads_that_write(self) -> None:
        cls = type("Work", (), dict(Work.__dict__))
        self.module.Work = cls  # type: ignore[attr-defined]
        _comfymon.attach([{"module": self.name, "attr": f"Work.{n}", "name": n} for n in NAMES])
        done = threading.Event()

        def write() -> None:
            while not done.is_set():
                cls(1).deep(5)

        threads = [threading.Thread(target=write) for _ in range(4)]
        for t in threads:
            t.start()
        codes = []
        for i in range(8):
            pid = os.fork()
            if pid == 0:
                ok = cls(1).deep(3) == 3 and _comfymon.status()["spans"] == 4
                os._exit(0 if ok else 1)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        done.set()
        for t in threads:
            t.join()
        self.assertEqual(codes, [0] * 8)


if __name__ == "__main__":
    unittest.main()
