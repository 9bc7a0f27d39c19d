"""The journal of a ComfyUI that dies at random: every job that was accepted ends once, and for the right reason.

Each death has a parent of its own (`comfymon run`, which writes why the process ended), all share one collector, which
is killed as well now and then. A witness node writes down which node's function began and ended; the reason is known to
who killed. COMFYMON_KILLS says how often (500 were run by hand).
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "standin")]
from client import PINNED, REST_MB, ComfyUI  # noqa: E402
from comfy_test import JOBS, NODE, NODES, chain  # noqa: E402
from support.fake_datadog import FakeDatadog  # noqa: E402
from support.harness import ITS_OWN_MEMORY, Agent, binary, sanitizer, wait_until  # noqa: E402
from support.probe import seed_of  # noqa: E402

KILLS = int(os.environ.get("COMFYMON_KILLS", 24))
# Python's faulthandler prints every thread's stack before it dies of an abort, and may fault while it does.
WAYS = {"SIGKILL": ("killed",), "SIGTERM": ("killed",), "SIGSEGV": ("crash_segv",), "SIGABRT": ("crash_abort", "crash_segv"),
        "memory": ("oom_cgroup", "limit_watch"), "nothing": ("",)}
FINAL = {"succeeded", "failed", "lost"}


class Life(NamedTuple):
    """What was asked of one process, how it died, and what its nodes had done by then."""

    how: str
    accepted: List[str]             # prompt ids, in order of the queue
    names: Dict[str, str]           # of prompt ids, ours
    begun: Dict[str, List[str]]     # nodes whose function began, by our name of the job
    ended: Dict[str, List[str]]


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def one_life(number: int, seed: int, agent: Agent) -> Life:
    chance = random.Random(seed * 1000 + number)
    how = chance.choice(list(WAYS))
    base = tempfile.mkdtemp(prefix="cm-", dir=agent.dirs.base)
    env = {"COMFYMON_RUN_DIR": str(agent.dirs.run), "COMFYMON_DATA_DIR": str(agent.dirs.data),
           "WITNESS": os.path.join(base, "witness"), "COMFYMON_RING_BYTES": str(4 << 20), "COMFYMON_GRACE": "3s",
           "COMFYMON_RUN_DRAIN": "0s"}
    parent = [str(binary()), "run", "--no-agent", "--restart", "never", "--memory-limit", f"{REST_MB + 160}M", "--set",
              "run.memory_soft_limit=none", "--"]
    host = ComfyUI(kind=PINNED, profile=chance.choice(("p0364", "p0368", "p0100")),
                   node_dirs=[str(NODE), str(HERE / "witness")], env=env, base=base, wrapper=parent)
    names: Dict[str, str] = {}
    try:
        host.start()
        comfy = child_of(host.pid)
        for i in range(JOBS):
            name = f"{number}-{i}"
            greedy = chance.randint(1, NODES) if how == "memory" and i == 1 else 0
            names[host.submit(chain(name, chance, greedy))] = name
        if how == "memory":
            host.wait_exit(30)
        elif how == "nothing":
            for prompt in names:
                host.wait(prompt, 60)
            host.send_signal(signal.SIGTERM)    # to the parent: our own stop
            host.wait_exit(20)
        else:
            time.sleep(chance.uniform(0, 0.25))
            os.kill(comfy, getattr(signal, how))
            host.wait_exit(20)
    finally:
        host.close()
    lines = [line.split() for line in Path(env["WITNESS"]).read_text().splitlines()] if os.path.exists(env["WITNESS"]) else []
    return Life(how, list(names), names,
                {n: [node for job, node, what in lines if job == n and what == "begun"] for n in names.values()},
                {n: [node for job, node, what in lines if job == n and what == "ended"] for n in names.values()})


def faults_in(lives: List[Life], jobs: List[Dict[str, Any]]) -> List[str]:
    """Everything that the journal says wrongly, a sentence each."""
    wrong = []
    rows: Dict[str, List[Dict[str, Any]]] = {}
    for row in jobs:
        rows.setdefault(row["prompt_id"], []).append(row)
    for life in lives:
        failed = 0
        for prompt in life.accepted:
            name, of_prompt = life.names[prompt], rows.pop(prompt, [])
            if len(of_prompt) != 1:
                wrong.append(f"{life.how}: {len(of_prompt)} rows of {name}")
                continue
            row, begun, ended = of_prompt[0], life.begun[name], life.ended[name]
            said = f"{life.how}: {name} is {row['state']} ({row['reason']}), nodes {len(ended)}/{len(begun)} of {NODES}"
            if row["state"] not in FINAL:
                wrong.append(said + ": no final state")
            elif row["state"] == "succeeded":
                if len(ended) < NODES:
                    wrong.append(said + ": it was not done")
            elif row["reason"] not in WAYS[life.how]:
                wrong.append(said + ": not the reason")
            elif row["state"] == "lost" and begun:
                wrong.append(said + ": it had run")
            elif row["state"] == "failed":
                failed += 1
                if len(begun) > len(ended) and row["node_id"] != begun[-1]:
                    wrong.append(said + f": node {row['node_id']} and not {begun[-1]}")
                if life.how.startswith("SIG") and row["signal"] != getattr(signal, life.how) and row["reason"] == WAYS[life.how][0]:
                    wrong.append(said + f": signal {row['signal']}")
        if failed > 1:
            wrong.append(f"{life.how}: {failed} jobs ran at once")
    wrong += [f"a job that nobody gave: {prompt}" for prompt in rows]
    return wrong


@unittest.skipIf(sanitizer(), ITS_OWN_MEMORY)
class JobsOfTheDead(unittest.TestCase):
    def test_every_accepted_job_ends_once_and_for_the_right_reason(self) -> None:
        seed = seed_of(107)
        chance = random.Random(seed)
        with FakeDatadog() as dd, Agent(dd.url) as agent:
            done = threading.Event()

            def harass() -> None:
                while not done.wait(chance.uniform(2, 8)):
                    agent.kill9()
                    agent.start()

            harasser = threading.Thread(target=harass)
            harasser.start()
            try:
                with ThreadPoolExecutor(2) as pool:
                    lives = list(pool.map(lambda n: one_life(n, seed, agent), range(KILLS)))
            finally:
                done.set()
                harasser.join()
            wait_until(lambda: not list(agent.dirs.run.glob("ring-*.cm")), 40, "no ring left")

            def open_jobs() -> int:
                counts = agent.status()["jobs"]
                return int(counts["queued"] + counts["running"])
            wait_until(lambda: open_jobs() == 0, 20, "no job left open")
            jobs = self.jobs(agent)
            print(f"{len(lives)} lives {dict(Counter(life.how for life in lives))}, jobs "
                  f"{dict(Counter((job['state'], job['reason'] or '-') for job in jobs))}", flush=True)
            self.assertEqual(faults_in(lives, jobs), [])
            self.in_the_file(agent, jobs)
            self.judge_is_no_friend(lives, jobs, chance)

    def jobs(self, agent: Agent) -> List[Dict[str, Any]]:
        run = subprocess.run([str(binary()), "jobs", "--json", "--limit", "10000"], capture_output=True, timeout=30,
                             env={**os.environ, "COMFYMON_RUN_DIR": str(agent.dirs.run),
                                  "COMFYMON_DATA_DIR": str(agent.dirs.data)}, check=True)
        return [json.loads(line) for line in run.stdout.splitlines()]

    def in_the_file(self, agent: Agent, jobs: List[Dict[str, Any]]) -> None:
        """jobs.db says the same to anybody, while the collector runs."""
        wait_until(lambda: agent.status()["jobs_db"]["behind"] == 0, 10, "jobs.db to catch up")
        db = sqlite3.connect(f"file:{agent.dirs.data}/jobs.db?mode=ro", uri=True)
        try:
            rows = db.execute("SELECT prompt_id, state, reason, signal, node_id, trace_id FROM job").fetchall()
        finally:
            db.close()

        def known(value: Optional[Any]) -> Optional[Any]:
            return value or None
        self.assertEqual(sorted(map(str, rows)), sorted(str((
            j["prompt_id"], j["state"], known(j["reason"]), known(j["signal"]), known(j["node_id"]), j["trace_id"]))
            for j in jobs))

    def judge_is_no_friend(self, lives: List[Life], jobs: List[Dict[str, Any]], chance: random.Random) -> None:
        """It must find a job that is missing, twice, or ended in another way."""
        for row in chance.sample(jobs, min(12, len(jobs))):
            others = [other for other in jobs if other is not row]
            self.assertTrue(faults_in(lives, others), "a missing job went unnoticed")
            self.assertTrue(faults_in(lives, jobs + [row]), "a second one went unnoticed")
            self.assertTrue(faults_in(lives, others + [{**row, "state": "running"}]), "one without an end")
            if row["state"] != "succeeded":
                self.assertTrue(faults_in(lives, others + [{**row, "state": "succeeded"}]) or row["state"] == "failed",
                                "one that was not done")
                self.assertTrue(faults_in(lives, others + [{**row, "reason": "exit_error"}]), "a wrong reason")


if __name__ == "__main__":
    unittest.main()
