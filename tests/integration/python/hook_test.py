"""The hook engine: wrappers that nobody notices, spans that are there."""

from __future__ import annotations

import asyncio
import collections.abc
import copy
import inspect
import pickle
import sys
import threading
import time
import types
import unittest
import weakref

from base import Case, _comfymon


def plain(first: int, *, second: int = 2) -> int:
    """Adds."""
    return first + second


async def slow(value: int) -> int:
    with _comfymon.trace("inside"):
        await asyncio.sleep(0)
    if value < 0:
        raise ValueError(value)
    return value


class Thing:
    name = "a thing"

    def method(self, items: list[int], label: str = "none") -> int:
        return len(items)

    @staticmethod
    def static(value: int) -> int:
        return value

    @classmethod
    def made(cls, value: int) -> tuple[type, int]:
        return cls, value

    def failing(self) -> None:
        raise KeyError("gone")


class Hooks(Case):
    def setUp(self) -> None:
        super().setUp()
        # A module of its own for each test: rows are never taken back.
        self.name = f"target_{self._testMethodName}"
        self.module = types.ModuleType(self.name)
        self.cls = type("Thing", (), dict(Thing.__dict__))
        self.module.__dict__.update(plain=plain, slow=slow, Thing=self.cls)
        sys.modules[self.name] = self.module
        self.addCleanup(sys.modules.pop, self.name)
        self.addCleanup(_comfymon.detach)

    def attach(self, attr: str, **row: object) -> int:
        _comfymon.attach([{"module": self.name, "attr": attr, "name": attr, **row}])
        return sum(h["state"] == "attached" for h in _comfymon.hooks() if h["module"] == self.name)

    def test_a_function_looks_as_before(self) -> None:
        self.assertEqual(self.attach("plain"), 1)
        hooked = self.module.plain
        self.assertIsNot(hooked, plain)
        self.assertEqual((hooked.__name__, hooked.__doc__, hooked.__module__), ("plain", "Adds.", __name__))
        self.assertEqual(inspect.signature(hooked), inspect.signature(plain))
        self.assertTrue(inspect.isfunction(hooked))
        self.assertEqual(repr(hooked), repr(plain))
        self.assertIs(hooked.__wrapped__, plain)
        self.assertIs(copy.deepcopy(hooked), hooked)
        hooked.mark = 1
        self.assertEqual(plain.mark, 1)  # type: ignore[attr-defined]
        self.assertEqual(hooked(1), 3)
        self.assertEqual(hooked(first=1, second=5), 6)
        with self.assertRaisesRegex(TypeError, r"plain\(\) missing"):
            hooked()

    def test_a_hooked_function_pickles_by_name(self) -> None:
        row = {"module": __name__, "attr": "plain", "name": "plain"}
        _comfymon.attach([row])
        self.assertIs(pickle.loads(pickle.dumps(sys.modules[__name__].plain)), sys.modules[__name__].plain)

    def test_methods_bind_and_tags_are_found_by_name(self) -> None:
        self.attach("Thing.method", resource="type(self)", tags={"n": "len(items)", "label": "label", "who": "self.name",
                                                                 "fixed": "'x'", "none": "items.nothing", "r": "result"})
        self.assertEqual(self.cls().method([1, 2], label="here"), 2)
        self.assertEqual(self.cls.method(self.cls(), [1]), 1)
        first, second = self.ring().spans()
        self.assertEqual(first.resource, "Thing")
        self.assertEqual(first.meta, {"label": "here", "who": "a thing", "fixed": "x"})
        self.assertEqual(first.metrics, {"n": 2, "r": 2})
        self.assertEqual(second.meta["label"], "none")

    def test_static_and_class_methods_stay_what_they_are(self) -> None:
        self.attach("Thing.static")
        self.attach("Thing.made")
        self.assertEqual(self.cls.static(3), 3)
        self.assertEqual(self.cls().made(4), (self.cls, 4))
        self.assertEqual(set(self.spans()), {"Thing.static", "Thing.made"})

    def test_an_exception_passes_and_marks_the_span(self) -> None:
        self.attach("Thing.failing")
        with self.assertRaises(KeyError) as caught:
            self.cls().failing()
        self.assertEqual(caught.exception.args, ("gone",))
        self.assertEqual(self.spans()["Thing.failing"].meta["error.type"], "builtins.KeyError")

    def test_a_coroutine_is_watched_to_its_end(self) -> None:
        self.attach("slow")
        hooked = self.module.slow
        self.assertTrue(inspect.iscoroutinefunction(hooked))
        self.assertTrue(asyncio.iscoroutinefunction(hooked))

        async def main() -> list[int]:
            waiting = hooked(1)
            self.assertIsInstance(waiting, collections.abc.Coroutine)
            self.assertTrue(asyncio.iscoroutine(waiting))
            self.assertEqual(await waiting, 1)
            with self.assertRaises(ValueError):
                await hooked(-1)
            return await asyncio.gather(hooked(2), asyncio.ensure_future(hooked(3)))

        self.assertEqual(asyncio.run(main()), [2, 3])
        spans = self.ring().spans()
        outer = {s.span_id: s for s in spans if s.name == "slow"}
        self.assertEqual(len(outer), 4)
        self.assertEqual(sum(s.error for s in outer.values()), 1)
        self.assertEqual({s.parent_id for s in spans if s.name == "inside"}, set(outer))

    def test_a_coroutine_can_be_referred_to_weakly(self) -> None:
        self.attach("slow")
        waiting = self.module.slow(1)
        watched = weakref.ref(waiting)
        self.assertIs(watched(), waiting)
        waiting.close()
        del waiting
        self.assertIsNone(watched())

    def test_a_cancelled_and_an_unawaited_coroutine_end_their_spans(self) -> None:
        self.attach("slow", long=True)

        async def main() -> None:
            task = asyncio.ensure_future(self.module.slow(1))
            await asyncio.sleep(0)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            self.module.slow(2).close()

        asyncio.run(main())
        self.assertEqual(len([s for s in self.ring().spans() if s.name == "slow"]), 2)
        self.assertEqual(self.ring().open_slots(), [])

    def test_a_long_span_is_in_the_open_table_while_it_runs(self) -> None:
        seen: list[str] = []
        self.module.__dict__["look"] = lambda: seen.extend(s.name for s in self.ring().open_slots())
        self.attach("look", long=True)
        self.module.look()
        self.assertEqual(seen, ["look"])

    def test_what_is_missing_is_reported_and_what_comes_later_is_attached(self) -> None:
        self.assertEqual(self.attach("nothing.there"), 0)
        late = f"{self.name}_late"
        _comfymon.attach([{"module": late, "attr": "f", "name": "late.f"}])
        sys.modules[late] = types.ModuleType(late)
        sys.modules[late].f = lambda: 5  # type: ignore[attr-defined]
        self.assertEqual(_comfymon.attach(), 1)
        self.assertEqual(sys.modules[late].f(), 5)
        told = {name: state for name, state in self.ring().hooks().items() if name.startswith(self.name)}
        self.assertEqual(told, {f"{self.name}:nothing.there": 1, f"{late}:f": 0})

    def test_detach_restores_and_leaves_strangers_alone(self) -> None:
        self.attach("plain")
        self.attach("slow")
        ours = self.module.slow
        self.module.slow = lambda v: ours(v)
        stranger = self.module.slow
        _comfymon.detach()
        self.assertIs(self.module.plain, plain)
        self.assertIs(self.module.slow, stranger)
        self.assertEqual(asyncio.run(stranger(4)), 4)
        self.assertEqual({s.name for s in self.ring().spans()}, {"inside"})

    def test_threads_that_attach_and_detach_at_once_put_one_wrapper(self) -> None:
        class Slow(types.ModuleType):
            """Looking at what it holds lets other threads, and its own, attach and detach meanwhile."""
            busy = False

            def __getattribute__(module, name: str) -> object:
                if name == "Thing" and not Slow.busy:
                    Slow.busy = True
                    _comfymon.attach()
                    time.sleep(0.02)
                    Slow.busy = False
                return super().__getattribute__(name)

        self.module = sys.modules[self.name] = Slow(self.name)
        self.module.__dict__.update(Thing=self.cls)
        original = self.cls.__dict__["method"]
        self.attach("absent")
        barrier = threading.Barrier(4)

        def attach() -> None:
            barrier.wait()
            _comfymon.attach([{"module": self.name, "attr": "Thing.method", "name": "method"}] if first.pop() else None)

        first = [True, False, False, False]
        threads = [threading.Thread(target=attach) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.cls().method([1]), 1)
        self.assertEqual([s.name for s in self.ring().spans()], ["method"])
        threads = [threading.Thread(target=_comfymon.detach) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertIs(self.cls.__dict__["method"], original)

    def test_a_decorator_makes_a_span_for_each_call(self) -> None:
        decorated = _comfymon.trace("work", resource="r")(plain)
        self.assertEqual([decorated(1), decorated(2)], [3, 4])
        self.assertEqual([(s.name, s.resource) for s in self.ring().spans()], [("work", "r")] * 2)

    def test_a_malformed_row_is_unknown_and_harmless(self) -> None:
        self.attach("plain", tags={"x": "first..y"})
        self.assertEqual(self.module.plain(1), 3)
        self.assertEqual([h["state"] for h in _comfymon.hooks() if h["module"] == self.name], ["unknown"])


if __name__ == "__main__":
    unittest.main()
