"""Every job is told to the webhook, under one key, whatever happens to the collector: killed at its N-th system call, or its
N-th call of a function fails, while it takes jobs, asks the receiver, and records what it said."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import sys
import time
import unittest
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Dict, List, NamedTuple, Set

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.harness import Agent, binary, sanitizer, wait_until  # noqa: E402
from support.hook_receiver import HookReceiver  # noqa: E402
from support.probe import seed_of  # noqa: E402
from support.writer import Writer, WriterError  # noqa: E402

TOOLS = binary().parent
KILLS = int(os.environ.get("COMFYMON_KILLS", 60))
JOBS = 2           # of one life of the collector


class Failing(NamedTuple):
    call: str
    error: int
    self_only: bool = False   # libraries' calls do not count
    times: int = 1
    most: int = 3000          # no call behind this one


FAILINGS = (Failing("malloc", errno.ENOMEM, self_only=True), Failing("malloc", errno.ENOMEM, most=9000),
            Failing("malloc", errno.ENOMEM, times=50, most=9000), Failing("connect", errno.ECONNREFUSED),
            Failing("send", errno.ECONNRESET), Failing("recv", errno.ECONNRESET), Failing("fsync", errno.EIO),
            Failing("pwrite", errno.EIO))


class Told(unittest.TestCase):
    def setUp(self) -> None:
        self.hook = HookReceiver()
        self.addCleanup(self.hook.close)
        self.agent = Agent(env={"COMFYMON_DESTINATIONS": "none", "COMFYMON_WEBHOOK_URL": self.hook.url,
                                "COMFYMON_WEBHOOK_SECRET": "s"})
        self.addCleanup(self.agent.close)
        self.writer = Writer(self.agent.socket_path)
        self.addCleanup(self.writer.close)
        self.ids: List[str] = []

    def end_jobs(self, count: int) -> Set[str]:
        fresh = [str(uuid.uuid4()) for _ in range(count)]
        self.writer.finish([{
            "trace_id": len(self.ids) + 1 + i, "span_id": 10 * (len(self.ids) + 1 + i), "parent_id": 0, "service": "s",
            "name": "comfyui.workflow.execute", "resource": "W", "type": "worker", "start": self.writer.now(), "duration": 5,
            "error": 0, "meta": {"prompt.id": prompt, "workflow.status": "success"}} for i, prompt in enumerate(fresh)])
        self.ids += fresh
        return set(fresh)

    def told(self) -> Set[str]:
        return {call.job["prompt_id"] for call in self.hook.told()}

    def live(self, timeout: float) -> None:
        """Jobs end until the collector has died, or has told of them and of all before."""
        self.end_jobs(JOBS)
        end = time.monotonic() + timeout
        while self.agent.returncode is None and time.monotonic() < end:
            try:
                self.writer.flush(0.1)
            except WriterError:
                continue
            if set(self.ids) <= self.told():
                return
            time.sleep(0.01)

    def judge(self, lives: int) -> None:
        """A collector that nothing happens to: then all are told, each under one key, hardly any twice."""
        self.agent.wrapper = []
        for name in [name for name in self.agent.env if name.startswith(("FAIL_", "LD_PRELOAD"))]:
            del self.agent.env[name]
        self.agent.start()
        self.writer.flush(15)
        wait_until(lambda: set(self.ids) <= self.told(), 30, "every job told")
        wait_until(lambda: self.agent.status()["webhook"]["waiting"] == 0, 10, "no notice left")
        keys: Dict[str, Set[str]] = defaultdict(set)
        bodies: Dict[str, Set[bytes]] = defaultdict(set)
        for call in self.hook.calls:
            keys[call.job["prompt_id"]].add(call.key)
            bodies[call.key].add(call.body)
        self.assertEqual(set(keys), set(self.ids))
        self.assertEqual({prompt: 1 for prompt in self.ids}, {prompt: len(found) for prompt, found in keys.items()})
        self.assertTrue(all(len(found) == 1 for found in bodies.values()))
        self.assertLessEqual(len(self.hook.calls), len(self.ids) + lives)
        listed = [json.loads(line)["prompt_id"] for line in self.agent.cli("jobs", "--json", "--limit", "10000").stdout.splitlines()]
        self.assertEqual(sorted(listed), sorted(self.ids))
        print(f"{len(self.ids)} jobs, {len(self.hook.calls)} requests, {lives} lives", flush=True)

    def repeats(self) -> int:
        return len(self.hook.calls) - len({call.key for call in self.hook.calls})

    def killed_at(self, n: int) -> bool:
        """A life that ends at its n-th system call from the lock on; whether it told of a job."""
        before = len(self.hook.calls)
        self.agent.wrapper = [str(TOOLS / "nthcall"), "--kill", str(n), "--after", "lock", "--report", str(self.report), "--"]
        self.agent.start(wait=False)
        self.live(4)
        self.agent.kill9()
        return len(self.hook.calls) > before

    def test_killed_at_its_nth_call(self) -> None:
        chance = random.Random(seed_of(71))
        self.report = self.agent.dirs.base / "calls"
        telling, lives = 200, 1
        while not self.killed_at(telling):
            telling = telling * 5 // 4
            lives += 1
            self.assertLess(telling, 50000, "no life told of a job")
        # Over all of it, and as many where notices are told: earlier lives leave some to tell. Longer
        # when by chance no kill came between an answer and its record.
        for k in range(4 * KILLS):
            if k >= KILLS and self.repeats() > 0:
                break
            self.killed_at(chance.randint(1, telling) if k % 2 else chance.randint(telling * 4 // 5, telling * 5 // 4))
            lives += 1
        hit = [int(line.split()[-1]) for line in self.report.read_text().splitlines()]
        print(f"killed at {sum(number >= 0 for number in hit)} of {lives} calls, {len(set(hit))} different ones", flush=True)
        self.assertGreaterEqual(sum(number >= 0 for number in hit), lives // 4, "most kills missed the cycle")
        self.judge(lives)
        self.assertGreater(self.repeats(), 0, "no kill came between an answer and its record")

    def test_a_call_that_fails(self) -> None:
        chance = random.Random(seed_of(73))
        log = self.agent.dirs.base / "failed"
        lives = 0
        for failing in FAILINGS:
            n, runs = 1, 0
            while n <= failing.most:
                log.unlink(missing_ok=True)
                with self.subTest(call=failing.call, error=errno.errorcode[failing.error], times=failing.times, n=n):
                    self.one(failing, n, log)
                lives += 1
                runs += 1
                if not log.exists():  # it makes fewer calls than n
                    break
                n += 1 + int(n * chance.uniform(0.8, 2.0))
            print(f"{failing.call} {errno.errorcode[failing.error]} x{failing.times}: {runs} runs", flush=True)
            self.assertGreater(runs, 1, f"{failing.call} never failed")
        self.judge(lives)

    def one(self, failing: Failing, n: int, log: Path) -> None:
        before = len(self.agent.log())
        # Where its own allocation fails libcrypto loses some of what it had: no leak of ours.
        self_only = failing.self_only or (failing.call == "malloc" and sanitizer() != "")
        self.agent.env.update({"LD_PRELOAD": str(TOOLS / "failcall.so"), "FAIL_CALL": failing.call, "FAIL_AT": str(n),
                               "FAIL_ERRNO": str(failing.error), "FAIL_TIMES": str(failing.times), "FAIL_LOG": str(log),
                               "FAIL_SELF": "1" if self_only else "0"})
        self.agent.start(wait=False)
        self.live(1.0)
        status = self.agent.returncode
        if status is None:
            status = self.agent.stop(8)
        said = self.agent.log()[before:]
        self.assertGreaterEqual(status, 0, said)
        self.assertIsNone(re.search("Sanitizer|panic|assert|corrupt", said), said)
        if status:
            self.assertRegex(said, r"comfymon: \S", "ended without a word")


if __name__ == "__main__":
    unittest.main()
