"""One call fails, at any moment of an agent's whole life or of a supervisor's: nobody crashes, who gives up says why, nothing is lost.

The agent has jobs, a process whose memory and health it watches, and is asked everything that its control socket knows. The
supervisor starts a command that dies and one that follows. N goes over all of it: a sample that $COMFYMON_SEED draws.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import random
import re
import socket
import subprocess
import sys
import time
import unittest
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, Iterator, NamedTuple, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.arena import Arena  # noqa: E402
from support.harness import Dirs, binary, clean_env, sanitizer  # noqa: E402
from support.probe import seed_of  # noqa: E402
from support.writer import Writer, WriterError  # noqa: E402

TOOLS = binary().parent
TARGETS = ("/status", "/healthz", "/readyz", "/jobs?limit=5", "/job/1", "/memory?points=20", "/traces?limit=5", "/trace/1", "/no")
BROKEN = re.compile("Sanitizer|panic|assert|corrupt|stack smashing|double free")
RUNS = int(os.environ.get("COMFYMON_RUNS", 14))     # of each kind of failure


class Failing(NamedTuple):
    call: str
    error: int
    most: int                   # no call behind this one
    self_only: bool = False     # its libraries' calls do not count
    times: int = 1

    def __str__(self) -> str:
        return f"{self.call} {errno.errorcode[self.error]} x{self.times}{' of its own' if self.self_only else ''}"

    def env(self, n: int, log: Path, verb: str) -> Dict[str, str]:
        # A sanitizer does not survive a malloc of its own threads that fails.
        self_only = self.self_only or (self.call == "malloc" and sanitizer() != "")
        return {"LD_PRELOAD": str(TOOLS / "failcall.so"), "FAIL_CALL": self.call, "FAIL_AT": str(n), "FAIL_VERB": verb,
                "FAIL_ERRNO": str(self.error), "FAIL_TIMES": str(self.times), "FAIL_LOG": str(log),
                "FAIL_SELF": "1" if self_only else "0"}

    def moments(self, chance: random.Random) -> Iterator[int]:
        """Spread over all of it, small numbers more densely; in rising order, so that the last may miss."""
        n, step = 1.0, self.most ** (1 / RUNS)
        for _ in range(RUNS):
            yield int(n * chance.uniform(1.0, step))
            n *= step


AGENT = (Failing("malloc", errno.ENOMEM, 3000, self_only=True), Failing("malloc", errno.ENOMEM, 12000),
         Failing("malloc", errno.ENOMEM, 3000, self_only=True, times=40),   # neither nng's first call nor dlopen survives it
         Failing("open", errno.EMFILE, 600), Failing("threads", errno.EAGAIN, 30),
         Failing("read", errno.EIO, 60, self_only=True),   # nng aborts when a read of its eventfd fails
         Failing("write", errno.ENOSPC, 60, self_only=True), Failing("pread", errno.EIO, 600))

RUN = (Failing("malloc", errno.ENOMEM, 120), Failing("malloc", errno.ENOMEM, 120, times=20), Failing("fork", errno.EAGAIN, 3),
       Failing("fork", errno.ENOMEM, 3), Failing("pipe", errno.EMFILE, 9), Failing("open", errno.EMFILE, 150),
       Failing("open", errno.EACCES, 150), Failing("write", errno.ENOSPC, 60), Failing("read", errno.EIO, 60),
       Failing("fsync", errno.EIO, 12), Failing("pwrite", errno.ENOSPC, 12))


class Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=5)
        self.path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(self.path)


def ask(path: Path, target: str) -> Tuple[int, bytes]:
    """Status and body of an answer; 0: none."""
    connection = Unix(path)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


class AgentLives(unittest.TestCase):
    def test_whichever_call_fails(self) -> None:
        seed = seed_of(79)
        chance = random.Random(seed)
        with Arena(seed) as arena, Writer(arena.agent.socket_path, arena.ledger) as self.writer:
            log = arena.agent.dirs.base / "failed"
            living = arena.probes.spawn("--traces", "1000000", "--spans", "7", "--tags", "3", "--jobs", "--rate", "200")
            for failing in AGENT:
                hit = 0
                for n in failing.moments(chance):
                    log.unlink(missing_ok=True)
                    with self.subTest(failing=str(failing), n=n):
                        self.one(arena, failing, n, log)
                    hit += log.exists()
                print(f"{failing}: failed in {hit} of {RUNS} lives", flush=True)
                self.assertGreater(hit, 1, f"{failing} never failed")
            living.terminate()
            arena.probes.reap(living)
            arena.start_calm()
            self.writer.flush(15)
            jobs = [line for line in arena.agent.cli("jobs", "--json", "--limit", "10000").stdout.splitlines()]
            self.assertEqual(len(jobs), self.jobs)
            report = arena.verify()
            self.assertTrue(report.ok, str(report))
            self.assertEqual(arena.dd.problems(), [])
            print(f"answered: {self.answered}", flush=True)
            self.assertGreater(min(self.answered.values()), RUNS, "hardly anything was asked")
            self.assertGreater(self.answered["/jobs?limit=5"], 0.75 * self.answered["/status"], "jobs come through too seldom")

    def setUp(self) -> None:
        self.answered = {target: 0 for target in TARGETS}
        self.jobs = 0

    def end_jobs(self, count: int) -> None:
        for _ in range(count):
            self.jobs += 1
            self.writer.finish([{
                "trace_id": self.jobs, "span_id": 10 * self.jobs, "parent_id": 0, "service": "s", "resource": "W",
                "name": "comfyui.workflow.execute", "type": "worker", "start": self.writer.now(), "duration": 5, "error": 0,
                "meta": {"prompt.id": str(uuid.UUID(int=self.jobs)), "workflow.status": "success"}}])

    def one(self, arena: Arena, failing: Failing, n: int, log: Path) -> None:
        """It goes on, or ends with a word, and is never broken."""
        agent = arena.agent
        before = len(agent.log())
        arena.start_doomed(failing.env(n, log, "agent"))
        self.end_jobs(2)
        # Long enough that the jobs are taken and the process is looked at, if that is to be.
        end = time.monotonic() + 0.5
        while agent.returncode is None and time.monotonic() < end and (
                self.writer.waiting or b'"rss_bytes":' not in ask(agent.control_path, "/memory")[1]):
            with contextlib.suppress(WriterError):
                self.writer.flush(0.02)
        answers = {target: ask(agent.control_path, target) for target in TARGETS}
        for target, (code, body) in answers.items():
            self.answered[target] += code != 0 and (code != 200 or b"{" in body)
        if agent.returncode is None:
            agent.process.terminate()
        status = arena.dies(12.0)
        said = agent.log()[before:]
        self.assertIsNotNone(status, f"did not end 12 s after SIGTERM:\n{said}")
        self.assertGreaterEqual(status or 0, 0, f"died of signal {-(status or 0)}:\n{said}")
        self.assertNotRegex(said, BROKEN)
        if status:
            self.assertRegex(said, r"comfymon: \S", f"ended with {status} and no word")


# The first life fails, the second ends well; each leaves a mark that it was there.
COMMAND = 'echo "$COMFYMON_LIFE" >>"$0"; case "$COMFYMON_LIFE" in *-1-*) exit 3;; esac; exit 0'


class Supervision:
    """One `comfymon run` in which a call fails, and what it left."""

    def __init__(self, failing: Failing, n: int) -> None:
        self.failing, self.n = failing, n
        dirs = Dirs()
        try:
            log, lives, exits = dirs.base / "failed", dirs.base / "lives", dirs.data / "exits"
            env = clean_env(dirs, None, {"COMFYMON_DESTINATIONS": "none", **failing.env(n, log, "run")})
            done = subprocess.run([str(binary()), "run", "--no-agent", "--restart", "on-failure", "--", "sh", "-c", COMMAND,
                                   str(lives)], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=60, check=False)
            self.status, self.said = done.returncode, done.stdout + done.stderr
            self.hit = log.exists()
            self.lives = lives.read_text().splitlines() if lives.exists() else []
            self.exits = exits.read_text() if exits.exists() else ""
        finally:
            dirs.remove()


class SupervisorLives(unittest.TestCase):
    def test_whichever_call_fails(self) -> None:
        chance = random.Random(seed_of(83))
        # Most of a run is the pause between its two lives.
        with ThreadPoolExecutor(6) as pool:
            runs = list(pool.map(lambda args: Supervision(*args), [(failing, n) for failing in RUN
                                                                   for n in sorted(set(failing.moments(chance)))]))
        for run in runs:
            with self.subTest(failing=str(run.failing), n=run.n):
                self.judge(run)
        for failing in RUN:
            of = [run.hit for run in runs if run.failing == failing]
            print(f"{failing}: failed in {sum(of)} of {len(of)} runs", flush=True)
            self.assertGreater(sum(of), 0, f"{failing} never failed")

    def test_a_restart_that_cannot_be_had_now_is_tried_again(self) -> None:
        for call, error, n in (("fork", errno.EAGAIN, 2), ("pipe", errno.EMFILE, 4)):
            run = Supervision(Failing(call, error, n), n)
            self.assertTrue(run.hit)
            self.assertIn("again_in_ms", run.said)
            self.assertEqual((run.status, len(run.lives)), (0, 2), run.said)

    def judge(self, run: Supervision) -> None:
        """The command has its lives and each end is on the disk, or somebody has said what was not done."""
        said = run.said
        self.assertGreaterEqual(run.status, 0, f"died of signal {-run.status}:\n{said}")
        self.assertNotRegex(said, BROKEN)
        if run.status == 0:
            self.assertEqual(len(run.lives), 2, said)
        else:
            self.assertRegex(said, r"comfymon: \S|(error|warn) \w", f"ended with {run.status} and no word")
        for life in run.lives:
            if f"life={life} " not in run.exits:
                self.assertIn("exit_not_written", said, f"nobody knows of the end of {life}")


if __name__ == "__main__":
    unittest.main()
