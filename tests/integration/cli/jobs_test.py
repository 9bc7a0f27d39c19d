"""The journal as a person and a program meet it: `jobs`, `job ID` and the counts in `status`, with an agent and without."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import time
import unittest
from pathlib import Path
from typing import Any, Dict, List, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from look_test import on_terminal, plain  # noqa: E402
from support.harness import ROOT, Agent, sanitizer, wait_until  # noqa: E402
from support.json_schema import problems  # noqa: E402
from support.writer import Writer  # noqa: E402

OK, PROBLEM, USAGE, NO_AGENT = 0, 1, 2, 3
MS = 1_000_000
PROMISED = ["boot_id", "prompt_id", "item", "state", "reason", "signal", "node_id", "node_class", "queued_ns", "started_ns",
            "ended_ns", "peak_rss_bytes", "trace_id", "workflow"]
JOB = json.loads((ROOT / "schema" / "views" / "jobs.schema.json").read_text(encoding="utf-8"))
STATUS = json.loads((ROOT / "schema" / "views" / "status.schema.json").read_text(encoding="utf-8"))
SAME = "aaaaaaaa-0000-4000-8000-00000000000"
MANY = 10_000
LIST_MS = 50


def lines(text: str) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def record(writer: Writer, trace: int, what: str, prompt: str, ago_ms: int, took_ms: int, resource: str = "SaveImage 3fa91c02",
           error: int = 0, tags: Dict[str, Any] = {}) -> Dict[str, Any]:  # noqa: B006
    return {"trace_id": trace, "span_id": trace * 100 + len(what), "parent_id": 0, "service": "s",
            "name": f"comfyui.{what}", "resource": resource, "type": "worker",
            "start": writer.now() - ago_ms * MS, "duration": took_ms * MS, "error": error,
            "meta": {"prompt.id": prompt, **{k: v for k, v in tags.items() if isinstance(v, str)}},
            "metrics": {k: v for k, v in tags.items() if not isinstance(v, str)}}


class Case(unittest.TestCase):
    """One agent for all; no test changes its jobs."""

    agent: Agent
    writer: Writer

    @classmethod
    def setUpClass(cls) -> None:
        cls.agent = Agent(env={"COMFYMON_DESTINATIONS": "none"})
        cls.addClassCleanup(cls.agent.close)
        cls.agent.start()
        cls.writer = Writer(cls.agent.socket_path)
        cls.addClassCleanup(cls.writer.close)
        cls.fill()

    @classmethod
    def fill(cls) -> None:
        raise NotImplementedError

    @classmethod
    def span(cls, *what: Any, **more: Any) -> Dict[str, Any]:
        return record(cls.writer, *what, **more)


class Few(Case):
    @classmethod
    def fill(cls) -> None:
        done = {"workflow.status": "success", "workflow.node_count": 7.0, "workflow.nodes_executed": 5.0,
                "workflow.nodes_cached": 2.0, "memory.rss.peak_bytes": 6.0e9, "queue.item": 4.0}
        cls.writer.finish([cls.span(1, "queue.wait", SAME + "1", 7_200_000, 1_000),
                           cls.span(1, "workflow.execute", SAME + "1", 7_199_000, 30_000, tags=done)])
        evil = {"resource": "画像\u202eevil\033]0;x\a"}
        cls.writer.finish([cls.span(2, "queue.wait", SAME + "2", 60_000, 500)])
        cls.writer.open([cls.span(2, "workflow.execute", SAME + "2", 59_500, 0, **evil)])
        cls.writer.finish([cls.span(2, "node.execute", SAME + "2", 50_000, 100, error=1, tags={
                               "node.id": "12", "node.class_type": "K\033[2JSampler", "error.type": "RuntimeError"}),
                           cls.span(2, "workflow.execute", SAME + "2", 59_500, 9_600, error=1,
                                    tags={"workflow.status": "error"}, **evil)])
        cls.writer.open([cls.span(3, "workflow.execute", "bbbbbbbb-0000-4000-8000-000000000003", 4_000, 0)])
        cls.writer.open([cls.span(4, "queue.wait", "bbbbbbbb-0000-4000-8000-000000000004", 3_000, 0)])
        cls.writer.flush(10)

    def states(self, *args: str) -> List[str]:
        return [job["state"] for job in lines(self.agent.cli("jobs", "--json", *args).stdout)]

    def test_lines_have_the_promised_keys_and_fit_the_schema(self) -> None:
        listed = lines(self.agent.cli("jobs", "--json").stdout)
        self.assertEqual(len(listed), 4)
        for job in listed:
            self.assertEqual(list(job)[:len(PROMISED)], PROMISED)
            self.assertEqual(list(problems(JOB, job)), [])
        self.assertEqual([job["id"] for job in listed], [4, 3, 2, 1])
        done = listed[3]
        self.assertEqual((done["state"], done["reason"], done["signal"], done["peak_rss_bytes"], done["item"]),
                         ("succeeded", None, None, 6_000_000_000, 4))
        self.assertEqual((done["trace_id"], done["workflow"], done["nodes"], done["executed"], done["cached"]),
                         (f"{1:032x}", "SaveImage 3fa91c02", 7, 5, 2))
        self.assertAlmostEqual((done["ended_ns"] - done["started_ns"]) / MS, 30_000, delta=1)
        failed = listed[2]
        self.assertEqual((failed["state"], failed["node_id"], failed["error_type"]), ("failed", "12", "RuntimeError"))
        self.assertEqual((listed[1]["started_ns"] > 0, listed[1]["ended_ns"]), (True, None))

    def test_filters(self) -> None:
        self.assertEqual(self.states("--state", "failed"), ["failed"])
        self.assertEqual(self.states("--state", "failed,running"), ["running", "failed"])
        self.assertEqual(self.states("--since", "10m"), ["queued", "running", "failed"])
        self.assertEqual(self.states("--limit", "2"), ["queued", "running"])
        self.assertEqual(self.states("--state", "lost"), [])
        self.assertIn("no jobs", self.agent.cli("jobs", "--state", "lost").stdout)
        for args in (("--state", "done"), ("--state", "failed,"), ("--state", ""), ("--since", "yesterday"), ("--limit", "0"),
                     ("--limit", "10001"), ("extra",), ("--text", "x")):
            with self.subTest(args):
                said = self.agent.cli("jobs", *args)
                self.assertEqual((said.returncode, said.stdout), (USAGE, ""))
                self.assertNotEqual(said.stderr, "")

    def test_the_table_says_what_went_wrong_and_lets_nothing_steer_the_terminal(self) -> None:
        said = self.agent.cli("jobs")
        self.assertEqual(said.returncode, OK)
        head, *rows = said.stdout.splitlines()
        self.assertEqual(head.split(), ["job", "prompt", "state", "queued", "took", "peak", "workflow", "reason"])
        self.assertEqual([row.split()[0] for row in rows], ["4", "3", "2", "1"])
        self.assertFalse([row for row in rows[1:] if row.endswith(" ")])
        self.assertIn("at node 12 K", rows[2])
        self.assertIn("5.6 GiB", rows[3])
        self.assertIn("30.0 s", rows[3])
        for text in (said.stdout, self.agent.cli("job", "2").stdout):
            self.assertNotIn("\033", text)
            self.assertNotIn("\a", text)
            self.assertNotIn("\u202e", text)

    def test_on_a_narrow_terminal_the_reason_takes_the_place_of_the_workflow(self) -> None:
        head, *rows = plain(on_terminal(self.agent, 80, "jobs")).splitlines()
        self.assertTrue(all(len(row) <= 80 for row in (head, *rows)))
        self.assertIn("error at node 12 K", rows[2])
        self.assertIn("SaveImage 3fa91c02", rows[3])

    def test_one_job_by_number_prompt_or_its_beginning(self) -> None:
        for name, number in (("1", 1), (SAME + "1", 1), ("bbbbbbbb-0000-4000-8000-000000000003", 3)):
            done = self.agent.cli("job", name, "--json")
            self.assertEqual((done.returncode, json.loads(done.stdout)["id"]), (OK, number))
            self.assertEqual(list(problems(JOB, json.loads(done.stdout))), [])
        for name, code, text in (("aaaaaaaa", PROBLEM, "several"), ("bb", PROBLEM, "several"), ("cc", PROBLEM, "no such job"),
                                 ("99", PROBLEM, "no such job"), ("a/b", USAGE, "expected"), ("%41", USAGE, "expected"),
                                 ("a" * 65, USAGE, "expected"), ("", USAGE, "expected")):
            with self.subTest(name):
                said = self.agent.cli("job", name)
                self.assertEqual((said.returncode, said.stdout), (code, ""))
                self.assertIn(text, said.stderr)
        self.assertEqual(self.agent.cli("job").returncode, USAGE)

    def test_one_screen_says_why_and_what_to_look_at(self) -> None:
        said = self.agent.cli("job", "2").stdout
        for text in ("failed", "because", "node       12 K", "exception  RuntimeError", "waited", "took 9.60",
                     f"comfymon trace {2:032x}", SAME + "2"):
            self.assertIn(text, said)
        self.assertLess(len(said.splitlines()), 20)
        said = self.agent.cli("job", "1").stdout
        self.assertIn("nodes      7: 5 executed, 2 cached", said)
        self.assertIn("memory     peak 5.6 GiB", said)
        self.assertIn("runs for", self.agent.cli("job", "3").stdout)
        shown = json.loads(self.agent.cli("trace", f"{2:032x}", "--json").stdout)
        self.assertEqual(shown["trace_id"], f"{2:032x}")

    def test_the_status_counts_them_by_state(self) -> None:
        status = self.agent.status()
        self.assertEqual(list(problems(STATUS, status)), [])
        self.assertEqual({state: n for state, n in status["jobs"].items() if n},
                         {"queued": 1, "running": 1, "succeeded": 1, "failed": 1})
        self.assertIn("1 queued, 1 running, 1 succeeded, 1 failed", self.agent.cli("status").stdout)

    def test_the_buffer_answers_alike_when_no_agent_runs(self) -> None:
        asked: Tuple[Tuple[str, ...], ...] = (("jobs", "--json"), ("jobs", "--json", "--state", "failed", "--limit", "1"),
                                              ("job", "2", "--json"), ("job", "bb"), ("job", "cc"), ("job", SAME + "1", "--json"))
        online = [self.agent.cli(*args) for args in asked]
        counts = self.agent.status()["jobs"]
        self.agent.stop()
        offline = [self.agent.cli(*args) for args in asked]
        status = json.loads(self.agent.cli("status", "--json").stdout)
        self.agent.start()
        for args, a, b in zip(asked, online, offline):
            self.assertEqual((a.returncode, a.stdout, a.stderr), (b.returncode, b.stdout, b.stderr), args)
        self.assertEqual(status["jobs"], counts)
        self.assertEqual(list(problems(STATUS, status)), [])


class Nothing(unittest.TestCase):
    def test_without_agent_and_buffer_there_is_nothing_to_ask(self) -> None:
        agent = Agent()
        self.addCleanup(agent.close)
        self.assertEqual(agent.cli("jobs").returncode, NO_AGENT)
        self.assertEqual(agent.cli("job", "1").returncode, NO_AGENT)


class Behind(unittest.TestCase):
    def test_the_status_says_that_jobs_db_is_behind_while_somebody_holds_it(self) -> None:
        with Agent(env={"COMFYMON_DESTINATIONS": "none"}) as agent, Writer(agent.socket_path) as writer:
            done = {"workflow.status": "success"}
            writer.finish([record(writer, 1, "workflow.execute", SAME + "1", 10, 1, tags=done)])
            writer.flush(10)
            path = agent.dirs.data / "jobs.db"
            wait_until(path.exists, 10, "the file")
            wait_until(lambda: agent.status()["jobs_db"]["behind"] == 0, 10, "the first job in it")
            self.assertNotIn("behind", agent.cli("status").stdout)
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as stranger:
                stranger.execute("BEGIN EXCLUSIVE")
                writer.finish([record(writer, 2, "workflow.execute", SAME + "2", 10, 1, tags=done)])
                writer.flush(10)
                wait_until(lambda: agent.status()["jobs_db"]["behind"] == 1, 10, "it is behind")
                self.assertIn("jobs.db is behind by 1", agent.cli("status").stdout)
                stranger.execute("ROLLBACK")
            wait_until(lambda: agent.status()["jobs_db"]["behind"] == 0, 20, "it is as it should be")


class Many(Case):
    """10,000 jobs in the journal."""

    @classmethod
    def fill(cls) -> None:
        spans = []
        for i in range(MANY):
            status = "error" if i % 100 == 7 else "interrupted" if i % 100 == 8 else "success"
            prompt = f"{i:08x}-0000-4000-8000-000000000000"
            spans.append(cls.span(i + 1, "workflow.execute", prompt, 2 * (MANY - i), 1, tags={"workflow.status": status}))
        cls.writer.finish(spans)
        cls.writer.flush(100)

    @unittest.skipIf(sanitizer(), "a time of the program as it is given away")
    def test_the_newest_fifty_come_within_their_time(self) -> None:
        took = []
        for _ in range(9):
            began = time.perf_counter()
            said = self.agent.cli("jobs", "--json", "--limit", "50")
            took.append((time.perf_counter() - began) * 1000)
            listed = lines(said.stdout)
            self.assertEqual([job["id"] for job in listed], list(range(MANY, MANY - 50, -1)))
        print(f"jobs --json --limit 50 of {MANY}: {min(took):.1f} ms")
        self.assertLessEqual(min(took), LIST_MS)

    def test_rare_ones_and_one_by_its_beginning_are_found_among_all(self) -> None:
        began = time.perf_counter()
        listed = lines(self.agent.cli("jobs", "--json", "--state", "failed", "--limit", "1000").stdout)
        rare = (time.perf_counter() - began) * 1000
        self.assertEqual([job["id"] for job in listed], [i + 1 for i in range(MANY - 1, -1, -1) if i % 100 == 7])
        began = time.perf_counter()
        found = json.loads(self.agent.cli("job", f"{1234:08x}", "--json").stdout)
        print(f"jobs --state failed (100 of {MANY}): {rare:.1f} ms; job: {(time.perf_counter() - began) * 1000:.1f} ms")
        self.assertEqual(found["id"], 1235)
        self.assertEqual(self.agent.cli("job", "0000").returncode, PROBLEM)

    def test_the_status_says_how_many_of_each(self) -> None:
        wait_until(lambda: sum(self.agent.status()["jobs"].values()) == MANY, 10, "all of them")
        self.assertEqual({state: n for state, n in self.agent.status()["jobs"].items() if n},
                         {"succeeded": MANY - MANY // 50, "failed": MANY // 100, "interrupted": MANY // 100})
        self.assertIn("9,800 succeeded, 100 failed, 100 interrupted", self.agent.cli("status").stdout)


del Case  # its own name would be run as a test

if __name__ == "__main__":
    unittest.main()
