"""The ledger holds on a bad line: cable pulled, packets lost, a slow or half-open destination, and back.

The collector lives in a network namespace of its own, joined to the test's by a veth pair whose cable the test can
pull. Needs root and ip(8); runs itself again inside unshare(1), so that nothing of the machine's network is touched.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
import unittest
from pathlib import Path
from typing import Dict, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.content import STRICT  # noqa: E402
from support.fake_datadog import FakeDatadog  # noqa: E402
from support.harness import Agent, wait_until  # noqa: E402
from support.ledger import Ledger  # noqa: E402
from support.probe import seed_of  # noqa: E402
from support.script import Act  # noqa: E402
from support.traffic import Traffic  # noqa: E402
from support.writer import Writer  # noqa: E402

INSIDE = "COMFYMON_TEST_NETNS"
NEAR, FAR = "10.99.7.1", "10.99.7.2"    # the test's end, the collector's end


def ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True, timeout=20)


def missing() -> str:
    if os.geteuid() != 0:
        return "network namespaces: not root"
    if not (shutil.which("ip") and shutil.which("unshare")):
        return "network namespaces: no ip(8) or unshare(1)"
    tried = subprocess.run(["unshare", "--net", "--mount", "ip", "link", "set", "lo", "up"], capture_output=True,
                           text=True, timeout=20, check=False)
    return "" if tried.returncode == 0 else f"network namespaces: {tried.stderr.strip()}"


def can_lose_packets() -> bool:
    """Is tc with netem here? Asked inside the namespace."""
    if not shutil.which("tc"):
        return False
    tried = subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "netem", "loss", "1%"], capture_output=True,
                           timeout=20, check=False)
    if tried.returncode == 0:
        subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=True, timeout=20)
    return tried.returncode == 0


class Network(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        ip("link", "set", "lo", "up")
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True, timeout=20)
        ip("netns", "add", "far")
        ip("link", "add", "near", "type", "veth", "peer", "name", "line", "netns", "far")
        ip("addr", "add", f"{NEAR}/24", "dev", "near")
        ip("link", "set", "near", "up")
        ip("-n", "far", "link", "set", "lo", "up")
        ip("-n", "far", "addr", "add", f"{FAR}/24", "dev", "line")
        ip("-n", "far", "link", "set", "line", "up")

    def setUp(self) -> None:
        self.random = random.Random(seed_of(121))
        self.ledger = Ledger(rules=STRICT)
        self.dd = FakeDatadog(rules=STRICT, compact=True, host=NEAR)
        self.addCleanup(self.dd.close)
        self.agent = Agent(self.dd.url, {"COMFYMON_AGENT_TIMEOUT": "2s"}, wrapper=["ip", "netns", "exec", "far"])
        self.addCleanup(self.agent.close)
        self.agent.start()

    def send(self, traces: int = 10) -> None:
        with Writer(self.agent.socket_path, self.ledger) as writer:
            Traffic(writer, self.random.getrandbits(40)).send(traces)
            writer.flush(10)

    def check(self, timeout: float = 40) -> None:
        status = self.agent.drain(timeout, received=len(self.ledger.acked))
        self.ledger.check(self.dd.requests(), status)
        self.assertEqual(self.dd.problems(), [])

    def cable(self, how: str) -> None:
        ip("link", "set", "near", how)

    def destination(self, agent: Optional[Agent] = None) -> Dict[str, object]:
        found: Dict[str, object] = (agent or self.agent).status()["destinations"][0]
        return found

    def test_the_cable_is_pulled_in_the_middle_of_requests(self) -> None:
        self.dd.always(Act(delay_s=0.2))
        for _ in range(4):
            self.send(5)
            time.sleep(self.random.uniform(0.02, 0.3))
            with self.ledger.kill():    # as a kill does, it may lose the reply of the request in flight
                self.cable("down")
            self.send(5)
            time.sleep(self.random.uniform(0.1, 3))
            self.cable("up")
        self.dd.clear()
        self.check()

    def test_back_at_once_when_the_network_is(self) -> None:
        self.cable("down")
        self.send()
        ip("-n", "far", "link", "set", "line", "down")
        wait_until(lambda: int(str(self.destination()["retries"])) >= 3, 60, "some failures, so that rests grow")
        until = int(str(self.destination()["next_try_ns"])) - time.time_ns()
        self.cable("up")
        ip("-n", "far", "link", "set", "line", "up")
        began = time.monotonic()
        self.check(30)
        took = time.monotonic() - began
        print(f"delivered {took:.1f} s after the network was back; the rest had {until / 1e9:.1f} s to go", flush=True)
        self.assertLess(took, 3.0)

    def test_a_slow_destination_is_not_a_dead_one(self) -> None:
        self.dd.script(Act(mode="slow_read", read_bps=4000), Act(mode="slow_reply", reply_bps=50))
        self.send()
        self.check()

    def test_a_destination_that_takes_connections_and_says_nothing(self) -> None:
        self.dd.script(Act(mode="hang_accept"), Act(mode="hang"), Act(mode="hang_accept"))
        self.send()
        self.check(60)

    def test_a_destination_that_vanishes_half_open(self) -> None:
        """A connection is kept; its far end forgets it without a word, as a rebooted machine does."""
        self.send()
        self.check()
        subprocess.run(["ss", "-K", "sport", "=", str(self.dd.port)], capture_output=True, timeout=20, check=False)
        self.send()
        self.check()

    def test_a_third_of_the_packets_is_lost(self) -> None:
        if not can_lose_packets():
            self.skipTest("no tc with netem here")
        subprocess.run(["tc", "qdisc", "add", "dev", "near", "root", "netem", "loss", "30%", "delay", "20ms"], check=True)
        self.addCleanup(subprocess.run, ["tc", "qdisc", "del", "dev", "near", "root"], timeout=20)
        for _ in range(5):
            self.send(20)
        self.check(90)


if __name__ == "__main__":
    if os.environ.get(INSIDE) == "1":
        unittest.main()
    why = missing()
    if why:
        print(f"OK (skipped: {why})")
        sys.exit(0)
    os.execvpe("unshare", ["unshare", "--net", "--mount", sys.executable, str(Path(__file__).resolve()), *sys.argv[1:]],
               {**os.environ, INSIDE: "1"})
