"""Metrics while their far end goes and comes back at random moments, the agent is killed, and a resolver hangs: no count is lost
that could be told, none is told twice, and the agent never waits."""

from __future__ import annotations

import os
import random
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.fake_statsd import FakeStatsd  # noqa: E402
from support.harness import Agent, wait_until  # noqa: E402
from support.traffic import Traffic  # noqa: E402
from support.writer import Writer  # noqa: E402

BUILD = Path(os.environ.get("COMFYMON_BUILD", "build/release"))
RECEIVED = "comfymon.pipeline.received"
SECONDS = 12


class Case(unittest.TestCase):
    def agent(self, url: str, **env: str) -> Agent:
        agent = Agent(env={"DD_RUNTIME_METRICS_ENABLED": "true", "DD_DOGSTATSD_URL": url, "COMFYMON_METRICS_INTERVAL": "1s",
                           "COMFYMON_DESTINATIONS": "none", **env})
        self.addCleanup(agent.close)
        return agent

    def statsd(self, agent_base: "Path | None") -> FakeStatsd:
        dsd = FakeStatsd(agent_base)
        self.addCleanup(dsd.close)
        return dsd


class FarEnd(Case):
    def goes_and_comes_back(self, dsd: FakeStatsd, agent: Agent, seed: int) -> None:
        chance = random.Random(seed)
        agent.start()
        until = time.monotonic() + SECONDS
        here = True
        with Writer(agent.socket_path) as writer:
            traffic = Traffic(writer, seed)
            while time.monotonic() < until:
                traffic.send(5, 4)
                writer.flush(10)
                time.sleep(chance.uniform(0, 0.4))
                if chance.random() < 0.4:
                    if here:
                        dsd.close_socket(unlink=chance.random() < 0.5)
                    else:
                        dsd.open_socket()
                    here = not here
            if not here:
                dsd.open_socket()
        self.assertEqual(agent.stop(), 0)
        dsd.close_socket()
        self.assertEqual(dsd.problems, [])
        self.assertEqual(agent.status()["signals"]["trace"]["received"], traffic.made)
        self.assertEqual(dsd.count(RECEIVED, signal="trace"), traffic.made)
        away = sum(dsd.count("comfymon.metrics.dropped", reason=reason) for reason in ("refused", "absent", "failed"))
        self.assertGreater(away, 0, "it was never away when it mattered")

    def test_udp(self) -> None:
        dsd = self.statsd(None)
        self.goes_and_comes_back(dsd, self.agent(dsd.url), 1)

    def test_unix(self) -> None:
        agent = self.agent("unix:///set-below")
        dsd = self.statsd(agent.dirs.base / "dsd.sock")
        agent.env["DD_DOGSTATSD_URL"] = dsd.url
        self.goes_and_comes_back(dsd, agent, 2)


class Kill(Case):
    def test_an_agent_that_is_killed_has_told_nothing_twice(self) -> None:
        dsd = self.statsd(None)
        agent = self.agent(dsd.url)
        made = told = 0
        for life in range(4):
            agent.start()
            with Writer(agent.socket_path) as writer:
                traffic = Traffic(writer, seed=life + 1)
                traffic.send(10, 5)
                writer.flush(10)
                made += traffic.made
                wait_until(lambda: dsd.count(RECEIVED) == told + 50, 10, "what this life has taken")
                told += 50
                traffic.send(10, 5)  # not told: there is no flush before the end
                writer.flush(10)
                made += 50
                agent.kill9()
            time.sleep(0.2)  # the datagrams that are under way
            told = int(dsd.count(RECEIVED))
            self.assertLessEqual(told, made)
            self.assertGreaterEqual(told, (life + 1) * 50)
        self.assertEqual(agent.status()["signals"]["trace"]["received"], made)
        self.assertEqual(dsd.problems, [])


class Resolver(Case):
    @unittest.skipUnless((BUILD / "bin" / "slowname.so").exists(), "the shim is not built here")
    def test_that_hangs_holds_nobody_up(self) -> None:
        agent = self.agent("udp://metrics.example:8125", LD_PRELOAD=str(BUILD / "bin" / "slowname.so"), SLOW_NAME_S="60")
        agent.start()
        began = time.monotonic()
        with Writer(agent.socket_path) as writer:
            Traffic(writer).send(10, 5)
            writer.flush(10)
        self.assertEqual(agent.drain(received=50)["metrics"]["flushes"], 0)
        self.assertLess(time.monotonic() - began, 10)
        began = time.monotonic()
        self.assertEqual(agent.stop(), 0)
        self.assertLess(time.monotonic() - began, 5)
        self.assertIn("resolver_does_not_return host=metrics.example", agent.log())


if __name__ == "__main__":
    unittest.main(verbosity=2)
