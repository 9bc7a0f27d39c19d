"""One ledger, one fake Datadog, one collector and a crowd of native probes, for tests in which they die.

    with Arena(seed) as arena:
        arena.leave_rings(2)                    # dead probes, spans open
        arena.lets_die(env={...}, wrapper=[...])   # a collector that will not survive
        report = arena.verify()                 # a calm collector, everything drained, the ledger's word
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from typing import Dict, List, Optional

from support.content import LOOSE, Rules
from support.fake_datadog import FakeDatadog
from support.harness import Agent, HarnessError
from support.ledger import Ledger, Report
from support.probe import Probes

NOTICED_NS = 50_000_000  # a death is seen at most so long after it


class Arena:
    def __init__(self, seed: int, env: Optional[Dict[str, str]] = None, rules: Rules = LOOSE) -> None:
        self.random = random.Random(seed)
        self.ledger = Ledger(rules=rules)
        self.dd = FakeDatadog(rules=rules, compact=True)
        self.agent = Agent(self.dd.url, env)
        self.calm = dict(self.agent.env)
        self.probes = Probes(self.agent, self.ledger, seed)

    def __enter__(self) -> "Arena":
        return self

    def __exit__(self, *_: object) -> None:
        self.probes.close()
        self.agent.close()
        self.dd.close()

    def start_calm(self) -> None:
        """Start the collector, unless it runs, with nothing in store for it."""
        self.agent.env = dict(self.calm)
        self.agent.wrapper = []
        if self.agent.process is None or self.agent.returncode is not None:
            self.agent.start()

    def start_doomed(self, env: Optional[Dict[str, str]] = None, wrapper: Optional[List[str]] = None) -> None:
        self.agent.env = {**self.calm, **(env or {})}
        self.agent.wrapper = wrapper or []
        self.agent.start(wait=False)

    def dies(self, timeout: float = 4.0) -> Optional[int]:
        """The exit status of a doomed collector; None if it had to be killed after `timeout`."""
        process = self.agent.process
        assert process is not None
        try:
            status: Optional[int] = process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.agent.kill9(self.ledger)
            return None
        end = time.monotonic_ns()
        self.ledger.killed(end - NOTICED_NS, end)
        return status

    def lets_die(self, env: Optional[Dict[str, str]] = None, wrapper: Optional[List[str]] = None,
                 timeout: float = 4.0) -> None:
        """A collector that dies by SIGKILL, its own or ours; any other end is an error."""
        self.start_doomed(env, wrapper)
        status = self.dies(timeout)
        if status not in (None, -signal.SIGKILL):
            raise HarnessError(f"the agent ended with {status}:\n{self.agent.log_tail()}")

    def leave_rings(self, count: int) -> None:
        """Dead probes: their rings, with spans open, are for salvage."""
        for _ in range(count):
            self.probes.spawn("--traces", "3", "--spans", "7", "--jobs", "--leave-open", "--kill-self-after", "15")
        for process in list(self.probes.alive):
            if "--leave-open" in process.args:
                self.probes.reap(process)

    def verify(self) -> Report:
        """All probes have ended: what the ledger says after a drain, see Report.ok."""
        self.start_calm()
        return self.probes.verify(self.dd)
