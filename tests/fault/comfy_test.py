"""ComfyUI killed at random moments of a job: what its probe had seen reaches Datadog, finished or unfinished, once.

The stand-in with the real node folder. A witness node writes down when each node's function began and ended;
jobs are chains of such nodes, several are queued, and the process is killed by SIGKILL, SIGTERM, SIGSEGV or by the
kernel's out-of-memory killer in a cgroup. COMFYMON_KILLS says how often.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import unittest
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Set, Tuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parent / "standin"))
from client import ComfyUI  # noqa: E402
from support.cgroup import Cgroup  # noqa: E402
from support.content import is_unfinished, span_key  # noqa: E402
from support.fake_datadog import FakeDatadog  # noqa: E402
from support.harness import ITS_OWN_MEMORY, ROOT, Agent, sanitizer, wait_until  # noqa: E402
from support.probe import SIGNALS, seed_of  # noqa: E402

NODE = Path(os.environ.get("COMFYMON_BUILD") or ROOT / "build/release") / "node" / "comfymon"
KILLS = int(os.environ.get("COMFYMON_KILLS", 40))
NODES = 8           # in a chain
JOBS = 3            # in a queue
PROFILES = ("p0364", "p0364", "p0368", "p0100")
LIMIT = 160 << 20   # of the cgroup; the stand-in needs 60 MB
GREEDY_MB = 400


class Death(NamedTuple):
    """One host: what it was asked, what its nodes had done, and how it died."""

    how: str
    prompts: List[Tuple[str, str]]  # (our name of the job, prompt id), in order of the queue
    seen: List[str]                 # "job node begun|ended", in order


def chain(job: str, chance: random.Random, greedy: int) -> Dict[str, Any]:
    """Nodes one after another; number `greedy` allocates until it is killed."""
    graph: Dict[str, Any] = {}
    for i in range(1, NODES + 1):
        graph[str(i)] = {"class_type": "Witness", "inputs": {
            "value": [str(i - 1), 0] if i > 1 else 1, "job": job, "seconds": chance.choice((0.0, 0.002, 0.02)),
            "mbytes": GREEDY_MB if i == greedy else 0}}
    return graph


def one_death(number: int, seed: int, agent: Agent, oom: bool) -> Death:
    chance = random.Random(seed * 1000 + number)
    how = "oom" if oom else chance.choice(SIGNALS).name
    base = tempfile.mkdtemp(prefix="cm-", dir=agent.dirs.base)
    env = {"COMFYMON_RUN_DIR": str(agent.dirs.run), "COMFYMON_DATA_DIR": str(agent.dirs.data), "COMFYMON_AUTOSTART": "0",
           "WITNESS": os.path.join(base, "witness"), "COMFYMON_RING_BYTES": str(4 << 20)}
    group = Cgroup(LIMIT) if oom else None
    try:
        host = ComfyUI(kind="standin", profile=chance.choice(PROFILES), node_dirs=[str(NODE), str(HERE / "witness")],
                       env=env, base=base, wrapper=group.wrapper if group else ())
        try:
            host.start()
            prompts = []
            for i in range(JOBS):
                name = f"{number}-{i}"
                greedy = chance.randint(1, NODES) if oom and i == 1 else 0
                prompts.append((name, host.submit(chain(name, chance, greedy))))
            if oom:
                host.wait_exit(30)
            else:
                time.sleep(chance.uniform(0, 0.3))
                host.send_signal(getattr(signal, how))
                host.wait_exit(10)
            if host.process is None or host.process.returncode >= 0:
                raise AssertionError(f"the host ended with {host.process and host.process.returncode}: {host.log()}")
        finally:
            host.close()
        if group and group.kills() == 0:
            raise AssertionError("nothing was killed for memory")
    finally:
        if group:
            group.__exit__()
    return Death(how, prompts, Path(env["WITNESS"]).read_text().splitlines())


class Judge:
    """What must have been delivered of one death."""

    def __init__(self, death: Death, spans: List[Dict[str, Any]]) -> None:
        self.death = death
        self.spans = spans      # of all its prompts
        self.wrong: List[str] = []

    def expect(self, ok: bool, text: str) -> None:
        if not ok:
            self.wrong.append(f"{self.death.how}: {text}")

    def one(self, name: str, prompt: str, node: str = "") -> Dict[str, Any]:
        """The only span of this kind; {} if there is none or there are several, which is wrong."""
        found = [s for s in self.spans if s["name"] == name and s["meta"].get("prompt.id") == prompt
                 and (not node or s["meta"].get("node.id") == node)]
        self.expect(len(found) == 1, f"{len(found)} spans {name} of prompt {prompt} node {node or '-'}")
        return found[0] if len(found) == 1 else {}

    def state(self, span: Dict[str, Any], unfinished: bool, what: str) -> None:
        if span:
            self.expect(is_unfinished(span) == unfinished, f"{what} is {'' if not unfinished else 'not '}unfinished")
            if is_unfinished(span):
                self.expect(span["error"] == 1 and bool(span["meta"].get("error.type")), f"{what}: no error type")

    def judge(self) -> None:
        for job, prompt in self.death.prompts:
            lines = [line.split()[1:] for line in self.death.seen if line.split()[0] == job]
            begun = [node for node, what in lines if what == "begun"]
            ended = {node for node, what in lines if what == "ended"}
            wait = self.one("comfyui.queue.wait", prompt)
            if begun:
                self.state(wait, False, f"the wait of {job}")
                execute = self.one("comfyui.workflow.execute", prompt)
                if len(ended) < NODES:
                    self.state(execute, True, f"the job {job}")
            for node, following in zip(begun, begun[1:] + [""]):
                span = self.one("comfyui.node.execute", prompt, node)
                if following:
                    self.state(span, False, f"node {node} of {job}")
                elif node not in ended:
                    self.state(span, True, f"node {node} of {job}")
            extra = [s for s in self.spans if s["name"] == "comfyui.node.execute" and s["meta"]["prompt.id"] == prompt
                     and s["meta"].get("node.id") not in begun]
            for span in extra:  # its function had not begun when the process died
                self.expect(is_unfinished(span), f"node {span['meta'].get('node.id')} of {job} never ran, yet finished")
        waiting = [job for job, prompt in self.death.prompts
                   if not any(line.startswith(job + " ") for line in self.death.seen)]
        for job, prompt in self.death.prompts:
            if job in waiting[1:]:
                self.state(self.one("comfyui.queue.wait", prompt), True, f"the wait of {job}")


def faults_in(deaths: List[Death], spans: List[Dict[str, Any]]) -> List[str]:
    """Everything that is wrong with what was delivered, a sentence each."""
    wrong = [f"delivered twice: {key}" for key, count in Counter(span_key(span) for span in spans).items() if count > 1]
    traces: Dict[str, Set[int]] = defaultdict(set)
    of_trace: Dict[int, List[Dict[str, Any]]] = defaultdict(list)
    for span in spans:
        of_trace[span["trace_id"]].append(span)
        if "prompt.id" in span["meta"]:
            traces[span["meta"]["prompt.id"]].add(span["trace_id"])
    wrong += [f"prompt {prompt} in {len(ids)} traces" for prompt, ids in traces.items() if len(ids) != 1]
    for death in deaths:
        mine = []
        for _, prompt in death.prompts:
            trace = [span for number in traces[prompt] for span in of_trace[number]]
            requests = sum(span["name"] == "aiohttp.request" for span in trace)
            if requests != 1:
                wrong.append(f"{death.how}: {requests} requests in the trace of {prompt}")
            mine += trace
        judge = Judge(death, mine)
        judge.judge()
        wrong += judge.wrong
    return wrong


class ComfyDies(unittest.TestCase):
    def deaths(self, kills: int, oom: bool, seed: int) -> None:
        with FakeDatadog() as dd, Agent(dd.url) as agent:
            with ThreadPoolExecutor(2) as pool:
                deaths = list(pool.map(lambda n: one_death(n, seed, agent, oom), range(kills)))
            wait_until(lambda: not list(agent.dirs.run.glob("ring-*.cm")), 40, "no ring left")
            agent.drain(40)
            self.assertEqual(dd.problems(), [])
            spans = dd.spans()
            wrong = faults_in(deaths, spans)
            unfinished = Counter(span["name"] for span in spans if is_unfinished(span))
            print(f"{len(deaths)} deaths {dict(Counter(death.how for death in deaths))}, {len(spans)} spans, "
                  f"unfinished {dict(unfinished)}", flush=True)
            self.assertEqual(wrong, [], f"{len(wrong)} wrong")
            status = agent.status()["signals"]["trace"]
            self.assertTrue(status["identity"])
            self.assertEqual(status["sent"], status["received"])
            self.assertGreater(unfinished["comfyui.node.execute"], len(deaths) // 8, "hardly a kill hit a node")
            self.assertGreater(unfinished["comfyui.queue.wait"], len(deaths) // 4, "hardly a kill left a queue")
            self.judge_is_no_friend(deaths, spans, random.Random(seed))

    def judge_is_no_friend(self, deaths: List[Death], spans: List[Dict[str, Any]], chance: random.Random) -> None:
        """It must find each span that is missing, twice, or in the wrong state."""
        for name in ("comfyui.queue.wait", "comfyui.workflow.execute", "comfyui.node.execute", "aiohttp.request"):
            jobs = [s for s in spans if s["name"] == name and not is_unfinished(s)
                    and (name != "aiohttp.request" or s["resource"] == "POST /prompt")]
            for span in chance.sample(jobs, min(3, len(jobs))):
                others = [s for s in spans if s is not span]
                if name != "comfyui.workflow.execute":      # one that had just ended may be missed by nobody's word
                    self.assertTrue(faults_in(deaths, others), f"a missing {name} went unnoticed")
                self.assertTrue(faults_in(deaths, spans + [span]), f"a second {name} went unnoticed")
        nodes = [s for s in spans if is_unfinished(s) and s["name"] == "comfyui.node.execute"]
        noticed = 0
        for span in chance.sample(nodes, min(8, len(nodes))):
            others = [s for s in spans if s is not span]
            if faults_in(deaths, others):   # else its function had not begun: nobody knows of it
                noticed += 1
                changed = {**span, "meta": {k: v for k, v in span["meta"].items() if k != "node.id"}}
                self.assertTrue(faults_in(deaths, others + [changed]), "an unfinished node without its id")
        self.assertGreater(noticed, 0)

    def test_by_a_signal(self) -> None:
        self.deaths(KILLS, False, seed_of(101))

    @unittest.skipIf(sanitizer(), ITS_OWN_MEMORY)
    @unittest.skipIf(Cgroup.missing(), Cgroup.missing())
    def test_by_the_kernel_for_memory(self) -> None:
        self.deaths(max(4, KILLS // 5), True, seed_of(103))


if __name__ == "__main__":
    unittest.main()
