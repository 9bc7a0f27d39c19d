"""The ledger holds while the process of the probe dies: real ring, real sender, real signals."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.content import LOOSE  # noqa: E402
from support.fake_datadog import FakeDatadog  # noqa: E402
from support.harness import Agent, sanitizer  # noqa: E402
from support.ledger import Ledger  # noqa: E402
from support.probe import SIGNALS, TRAFFIC, Probes, seed_of  # noqa: E402

KILLS = int(os.environ.get("COMFYMON_KILLS", 60))
TOGETHER = 6


class ProbeDies(unittest.TestCase):
    def setUp(self) -> None:
        self.seed = seed_of(20)
        self.random = random.Random(self.seed)
        self.ledger = Ledger(rules=LOOSE)
        self.dd = FakeDatadog(rules=LOOSE, compact=True)
        self.agent = Agent(self.dd.url)
        self.probes = Probes(self.agent, self.ledger, self.seed)

    def tearDown(self) -> None:
        self.probes.close()
        self.agent.close()
        self.dd.close()

    def report(self, what: str) -> None:
        report = self.ledger.verify(self.dd.requests())
        print(f"{what}: {report}", flush=True)
        self.assertEqual(self.dd.problems(), [])

    def kill_some(self, kills: int) -> None:
        for _ in range(kills):
            while len(self.probes.alive) < TOGETHER:
                rate = self.random.choice(("500", "3000", "12000"))
                self.probes.spawn(*TRAFFIC, "--rate", rate, "--ring-bytes", "4000000")
            time.sleep(self.random.uniform(0.0, 0.08))
            self.probes.kill(self.random.choice(SIGNALS))
        self.probes.kill(signal.SIGKILL, every=True)

    def test_a_probe_that_ends_in_peace_leaves_nothing_open(self) -> None:
        self.agent.start()
        for _ in range(3):
            self.probes.spawn("--traces", "200", "--spans", "21", "--tags", "10", "--jobs")
        for process in list(self.probes.alive):
            self.assertEqual(self.probes.reap(process), 0)
        self.probes.settle(self.dd)
        report = self.ledger.verify(self.dd.requests())
        self.assertEqual(report.counts["unfinished"], 0)
        self.assertEqual(report.counts["delivered"], 3 * 200 * 21)
        self.report("peaceful end")

    def test_killed_at_any_moment_beside_a_collector(self) -> None:
        self.agent.start()
        self.kill_some(KILLS)
        self.probes.settle(self.dd)
        self.report(f"{self.probes.ended} probes killed")

    def test_killed_before_a_collector_was_ever_there(self) -> None:
        self.kill_some(KILLS // 4)
        if not sanitizer():     # under which some are killed before they have a ring
            self.assertEqual(len(self.probes.rings()), self.probes.ended)
        self.agent.start()
        self.probes.settle(self.dd)
        self.report(f"{self.probes.ended} rings salvaged at the start")

    def test_killed_together_with_the_collector(self) -> None:
        for _ in range(max(3, KILLS // 8)):
            self.agent.start()
            for _ in range(3):
                self.probes.spawn(*TRAFFIC, "--rate", "3000", "--ring-bytes", "4000000")
            time.sleep(self.random.uniform(0.05, 0.6))
            first, second = self.random.sample((self.kill_probes, self.kill_agent), 2)
            first()
            second()
        self.agent.start()
        self.probes.settle(self.dd)
        self.report(f"{len(self.ledger.kills)} collectors and {self.probes.ended} probes killed")

    def kill_probes(self) -> None:
        self.probes.kill(signal.SIGKILL, every=True)

    def kill_agent(self) -> None:
        self.agent.kill9(self.ledger)

    def test_the_collector_is_killed_again_and_again_while_probes_go_on(self) -> None:
        self.agent.start()
        for _ in range(3):
            self.probes.spawn(*TRAFFIC, "--rate", "1500", "--ring-bytes", "8000000")
        for _ in range(max(6, KILLS // 3)):
            time.sleep(self.random.uniform(0.01, 0.5))
            self.agent.kill9(self.ledger)
            self.agent.start()
        self.probes.kill(signal.SIGTERM, every=True)
        self.probes.settle(self.dd)
        self.report(f"{len(self.ledger.kills)} collectors killed")


if __name__ == "__main__":
    unittest.main()
