"""A day offline in miniature: the destination away, the cap reached, and back again."""

from __future__ import annotations

import random
import sys
import time
import unittest
from pathlib import Path
from typing import Any, Dict, List, Set

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.arena import Arena  # noqa: E402
from support.content import STRICT, Key, span_key  # noqa: E402
from support.harness import wait_until  # noqa: E402
from support.probe import seed_of  # noqa: E402
from support.script import Act  # noqa: E402
from support.traffic import Traffic  # noqa: E402
from support.writer import Writer  # noqa: E402

CAP = {"COMFYMON_STORE_CAP": "64M", "COMFYMON_HISTORY_CAP": "1M", "COMFYMON_REQUEST_BYTES": "256K"}
TEXT = 1500     # bytes of text in a span


class Offline(unittest.TestCase):
    def arena(self, env: Dict[str, str]) -> Arena:
        seed = seed_of(111)
        arena = Arena(seed, env, STRICT)
        self.addCleanup(arena.__exit__)
        arena.agent.start()
        self.random = random.Random(seed)
        return arena

    def send(self, arena: Arena, traces: int, error: int = 0, text: int = TEXT) -> List[List[Key]]:
        """Traces stored one after another; the keys of each."""
        made = []
        with Writer(arena.agent.socket_path, arena.ledger) as writer:
            traffic = Traffic(writer, self.random.getrandbits(40), error)
            for i in range(traces):
                spans = traffic.trace(5, "".join(self.random.choices("abcdefghij", k=text)))
                made.append([span_key(span) for span in spans])
                writer.finish(spans)
                if i % 20 == 19:
                    writer.flush(30)
            writer.flush(30)
        return made

    @staticmethod
    def delivered(arena: Arena) -> Set[Key]:
        return {mark.key for request in arena.dd.requests() if request.delivered for mark in request.marks}

    @staticmethod
    def trace_status(arena: Arena) -> Dict[str, Any]:
        return arena.agent.status()["signals"]["trace"]

    def test_the_oldest_go_first_and_errors_last_and_all_is_counted(self) -> None:
        arena = self.arena(CAP)
        arena.dd.refuse()
        errors = self.send(arena, 60, error=1, text=6000)
        normal: List[List[Key]] = []
        for _ in range(40):
            normal += self.send(arena, 100, text=6000)
            if sum(self.trace_status(arena)["dropped"].values()) > 3000:
                break
        status = self.trace_status(arena)
        self.assertTrue(status["identity"])
        lost = status["dropped"].get("store_full", 0)
        self.assertGreater(lost, 0, status)
        with arena.ledger.kill():   # nothing of this depends on a memory
            arena.agent.kill9()
        arena.agent.start()
        arena.dd.reopen()
        final = arena.agent.drain(60, received=len(arena.ledger.acked))
        arena.ledger.check(arena.dd.requests(), final, allow_loss=True)
        dropped = final["signals"]["trace"]["dropped"]
        self.assertEqual(set(dropped), {"store_full"})
        there = self.delivered(arena)
        self.assertTrue(all(key in there for trace in errors for key in trace), "an error went before the rest")
        fate = [all(key in there for key in trace) for trace in normal]
        first = fate.index(True)
        late = [i for i, kept in enumerate(fate) if not kept and i > first]
        print(f"{len(normal)} traces, the oldest {first} dropped, {dropped} spans, {len(late)} out of order", flush=True)
        self.assertGreater(first, 0)
        self.assertLessEqual(len(late), 40, "not the oldest were dropped")     # a chunk is dropped whole

    def test_fresh_data_does_not_wait_for_the_backlog(self) -> None:
        arena = self.arena({"COMFYMON_REQUEST_BYTES": "64K"})
        arena.dd.refuse()
        self.send(arena, 1200)
        arena.dd.always(Act(delay_s=0.05))
        arena.dd.reopen()
        wait_until(lambda: len(arena.dd.requests()) > 2, 70, "the line to be back")
        before = self.trace_status(arena)["queued"]
        self.assertGreater(before, 3000, "no backlog to compare with")
        fresh = self.send(arena, 1, text=10)[0]
        began = time.monotonic()
        wait_until(lambda: set(fresh) <= self.delivered(arena), 20, "the fresh trace", 0.01)
        took, left = time.monotonic() - began, self.trace_status(arena)["queued"]
        print(f"fresh after {took * 1000:.0f} ms, with {left} of {before} spans of backlog left", flush=True)
        self.assertGreater(left, before // 2, "the backlog went first")
        self.assertLess(took, 3)
        middle = len(arena.dd.requests())
        wait_until(lambda: len(arena.dd.requests()) > middle + 10, 20, "the backlog to go on")
        arena.dd.clear()
        final = arena.agent.drain(60, received=len(arena.ledger.acked))
        arena.ledger.check(arena.dd.requests(), final)

    def test_a_backlog_moves_while_fresh_data_keeps_coming(self) -> None:
        arena = self.arena({"COMFYMON_REQUEST_BYTES": "64K"})
        arena.dd.refuse()
        old = self.send(arena, 300)
        arena.dd.always(Act(delay_s=0.01))
        arena.dd.reopen()
        end = time.monotonic() + 90
        with Writer(arena.agent.socket_path, arena.ledger) as writer:
            traffic = Traffic(writer, 7)
            while time.monotonic() < end and not all(key in self.delivered(arena) for trace in old for key in trace):
                traffic.send(4, text="f" * TEXT)
                writer.flush(20)
                time.sleep(0.03)
        self.assertLess(time.monotonic(), end, "the backlog starves")
        arena.dd.clear()
        final = arena.agent.drain(60, received=len(arena.ledger.acked))
        arena.ledger.check(arena.dd.requests(), final)


if __name__ == "__main__":
    unittest.main()
