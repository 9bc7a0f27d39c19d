"""A webhook is told of every job that has ended, at least once: receivers that are down, slow, rude or gone, agents that are
killed; signed so that anybody can check it, and no secret shown."""

from __future__ import annotations

import json
import re
import socket
import sys
import tempfile
import time
import unittest
import uuid
from pathlib import Path
from typing import Any, Callable, Dict, List, Set

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from support.harness import ROOT, Agent, binary, wait_until  # noqa: E402
from support.hook_receiver import HookReceiver, Reply, is_signed  # noqa: E402
from support.json_schema import problems  # noqa: E402
from support.writer import Writer, own_identity  # noqa: E402

SECRET = "open sesame, but longer"
JOB = json.loads((ROOT / "schema" / "views" / "jobs.schema.json").read_text(encoding="utf-8"))
REFUSALS = 3


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.hook = HookReceiver()
        self.addCleanup(self.hook.close)
        self.agent = self.agent_with({"COMFYMON_WEBHOOK_URL": self.hook.url, "COMFYMON_WEBHOOK_SECRET": SECRET})
        self.agent.start()
        self.writer = Writer(self.agent.socket_path)
        self.addCleanup(self.writer.close)
        self.serial = 0

    def agent_with(self, env: Dict[str, str]) -> Agent:
        agent = Agent(env={"COMFYMON_DESTINATIONS": "none", **env})
        self.addCleanup(agent.close)
        return agent

    def end_jobs(self, count: int, status: str = "success") -> List[str]:
        """Jobs that have ended; their prompt ids. Stored when this returns."""
        spans: List[Dict[str, Any]] = []
        ids = []
        for _ in range(count):
            self.serial += 1
            ids.append(str(uuid.uuid4()))
            spans.append({"trace_id": self.serial, "span_id": self.serial * 10, "parent_id": 0, "service": "s",
                          "name": "comfyui.workflow.execute", "resource": "SaveImage 3fa91c02", "type": "worker",
                          "start": self.writer.now() - 5_000_000, "duration": 4_000_000, "error": int(status == "error"),
                          "meta": {"prompt.id": ids[-1], "workflow.status": status},
                          "metrics": {"queue.item": self.serial}})
        self.writer.finish(spans)
        self.writer.flush(10)
        return ids

    def status(self) -> Dict[str, Any]:
        return self.agent.status()["webhook"]

    def retry_now(self) -> None:
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(10)
            control.connect(str(self.agent.control_path))
            control.sendall(b"POST /retry HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.assertIn(b" 202 ", control.recv(4096))

    def hurry(self, enough: Callable[[], bool], timeout: float, what: str) -> None:
        """Without its rests."""
        def asked() -> bool:
            self.retry_now()
            return enough()
        wait_until(asked, timeout, what, 0.05)

    def wait_told(self, ids: List[str], timeout: float = 15) -> None:
        wait_until(lambda: set(ids) <= {call.job["prompt_id"] for call in self.hook.told()}, timeout, "all of them told")
        wait_until(lambda: self.status()["waiting"] == 0, timeout, "no notice left")


class Tells(Case):
    def test_tells_each_job_once_signed_and_as_the_schema_says(self) -> None:
        ids = self.end_jobs(3) + self.end_jobs(1, "error") + self.end_jobs(1, "interrupted")
        self.wait_told(ids)
        calls = self.hook.calls
        self.assertEqual([call.job["prompt_id"] for call in calls], ids)  # in order, none twice
        self.assertEqual([call.job["state"] for call in calls], ["succeeded"] * 3 + ["failed", "interrupted"])
        listed = {job["id"]: job for job in map(json.loads, self.agent.cli("jobs", "--json").stdout.splitlines())}
        for call in calls:
            self.assertEqual(list(problems(JOB, call.job)), [])
            self.assertEqual(call.job, listed[call.job["id"]])
            self.assertEqual(call.key, f"{call.job['boot_id']}-{call.job['id']}-{call.job['state']}")
            self.assertEqual((call.path, call.headers["content-type"]), ("/hook", "application/json"))
            self.assertTrue(call.headers["user-agent"].startswith("comfymon/"))
            self.assertTrue(is_signed(call, SECRET))
            self.assertFalse(is_signed(call, SECRET + "x"))
            self.assertFalse(is_signed(call._replace(body=call.body.replace(b"succeeded", b"failed") + b" "), SECRET))
            self.assertLess(abs(int(call.headers["comfymon-timestamp"]) - time.time()), 60)
        status = self.status()
        self.assertEqual((status["state"], status["told"], status["retries"], status["signed"]), ("ok", 5, 0, True))

    def test_a_leap_of_the_clock_makes_no_notice_old(self) -> None:
        self.agent.close()
        self.hook.script(*[Reply(503)] * 3)
        shift = Path(self.agent.dirs.base).with_suffix(".shift")
        self.addCleanup(shift.unlink, True)
        self.agent = self.agent_with({"COMFYMON_WEBHOOK_URL": self.hook.url, "LD_PRELOAD": str(binary().parent / "clockshift.so"),
                                      "CLOCK_SHIFT_FILE": str(shift)})
        shift.write_text("0")
        self.agent.start()
        self.writer = Writer(self.agent.socket_path)
        self.addCleanup(self.writer.close)
        ids = self.end_jobs(2)
        wait_until(lambda: self.status()["retries"] > 0, 10, "a first try")
        shift.write_text(str(400 * 86400))
        self.hurry(lambda: {call.job["prompt_id"] for call in self.hook.told()} == set(ids), 15, "both told after all")
        self.assertEqual(self.status()["expired"], 0)

    def test_a_secret_is_in_no_log_status_or_check(self) -> None:
        self.agent.close()
        url = self.hook.url.replace("127.0.0.1", "user:word@127.0.0.1") + "?token=tk-4711"
        self.agent = self.agent_with({"COMFYMON_WEBHOOK_URL": url, "COMFYMON_WEBHOOK_SECRET": SECRET,
                                      "COMFYMON_LOG_LEVEL": "debug"})
        self.agent.start()
        self.writer = Writer(self.agent.socket_path)
        self.addCleanup(self.writer.close)
        self.hook.script(Reply(500), Reply(404))
        self.wait_told(self.end_jobs(2))
        self.assertEqual(self.hook.calls[0].headers["authorization"], "Basic dXNlcjp3b3Jk")
        self.assertEqual(self.hook.calls[0].path, "/hook?token=tk-4711")
        said = self.agent.log()
        for args in (("status",), ("status", "--json"), ("check",), ("check", "--json"), ("jobs", "--json"), ("doctor",)):
            done = self.agent.cli(*args)
            said += done.stdout + done.stderr
        self.agent.stop()
        said += self.agent.log()
        self.assertIn(f"http://127.0.0.1:{self.hook.url.split(':')[2].split('/')[0]}", said)
        for secret in (SECRET, "word", "tk-4711", "dXNlcjp3b3Jk"):
            self.assertNotIn(secret, said)
        for call in self.hook.calls:
            self.assertNotIn(SECRET, json.dumps(call.headers) + call.body.decode())

    def test_without_a_secret_nothing_is_signed_and_the_log_says_so_once(self) -> None:
        self.agent.close()
        self.agent = self.agent_with({"COMFYMON_WEBHOOK_URL": self.hook.url})
        self.agent.start()
        self.writer = Writer(self.agent.socket_path)
        self.addCleanup(self.writer.close)
        self.wait_told(self.end_jobs(2))
        self.assertNotIn("comfymon-signature", self.hook.calls[0].headers)
        self.assertEqual(self.agent.log().count("carry no signature"), 1)
        self.assertIn("not signed", self.agent.cli("status").stdout)

    def test_no_webhook_no_thread_and_no_notice(self) -> None:
        threads = {path.read_text(encoding="ascii").strip() for path in Path(f"/proc/{self.agent.pid}/task").glob("*/comm")}
        self.assertIn("webhook", threads)
        other = self.agent_with({})
        other.start()
        threads = {path.read_text(encoding="ascii").strip() for path in Path(f"/proc/{other.pid}/task").glob("*/comm")}
        self.assertNotIn("webhook", threads)
        with Writer(other.socket_path) as self.writer:
            self.end_jobs(2)
        self.assertIsNone(other.status()["webhook"])
        self.assertEqual(other.status()["jobs"]["succeeded"], 2)

    def test_notices_that_nobody_wants_any_more_are_dropped_and_said(self) -> None:
        self.hook.refuse()
        self.end_jobs(3)
        wait_until(lambda: self.status()["state"] == "offline", 10, "a failed try")
        self.agent.stop()
        for name in ("COMFYMON_WEBHOOK_URL", "COMFYMON_WEBHOOK_SECRET"):
            del self.agent.env[name]
        self.agent.start()
        self.assertIn("notices_dropped count=3", self.agent.log())
        self.agent.stop()
        self.agent.start()
        self.assertEqual(self.agent.log().count("notices_dropped"), 1)


class Outages(Case):
    def test_down_for_an_hour_then_up_everything_is_told_in_order(self) -> None:
        """The hour is short here; that the rests grow to ten minutes and no further is the unit test's."""
        self.hook.refuse()
        ids = self.end_jobs(40)
        wait_until(lambda: self.status()["retries"] >= 3, 20, "three tries that failed")
        status = self.status()
        self.assertEqual((status["state"], status["waiting"], status["told"]), ("offline", 40, 0))
        self.assertGreater(status["next_try_ns"], 0)
        self.assertLess(status["retries"], 12)  # one a rest, not one a notice
        self.assertIn("40 waiting", self.agent.cli("status").stdout)
        self.hook.reopen()
        self.wait_told(ids, 30)
        self.assertEqual([call.job["prompt_id"] for call in self.hook.calls], ids)
        self.assertEqual(self.agent.log().count("webhook_failed"), 1)
        self.assertEqual(self.agent.log().count("webhook_resumed"), 1)

    def test_an_agent_that_is_killed_tells_it_again_under_the_same_key(self) -> None:
        self.hook.always(Reply(wait_s=1.0))
        ids = self.end_jobs(2)
        wait_until(lambda: len(self.hook.calls) == 1, 10, "the first request")
        self.agent.kill9()  # the receiver has it, and its answer finds nobody
        self.hook.always(Reply())
        self.agent.start()
        self.wait_told(ids)
        keys = [call.key for call in self.hook.calls]
        self.assertEqual(keys[0], keys[1])
        self.assertEqual(len(set(keys)), 2)
        self.assertEqual(self.hook.calls[0].body, self.hook.calls[1].body)

    def test_killed_at_random_moments_nothing_is_missed(self) -> None:
        ids: List[str] = []
        self.hook.always(Reply(wait_s=0.02))
        for _ in range(5):
            ids += self.end_jobs(8)
            time.sleep(0.07)
            self.agent.kill9()
            self.agent.start()
        self.wait_told(ids, 30)
        for job in ids:  # twice at most, and then under one key
            told = [call for call in self.hook.calls if call.job["prompt_id"] == job]
            self.assertEqual(len({call.key for call in told}), 1)
        self.assertLessEqual(len(self.hook.calls), len(ids) + 5)

    def test_a_stop_lets_the_request_in_flight_end(self) -> None:
        self.hook.always(Reply(wait_s=0.3))
        self.end_jobs(1)
        wait_until(lambda: len(self.hook.calls) == 1, 10, "the request")
        self.assertEqual(self.agent.stop(), 0)
        self.agent.start()
        self.assertEqual(self.status()["waiting"], 0)
        self.assertEqual(len(self.hook.calls), 1)

    def test_a_retry_that_a_person_asks_for_comes_at_once(self) -> None:
        self.hook.always(Reply(503, {"Retry-After": "600"}))
        ids = self.end_jobs(2)
        wait_until(lambda: self.status()["retries"] == 1, 10, "a try that failed")
        self.hook.always(Reply())
        time.sleep(1.2)
        self.assertEqual(len(self.hook.calls), 1)
        self.retry_now()
        self.wait_told(ids)


class Replies(Case):
    def test_retry_after_is_heeded(self) -> None:
        self.hook.script(Reply(429, {"Retry-After": "2"}))
        self.wait_told(self.end_jobs(1))
        first, second = self.hook.calls
        self.assertGreaterEqual(second.at - first.at, 1.9)
        self.assertLess(second.at - first.at, 6)

    def test_a_refusal_is_asked_for_three_times_then_counted_and_stops_nobody(self) -> None:
        self.hook.script(*[Reply(400)] * REFUSALS)
        refused = self.end_jobs(1)
        wait_until(lambda: self.status()["given_up"] == 1, 20, "the end of its tries")
        self.wait_told(self.end_jobs(2))
        self.assertEqual([call.status for call in self.hook.calls][:REFUSALS], [400] * REFUSALS)
        self.assertEqual({call.job["prompt_id"] for call in self.hook.calls[:REFUSALS]}, set(refused))
        self.assertIn("webhook_given_up", self.agent.log())
        self.assertEqual(self.status()["waiting"], 0)
        self.assertIn("1 given up", self.agent.cli("status").stdout)

    def test_the_count_of_refusals_survives_the_agent(self) -> None:
        self.hook.script(Reply(400), Reply(400))
        self.end_jobs(1)
        wait_until(lambda: self.status()["retries"] == 2, 20, "two refusals")
        self.agent.stop()
        self.hook.always(Reply(400))
        self.agent.start()
        wait_until(lambda: self.status()["given_up"] == 1, 20, "the third and last")
        self.assertEqual(len(self.hook.calls), REFUSALS)

    def test_whatever_answers_the_notice_is_told_and_memory_stays(self) -> None:
        with tempfile.NamedTemporaryFile() as bait:
            hostile = [Reply(raw=b"\x16\x03\x01garbage\r\n\r\n"), Reply(raw=b""), Reply(raw=b"HTTP/1.1 200 OK\r\nX: y\r\n"),
                       Reply(raw=b"HTTP/1.1 200 OK\r\n" + b"X-More: more\r\n" * 100_000, repeat=4),
                       Reply(302, {"Location": f"file://{bait.name}"}), Reply(500, body=b"e" * 10_000)]
            self.hook.script(*hostile)
            began = self.resident_kb()
            self.end_jobs(1)
            self.hurry(lambda: self.status()["told"] == 1, 20, "its end")
            self.assertEqual(len(self.hook.calls), len(hostile) + 1)
            self.assertEqual(len({call.key for call in self.hook.calls}), 1)
        endless = Reply(raw=b"HTTP/1.1 200 OK\r\n\r\n" + b"{" * 1_000_000, repeat=30)
        self.hook.script(endless)
        self.end_jobs(1)
        wait_until(lambda: self.status()["told"] == 2, 15, "a 200 whose body is not read to its end")
        self.assertLess(self.resident_kb() - began, 16 * 1024)

    def test_a_redirect_leads_nowhere(self) -> None:
        with HookReceiver() as elsewhere:
            self.hook.script(Reply(307, {"Location": elsewhere.url}), Reply(301, {"Location": elsewhere.url}))
            self.end_jobs(1)
            self.hurry(lambda: self.status()["told"] == 1, 20, "its end")
            self.assertEqual([call.status for call in self.hook.calls], [307, 301, 204])
            self.assertEqual(elsewhere.calls, [])

    def resident_kb(self) -> int:
        text = Path(f"/proc/{self.agent.pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmRSS:\s+(\d+)", text)
        return int(found.group(1)) if found else 0


class Queue(Case):
    def test_one_that_the_receiver_cannot_digest_does_not_stop_those_behind_it(self) -> None:
        self.hook.always(Reply(500))
        bad, = self.end_jobs(1)
        wait_until(lambda: self.status()["retries"] >= 1, 10, "a try that failed")
        self.hook.for_prompt(bad, Reply(500))
        self.hook.always(Reply())
        good = self.end_jobs(20)
        wait_until(lambda: set(good) <= {call.job["prompt_id"] for call in self.hook.told()}, 20, "the others told")
        self.assertEqual(self.status()["waiting"], 1)


class Deaths(Case):
    def test_jobs_that_died_with_their_process_are_told(self) -> None:
        """A probe that leaves without a word: what ran has failed, what waited is lost."""
        running, waiting = str(uuid.uuid4()), str(uuid.uuid4())
        gone = Writer(self.agent.socket_path, identity=own_identity()._replace(boot_id=bytes(16)))
        now = self.writer.now()
        common = {"parent_id": 0, "service": "s", "type": "worker", "error": 0, "duration": 0, "start": now}
        gone.open([{**common, "trace_id": 1, "span_id": 10, "name": "comfyui.workflow.execute", "resource": "W",
                    "meta": {"prompt.id": running}},
                   {**common, "trace_id": 2, "span_id": 20, "name": "comfyui.queue.wait", "resource": "W",
                    "meta": {"prompt.id": waiting}}])
        gone.flush(10)
        self.assertEqual(self.states(), {"running", "queued"})
        self.assertEqual(self.hook.calls, [])
        gone.close()
        self.agent.stop()
        self.agent.start()
        wait_until(lambda: len(self.hook.told()) == 2, 20, "both ends")
        told = {call.job["prompt_id"]: (call.job["state"], call.job["reason"] is not None) for call in self.hook.told()}
        self.assertEqual(told, {running: ("failed", True), waiting: ("lost", True)})

    def states(self) -> Set[str]:
        return {json.loads(line)["state"] for line in self.agent.cli("jobs", "--json").stdout.splitlines()}


if __name__ == "__main__":
    unittest.main()
