"""The ledger holds while the network misbehaves and while the collector is killed."""

from __future__ import annotations

import random
import sys
import time
import unittest
from pathlib import Path
from typing import Any, Dict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.fake_datadog import FakeDatadog  # noqa: E402
from support.harness import Agent, wait_until  # noqa: E402
from support.ledger import Ledger  # noqa: E402
from support.script import Act  # noqa: E402
from support.traffic import Traffic  # noqa: E402
from support.writer import Writer  # noqa: E402

KILLS = 12


class Delivery(unittest.TestCase):
    def check(self, ledger: Ledger, dd: FakeDatadog, agent: Agent, received: int) -> Dict[str, Any]:
        status = agent.drain(30, received=received)
        ledger.check(dd.requests(), status)
        self.assertEqual(dd.problems(), [])
        return status

    def test_delivers_every_span_once(self) -> None:
        ledger = Ledger()
        with FakeDatadog() as dd, Agent(dd.url) as agent, Writer(agent.socket_path, ledger) as writer:
            traffic = Traffic(writer)
            traffic.send(200)
            writer.flush(10)
            status = self.check(ledger, dd, agent, traffic.made)
            self.assertEqual(status["signals"]["trace"]["sent"], traffic.made)

    def test_holds_while_replies_are_refusals_and_lost(self) -> None:
        ledger = Ledger()
        modes = ("reset_after_read", "close_after_read", "close_mid_reply", "truncated", "garbage", "bad_chunked",
                 "close_before_read", "reset_accept", "empty")
        with FakeDatadog() as dd, Agent(dd.url) as agent, Writer(agent.socket_path, ledger) as writer:
            traffic = Traffic(writer)
            for mode in modes:
                dd.script(Act(mode=mode))
                traffic.send(5)
                writer.flush(10)
                wait_until(lambda: dd.script_left() == 0, 20, f"{mode} to happen")
                agent.drain(20, received=traffic.made)  # a success between, or the back-off grows to a minute
            dd.script(Act(status=503), Act(status=429, retry_after="1"), Act(status=408), Act(mode="portal"))
            traffic.send(20)
            writer.flush(10)
            self.check(ledger, dd, agent, traffic.made)

    def test_splits_what_is_too_large_for_the_far_end(self) -> None:
        ledger = Ledger()
        with FakeDatadog() as dd, Agent(dd.url) as agent, Writer(agent.socket_path, ledger) as writer:
            dd.always(Act(max_body=20000))
            traffic = Traffic(writer)
            traffic.send(60, spans=10, text="y" * 100)
            writer.flush(10)
            self.check(ledger, dd, agent, traffic.made)

    def test_counts_what_the_far_end_rejects_for_good(self) -> None:
        ledger = Ledger()
        with FakeDatadog() as dd, Agent(dd.url) as agent, Writer(agent.socket_path, ledger) as writer:
            dd.always(Act(status=400))
            traffic = Traffic(writer)
            traffic.send(4)
            writer.flush(10)
            status = agent.drain(30, received=traffic.made)
            ledger.check(dd.requests(), status, allow_loss=True)
            self.assertEqual(status["signals"]["trace"]["rejected"], {"400": traffic.made})

    def test_waits_for_a_person_when_the_key_is_refused(self) -> None:
        ledger = Ledger()
        with FakeDatadog() as dd, Agent(dd.url) as agent, Writer(agent.socket_path, ledger) as writer:
            dd.always(Act(status=403))
            traffic = Traffic(writer)
            traffic.send(4)
            writer.flush(10)
            wait_until(lambda: agent.status()["destinations"][0]["state"] == "hold", 10, "the state hold")
            status = agent.status()
            self.assertEqual(status["signals"]["trace"]["queued"] + status["signals"]["trace"]["in_flight"],
                             traffic.made)
            self.assertTrue(status["signals"]["trace"]["identity"])

    def test_keeps_all_while_the_destination_is_away_and_the_collector_dies(self) -> None:
        ledger = Ledger()
        with FakeDatadog() as dd, Agent(dd.url) as agent:
            dd.refuse()
            with Writer(agent.socket_path, ledger) as writer:
                traffic = Traffic(writer)
                for _ in range(4):
                    traffic.send(50)
                    writer.flush(10)
                    agent.kill9(ledger)
                    agent.start()
                    writer.connect()
                    self.assertEqual(agent.status()["signals"]["trace"]["received"], traffic.made)
                dd.reopen()
                self.check(ledger, dd, agent, traffic.made)

    def test_loses_and_repeats_nothing_when_killed_at_any_moment(self) -> None:
        ledger = Ledger()
        chance = random.Random(7)
        with FakeDatadog() as dd, Agent(dd.url) as agent, Writer(agent.socket_path, ledger) as writer:
            traffic = Traffic(writer, seed=3)
            for _ in range(KILLS):
                end = time.monotonic() + chance.uniform(0.02, 0.4)
                while time.monotonic() < end:
                    traffic.send(3)
                    writer.pump(0.002)
                agent.kill9(ledger)
                agent.start()
                writer.connect()
            writer.flush(15)
            self.check(ledger, dd, agent, traffic.made)


if __name__ == "__main__":
    unittest.main()
