"""What a person sees: the tree of a trace, lists and pages, on a terminal, piped, in ASCII; and
that nothing from outside steers the terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import resource
import struct
import sys
import termios
import unittest
from pathlib import Path
from typing import Any, Dict

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from support.fake_datadog import FakeDatadog  # noqa: E402
from support.harness import ROOT, Agent, binary, wait_until  # noqa: E402
from support.json_schema import problems  # noqa: E402
from support.writer import Writer  # noqa: E402

MS = 1_000_000


def schema(name: str) -> Dict[str, Any]:
    return json.loads((ROOT / "schema" / "views" / f"{name}.schema.json").read_text(encoding="utf-8"))


def on_terminal(agent: Agent, columns: int, *args: str, **env: str) -> str:
    """Run a verb with a pseudo terminal of this width as its output."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    pid = os.posix_spawn(str(binary()), [str(binary()), *args], {**agent.env, "TERM": "xterm", **env},
                         file_actions=[(os.POSIX_SPAWN_DUP2, slave, 1)])
    os.close(slave)
    text = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        text += piece
    os.close(master)
    os.waitpid(pid, 0)
    return text.decode().replace("\r\n", "\n")


def plain(text: str) -> str:
    return re.sub("\033\\[[0-9;]*m", "", text)


class Looks(unittest.TestCase):
    """One agent and one set of traces for all; no test changes them."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.dd = FakeDatadog()
        cls.addClassCleanup(cls.dd.close)
        cls.agent = Agent(cls.dd.url)
        cls.addClassCleanup(cls.agent.close)
        cls.agent.start()
        cls.writer = Writer(cls.agent.socket_path, attrs={"service": "shop", "language_version": "3.11.2"})
        cls.addClassCleanup(cls.writer.close)
        cls.base = cls.writer.now()
        cls.write()

    @classmethod
    def span(cls, trace: int, span: int, parent: int, resource_: str, start: int, duration: int,
             **more: Any) -> Dict[str, Any]:
        return {"trace_id": trace, "span_id": span, "parent_id": parent, "service": "shop", "name": "comfyui.node.execute",
                "resource": resource_, "type": "worker", "start": cls.base + start, "duration": duration,
                "error": 0, "meta": {}, "metrics": {}, **more}

    @classmethod
    def write(cls) -> None:
        error = {"error": 1, "meta": {"error.type": "RuntimeError", "error.message": "it\033[2Jbroke\nhere",
                                      "error.stack": "File \"a.py\", line 3, in f\nFile \"b.py\", line 4, in g"}}
        cls.writer.finish([cls.span(1, 12, 11, "Loader", 1 * MS, 30 * MS), cls.span(1, 13, 11, "画像\u202eevil\033]0;x\a", 40 * MS, 50 * MS, **error),
                           cls.span(1, 14, 13, "Inner" * 40, 50 * MS, 5 * MS), cls.span(1, 11, 0, "Root", 0, 100 * MS)])
        cls.writer.finish([cls.span(2, 22, 23, "RingA", 0, MS), cls.span(2, 23, 22, "RingB", MS, MS), cls.span(2, 21, 0, "Whole", 0, 9 * MS)])
        big = [cls.span(3, 1000 + i, 31, f"N{i}", i * MS, MS) for i in range(9000)]
        big += [cls.span(3, 10000 + i, 9999 + i, f"D{i}", 9000 * MS, MS) for i in range(1000)]
        big[7000] = cls.span(3, 8000, 31, "TheBad", 7000 * MS, MS, **error)
        big[7500] = cls.span(3, 8500, 31, "TheLong", 7500 * MS, 400 * MS)
        cls.writer.finish([*big, cls.span(3, 31, 0, "Big", 0, 9100 * MS)])
        words = {"error.type": "E", "error.message": " ".join(f"word{i}" for i in range(60))}
        cls.writer.finish([cls.span(5, 51, 0, "Long", 0, MS, error=1, meta=words)])
        cls.writer.flush(20)
        cls.agent.drain(20, received=10009)
        cls.writer.hooks({"execution:execute": 1, "server:PromptServer": 0, "comfy.sd:load": 1, "a.b:\033[2Jc": 2})
        cls.writer.hooks({"execution:execute": 0})
        cls.writer.open([cls.span(4, 41, 0, "Running", 0, 0)])
        cls.writer.flush(10)
        wait_until(lambda: cls.agent.status()["work"]["open_spans"] == 1, 10, "the open span")

    def test_json_is_what_the_schemas_promise(self) -> None:
        self.assertEqual(list(problems(schema("status"), self.agent.status())), [])
        lines = self.agent.cli("traces", "--json").stdout.splitlines()
        self.assertEqual(len(lines), 5)
        for line in lines:
            self.assertEqual(list(problems(schema("traces"), json.loads(line))), [])
        for trace in (1, 2, 3, 4, 5):
            one = json.loads(self.agent.cli("trace", f"{trace:032x}", "--json").stdout)
            self.assertEqual(list(problems(schema("trace"), one)), [])

    def test_the_list_counts_all_parts_of_a_large_trace(self) -> None:
        for limit in ("4", "50"):
            lines = [json.loads(line) for line in self.agent.cli("traces", "--json", "--limit", limit).stdout.splitlines()]
            self.assertIn(10001, [line["spans"] for line in lines])

    def test_an_open_trace_has_its_duration_so_far(self) -> None:
        one, = (json.loads(line) for line in self.agent.cli("traces", "--json", "--state", "open").stdout.splitlines())
        self.assertEqual((one["resource"], one["state"]), ("Running", "open"))
        self.assertGreater(one["duration_ns"], 0)
        self.assertIn("running", self.agent.cli("traces").stdout)

    def test_a_tree_fits_the_terminal(self) -> None:
        for columns in (60, 80, 200):
            for verb in (("trace", f"{1:032x}"), ("trace", f"{3:032x}"), ("traces",)):
                text = on_terminal(self.agent, columns, *verb)
                self.assertIn("\033[", text)
                for line in plain(text).splitlines()[2 if verb[0] == "trace" else 0:]:
                    wide = len(line) + len(re.findall("[画像]", line))
                    self.assertLessEqual(wide, columns, line)
        self.assertIn("…", plain(on_terminal(self.agent, 80, "trace", f"{1:032x}")))
        self.assertGreater(plain(on_terminal(self.agent, 200, "trace", f"{1:032x}")).count("█"),
                           plain(on_terminal(self.agent, 80, "trace", f"{1:032x}")).count("█"))

    def test_a_message_takes_up_to_three_lines(self) -> None:
        text = plain(on_terminal(self.agent, 60, "trace", f"{5:032x}"))
        words = re.findall(r"\bword\d+(?= |$)", text, re.M)  # the last one is clipped
        self.assertGreater(len(words), 15)
        self.assertEqual(words, [f"word{i}" for i in range(len(words))])
        self.assertEqual(sum("word" in line for line in text.splitlines()), 3)

    def test_colour_is_for_terminals_that_want_it(self) -> None:
        verb = ("trace", f"{1:032x}")
        self.assertIn("\033[31m", on_terminal(self.agent, 80, *verb))
        self.assertNotIn("\033", on_terminal(self.agent, 80, *verb, NO_COLOR="1"))
        self.assertNotIn("\033", on_terminal(self.agent, 80, *verb, TERM="dumb"))
        self.assertNotIn("\033", on_terminal(self.agent, 80, *verb, "--color", "never"))
        self.assertNotIn("\033", self.agent.cli(*verb).stdout)
        self.assertIn("\033[31m", self.agent.cli(*verb, "--color=always").stdout)

    def test_ascii_where_the_locale_is(self) -> None:
        for args in (("trace", f"{1:032x}"), ("trace", f"{3:032x}"), ("traces",), ("status",), ("doctor",)):
            text = on_terminal(self.agent, 80, *args, LANG="C", LC_ALL="C")
            self.assertTrue(text.isascii(), text)
        text = on_terminal(self.agent, 80, "trace", f"{1:032x}", LC_ALL="C")
        self.assertIn("|- comfyui.node.execute Loader", plain(text))
        self.assertIn("! comfyui.node.execute", plain(text))

    def test_nothing_from_outside_steers_the_terminal(self) -> None:
        for args in (("trace", f"{1:032x}"), ("trace", f"{1:032x}", "--tags"), ("traces",), ("status",), ("doctor",)):
            text = self.agent.cli(*args, "--color", "never").stdout
            self.assertEqual(re.findall("[\0-\x09\x0b-\x1f\x7f\u202a-\u202e]", text), [])
        self.assertIn("error: RuntimeError: it?[2Jbroke here", self.agent.cli("trace", f"{1:032x}").stdout)

    def test_tags_are_shown_when_asked_for(self) -> None:
        text = self.agent.cli("trace", f"{1:032x}", "--tags").stdout
        self.assertIn("error.stack: File \"a.py\", line 3, in f\n", text)
        self.assertIn("  File \"b.py\", line 4, in g\n", text)
        self.assertNotIn("error.stack", self.agent.cli("trace", f"{1:032x}").stdout)

    def test_a_large_trace_is_an_outline_with_what_matters(self) -> None:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        text = self.agent.cli("trace", f"{3:032x}").stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.assertLess(len(text.splitlines()), 400)
        for name in ("TheBad", "TheLong", "N0", "D0"):
            self.assertIn(f"comfyui.node.execute {name} ", text)
        self.assertRegex(text, r"⋮ [0-9,]+ more, .* in all")
        self.assertRegex(text, r"[0-9,]+ spans are not drawn; --all")
        if "asan" not in str(binary()) and "tsan" not in str(binary()):
            self.assertLess(after.ru_utime - before.ru_utime, 1.0)
        every = self.agent.cli("trace", f"{3:032x}", "--all").stdout
        self.assertGreater(len(every.splitlines()), 9000)
        self.assertIn("comfyui.node.execute N8999 ", every)

    def test_a_ring_of_parents_is_drawn_once(self) -> None:
        text = self.agent.cli("trace", f"{2:032x}").stdout
        self.assertEqual([text.count(name) for name in ("RingA", "RingB", "Whole")], [1, 1, 1])

    def test_last_and_the_low_half_of_an_id_name_a_trace(self) -> None:
        self.assertIn("Root", self.agent.cli("trace", f"{1:016x}").stdout)
        newest = json.loads(self.agent.cli("traces", "--json", "--limit", "1").stdout)["trace_id"]
        self.assertIn(newest, self.agent.cli("trace", "last").stdout)

    def test_status_is_one_page(self) -> None:
        text = plain(on_terminal(self.agent, 80, "status"))
        self.assertLessEqual(len(text.splitlines()), 15)
        self.assertIn("10,009 received = 10,009 sent + 0 sampled out", text)
        self.assertIn("holds", text)
        self.assertRegex(text, r"rates +[0-9.]+ spans/s in, [0-9.]+ spans/s out, over the last")
        self.assertIn(f"datadog ok, {self.dd.url}", text)
        self.assertRegex(text, r"last reply 200, last success [0-9]+ (s|min) ago")
        self.assertRegex(text, rf"pid {self.writer.who.pid} +alive, .*, shop, Python 3.11.2")

    def test_hooks_are_what_the_probe_told_last(self) -> None:
        probe, = self.agent.status()["probes"]
        self.assertEqual(probe["hooks"], {"attached": 2, "missing": 2, "names": ["comfy.sd:load", "a.b:\033[2Jc"]})

    def test_doctor_walks_all_stations(self) -> None:
        report = json.loads(self.agent.cli("doctor", "--json").stdout)
        self.assertEqual([s["station"] for s in report["stations"] if s["station"] != "clock"],
                         ["node", "run dir", "agent", "extension", "probe", "ring", "hooks", "ComfyUI", "buffer", "datadog", "limit"])
        hooks, = (s for s in report["stations"] if s["station"] == "hooks")
        self.assertEqual((hooks["finding"], hooks["text"]),
                         ("note", "2 functions watched, 2 not found in this ComfyUI: comfy.sd:load, a.b:\033[2Jc"))
        self.assertTrue(report["well"])

    def test_filters_that_mean_nothing_are_refused(self) -> None:
        for args in (("--state", "done"), ("--limit", "10001"), ("--text", "x" * 128)):
            done = self.agent.cli("traces", *args)
            self.assertEqual((done.returncode, done.stdout), (2, ""), args)
            self.assertIn(args[0], done.stderr)


if __name__ == "__main__":
    unittest.main()
