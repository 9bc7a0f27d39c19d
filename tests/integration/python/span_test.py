"""Spans as Python code sees them, read back from the ring file."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import tracemalloc
import unittest
from typing import Any, AsyncIterator

from base import Case, _comfymon, only, rings
from ringfile import LOCAL_ROOT

trace = _comfymon.trace


class Spans(Case):
    def test_a_block_is_one_span(self) -> None:
        with trace("op", resource="GET /x", service="svc", type="web") as span:
            self.assertIs(_comfymon.current(), span)
        self.assertIsNone(_comfymon.current())
        found = self.spans()["op"]
        self.assertEqual((found.resource, found.service, found.type), ("GET /x", "svc", "web"))
        self.assertEqual((found.trace_id, found.span_id, found.parent_id), (span.trace_id, span.span_id, 0))
        self.assertTrue(found.flags & LOCAL_ROOT)
        self.assertFalse(found.error)
        self.assertGreater(found.trace_id >> 96, 1_600_000_000)

    def test_an_inner_block_is_a_child_with_its_parents_service(self) -> None:
        with trace("outer", service="svc") as outer:
            with trace("inner"):
                self.assertEqual(_comfymon.current_ids()[0], outer.trace_id)
        inner = self.spans()["inner"]
        self.assertEqual((inner.trace_id, inner.parent_id, inner.service), (outer.trace_id, outer.span_id, "svc"))
        self.assertFalse(inner.flags & LOCAL_ROOT)

    def test_tags_go_where_datadog_puts_them(self) -> None:
        with trace("op") as span:
            span.set_tag("text", "värde")
            span.set_tag("whole", 7)
            span.set_tag("part", -1.25)
            span.set_tag("yes", True)
            span.set_tag("huge", 2**60)
            span.set_tag("object", [1])
            span.set_tag("http.status_code", 200)
            span.set_tag("again", 1)
            span.set_tag("again", "now a text")
            span.set_metric("size", 1e12)
        found = self.spans()["op"]
        self.assertEqual(found.meta, {"text": "värde", "yes": "True", "huge": str(2**60), "object": "[1]",
                                      "http.status_code": "200", "again": "now a text"})
        self.assertEqual(found.metrics, {"whole": 7, "part": -1.25, "size": 1e12})

    def test_many_long_tags_are_kept_up_to_a_limit(self) -> None:
        with trace("op") as span:
            for i in range(40):
                span.set_tag(f"key{i}", "x" * 2000)
        found = self.spans()["op"]
        self.assertGreater(len(found.meta), 15)
        self.assertLess(len(found.meta), 40)

    def test_an_exception_marks_the_span_and_goes_on(self) -> None:
        def inner() -> None:
            raise ValueError("no such thing")

        with self.assertRaises(ValueError):
            with trace("op"):
                inner()
        found = self.spans()["op"]
        self.assertTrue(found.error)
        self.assertEqual(found.meta["error.type"], "builtins.ValueError")
        self.assertEqual(found.meta["error.message"], "no such thing")
        self.assertIn(", in inner", found.meta["error.stack"])
        self.assertNotIn("raise ValueError", found.meta["error.stack"])

    def test_a_long_message_ends_with_a_whole_character(self) -> None:
        for before in range(2043, 2050):
            with contextlib.suppress(ValueError), trace(f"cut {before}"):
                raise ValueError("a" * before + "\u20ac" * 9)
        for span in self.ring().spans():  # what is no UTF-8 is not read at all
            self.assertRegex(span.meta["error.message"], "^a+\u20ac*$")

    def test_messages_can_be_kept_out(self) -> None:
        os.environ["COMFYMON_ERROR_MESSAGE"] = "0"
        self.addCleanup(os.environ.pop, "COMFYMON_ERROR_MESSAGE")
        _comfymon.stop(0)
        _comfymon.start(run_dir=self.folder, sender=False)
        with self.assertRaises(KeyError):
            with trace("op"):
                raise KeyError("secret")
        found = only([s for ring in rings(self.folder) for s in ring.spans()])
        self.assertNotIn("error.message", found.meta)
        self.assertEqual(found.meta["error.type"], "builtins.KeyError")

    def test_a_clean_exit_is_no_error(self) -> None:
        with self.assertRaises(SystemExit):
            with trace("op"):
                sys.exit(0)
        self.assertFalse(self.spans()["op"].error)

    def test_blocks_that_overlap_leave_nothing_current(self) -> None:
        a, b = trace("a"), trace("b")
        a.__enter__()
        b.__enter__()
        a.__exit__(None, None, None)
        b.__exit__(None, None, None)
        self.assertIsNone(_comfymon.current())
        self.assertEqual(self.spans()["b"].parent_id, a.span_id)

    def test_a_block_that_ends_in_another_context_leaves_nothing_current(self) -> None:
        async def numbers() -> AsyncIterator[int]:
            with _comfymon.trace("numbers"):
                yield 1
                yield 2

        async def finish(span: Any) -> None:
            span.finish()

        async def main() -> None:
            with _comfymon.trace("request") as request:
                async for _ in numbers():
                    break  # the loop closes the generator in a task of its own
                gc.collect()
                await asyncio.sleep(0.01)
                self.assertIs(_comfymon.current(), request)
                with _comfymon.trace("elsewhere") as span:
                    await asyncio.ensure_future(finish(span))
                    self.assertIs(_comfymon.current(), request)
                with _comfymon.trace("later"):
                    pass
            self.assertIsNone(_comfymon.current())

        asyncio.run(main())
        spans = self.spans()
        self.assertEqual(set(spans), {"numbers", "request", "elsewhere", "later"})
        for name in ("numbers", "elsewhere", "later"):
            self.assertEqual(spans[name].parent_id, spans["request"].span_id)

    def test_blocks_that_never_end_die_together(self) -> None:
        def begin() -> None:
            for _ in range(100_000):
                _comfymon.trace("never").__enter__()

        contextvars.copy_context().run(begin)
        gc.collect()
        self.assertIsNone(_comfymon.current())

    def test_off_costs_no_error(self) -> None:
        _comfymon.stop(0)
        with trace("op") as span:
            span.set_tag("a", 1)
        self.assertEqual((span.trace_id, span.span_id), (0, 0))


class Contexts(Case):
    def test_tasks_inherit_the_span_and_do_not_disturb_each_other(self) -> None:
        async def work(i: int) -> int:
            with trace(f"work{i}"):
                await asyncio.sleep(0.001)
            return i

        async def main() -> None:
            with trace("main"):
                await asyncio.gather(*(asyncio.ensure_future(work(i)) for i in range(4)))

        asyncio.run(main())
        found = self.spans()
        for i in range(4):
            self.assertEqual(found[f"work{i}"].parent_id, found["main"].span_id)

    def test_a_thread_starts_empty_and_a_copied_context_carries_the_span(self) -> None:
        with trace("main") as span:
            context = contextvars.copy_context()
            for name, run in (("bare", self._work), ("copied", lambda n: context.run(self._work, n))):
                thread = threading.Thread(target=run, args=(name,))
                thread.start()
                thread.join()
        found = self.spans()
        self.assertEqual(found["bare"].parent_id, 0)
        self.assertEqual(found["copied"].parent_id, span.span_id)

    def _work(self, name: str) -> None:
        with trace(name):
            pass

    def test_start_again_changes_nothing_for_what_runs(self) -> None:
        with _comfymon.trace("runs"):
            self.assertTrue(_comfymon.start(run_dir=self.folder, sender=False))
        self.assertEqual(list(self.spans()), ["runs"])

    def test_a_span_of_a_parent_is_not_written_by_its_fork(self) -> None:
        with trace("parent"):
            pid = os.fork()
            if pid == 0:
                with trace("child"):
                    pass
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        names = sorted(s.name for ring in rings(self.folder) for s in ring.spans())
        self.assertEqual(names, ["child", "parent"])

    def test_exec_in_place_starts_a_new_ring(self) -> None:
        code = ("import sys, os; sys.path[:0] = {path!r}; import _comfymon as c\n"
                "assert c.start(run_dir={folder!r}, sender=False)\n"
                "with c.trace('round' + sys.argv[1]): pass\n"
                "if sys.argv[1] == '1': os.execv(sys.executable, [sys.executable, '-c', sys.argv[2], '2', ''])\n")
        code = code.format(path=sys.path[:2], folder=self.folder)
        subprocess.run([sys.executable, "-c", code, "1", code], check=True, timeout=20)
        names = sorted(s.name for ring in rings(self.folder) for s in ring.spans())
        self.assertEqual(names, ["round1", "round2"])


class Lasting(Case):
    def test_other_nodes_import_it_by_its_public_name(self) -> None:
        import comfymon

        self.assertIs(comfymon.trace, _comfymon.trace)

    def test_resources_without_end_leave_room_for_names(self) -> None:
        script = ("import sys; sys.path.insert(0, sys.argv[1]); import _comfymon as c\n"
                  "c.start(run_dir=sys.argv[2], sender=False)\n"
                  "for i in range(70_000): c.trace('busy', resource=f'resource {i}')\n"
                  "with c.trace('a name that comes late', resource='one more'): pass\n")
        _comfymon.stop(0)  # the ring of this process goes, nothing was written in it
        node = os.path.dirname(_comfymon.__file__)
        subprocess.run([sys.executable, "-c", script, node, self.folder], check=True, timeout=60)
        (span,) = only(rings(self.folder)).spans()
        self.assertEqual((span.name, span.resource), ("a name that comes late", ""))

    def test_many_spans_leave_no_memory_behind(self) -> None:
        def busy(rounds: int) -> None:
            for i in range(rounds):
                with trace("op", resource="r") as span:
                    span.set_tag("text", "x" * 300)
                    span.set_tag("number", i)
                decorated(i)
                try:
                    with trace("bad"):
                        raise ValueError(i)
                except ValueError:
                    pass

        decorated = trace("hooked")(lambda value: value)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        busy(40000)     # until the memo of texts, which holds 2048 of them, is full
        gc.collect()
        before, blocks = tracemalloc.get_traced_memory()[0], sys.getallocatedblocks()
        busy(20000)
        gc.collect()
        self.assertLess(tracemalloc.get_traced_memory()[0] - before, 20000)
        self.assertLess(sys.getallocatedblocks() - blocks, 500)


class Identity(Case):
    def test_the_environment_is_in_the_ring(self) -> None:
        given = {"DD_SERVICE": "svc", "DD_ENV": "test", "DD_TRACE_SAMPLE_RATE": "1.5", "DD_API_KEY": "k" * 32}
        for key, value in given.items():
            os.environ[key] = value
            self.addCleanup(os.environ.pop, key)
        _comfymon.stop(0)
        _comfymon.start(run_dir=self.folder, sender=False)
        attrs = only(rings(self.folder)).attrs()
        self.assertEqual((attrs["service"], attrs["env"], attrs["language"]), ("svc", "test", "python"))
        self.assertEqual(attrs["pid"], str(os.getpid()))
        self.assertRegex(attrs["runtime_id"], "^[0-9a-f]{32}$")
        self.assertNotIn("sample_rate", attrs)
        self.assertNotIn("k" * 32, str(attrs))
        self.assertIn("DD_TRACE_SAMPLE_RATE: not a number from 0 to 1", _comfymon.warnings())

    def test_the_life_it_belongs_to_is_in_the_ring_whatever_else_is_long(self) -> None:
        life = "4711-3-00c0ffee"
        wrong = ("4711-3-XYZ", "a" * 64, "../../etc")
        for key in ("COMFYMON_LIFE", "DD_TAGS"):
            self.addCleanup(os.environ.pop, key)
        os.environ["DD_TAGS"] = "key:" + "v" * 4000
        for value in (life, *wrong):
            os.environ["COMFYMON_LIFE"] = value
            _comfymon.stop(0)
            folder = tempfile.mkdtemp(prefix="comfymon-")
            self.addCleanup(shutil.rmtree, folder, True)
            _comfymon.start(run_dir=folder, sender=False)
            self.assertEqual(only(rings(folder)).attrs().get("life"), None if value in wrong else value)
            self.assertEqual("COMFYMON_LIFE: not the id of a life" in _comfymon.warnings(), value in wrong)

    def test_it_can_be_switched_off(self) -> None:
        os.environ["DD_TRACE_ENABLED"] = "false"
        self.addCleanup(os.environ.pop, "DD_TRACE_ENABLED")
        _comfymon.stop(0)
        self.assertFalse(_comfymon.start(run_dir=self.folder, sender=False))
        self.assertEqual(_comfymon.status()["reason"], "DD_TRACE_ENABLED")


if __name__ == "__main__":
    unittest.main()
