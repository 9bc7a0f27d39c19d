"""Native probes for a test: probe_gen processes, each with a ledger file of its own.

    crowd = Probes(agent, ledger)             # ledger: Rules LOOSE, the probe knows no real time
    crowd.spawn("--traces", "100", "--jobs")
    crowd.kill(signal.SIGKILL)                # one of those alive, or all with every=True
    crowd.settle(dd, agent)                   # rings salvaged, all delivered, ledger checked

The probe is the real one: ring file, open-span table, sender thread. A span counts as promised
from the moment at which comfymon_span_finish (or comfymon_span_open) has returned.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional

from support.fake_datadog import FakeDatadog
from support.harness import Agent, HarnessError, binary, leaves_faults_alone, wait_until
from support.ledger import Ledger, Report

TRAFFIC = ("--traces", "1000000", "--spans", "7", "--tags", "4", "--jobs")


def generator() -> Path:
    return binary().parent / "probe_gen"


class Probes:
    def __init__(self, agent: Agent, ledger: Ledger, seed: int = 1) -> None:
        self.agent = agent
        self.ledger = ledger
        self.env = leaves_faults_alone(agent.env)   # as it is now: what is done to the collector later is not for probes
        self.random = random.Random(seed)
        self.alive: List[subprocess.Popen] = []
        self.ended = 0
        self._read = 0
        self._files: List[Path] = []

    def spawn(self, *args: str, env: Optional[Dict[str, str]] = None) -> subprocess.Popen:
        """One more process; without arguments steady traffic of jobs that never ends."""
        path = self.agent.dirs.base / f"ledger-{len(self._files)}"
        self._files.append(path)
        path.touch()
        command = [str(generator()), *(args or (*TRAFFIC, "--rate", "2000")), "--ledger", str(path),
                   "--seed", str(self.random.getrandbits(31) | 1)]
        process = subprocess.Popen(command, env={**self.env, **(env or {})}, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.alive.append(process)
        return process

    def kill(self, number: int, every: bool = False) -> int:
        """Send one of the living, or every one, a signal and wait for the end."""
        chosen = list(self.alive) if every else [self.random.choice(self.alive)]
        for process in chosen:
            process.send_signal(number)
        for process in chosen:
            self.reap(process)
            if process.returncode != -number:
                raise HarnessError(f"probe_gen ended with {process.returncode}, not by {number}")
        return len(chosen)

    def reap(self, process: subprocess.Popen, timeout: float = 20.0) -> int:
        """Wait for a process that ends by itself."""
        _, errors = process.communicate(timeout=timeout)
        self.alive.remove(process)
        self.ended += 1
        if errors:
            raise HarnessError(f"probe_gen: {errors}")
        return process.returncode

    def rings(self) -> List[Path]:
        return sorted(self.agent.dirs.run.glob("ring-*.cm"))

    def read_ledgers(self) -> None:
        for path in self._files:
            self.ledger.read(path)

    def settle(self, dd: FakeDatadog, timeout: float = 40.0, allow_loss: bool = False) -> Dict[str, Any]:
        """Every ring gone, nothing queued; then the ledger must hold. Returns the status."""
        self.verify(dd, timeout, allow_loss, True)
        return self.agent.status()

    def verify(self, dd: FakeDatadog, timeout: float = 40.0, allow_loss: bool = False, must: bool = False) -> Report:
        if self.alive:
            raise HarnessError("probes are alive still")
        self.read_ledgers()
        wait_until(lambda: not self.rings(), timeout, "no ring left in the run directory")
        status = self.agent.drain(timeout)
        check = self.ledger.check if must else self.ledger.verify
        return check(dd.requests(), status, allow_loss)

    def close(self) -> None:
        for process in self.alive:
            process.kill()
            process.communicate()
        self.alive.clear()


def seed_of(default: int) -> int:
    """The seed of this run: $COMFYMON_SEED, else the given one; printed, so that it can be repeated."""
    seed = int(os.environ.get("COMFYMON_SEED", default))
    print(f"seed {seed} (repeat with COMFYMON_SEED={seed})", flush=True)
    return seed


SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM)
