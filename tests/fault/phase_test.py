"""Kills aimed at the four phases that a crash must not tear apart, counted; and the same kills against
builds that do one thing wrong on purpose, which the ledger has to notice. See README.md here.

Needs a build with -DFAULT=ON (preset `fault`): the marks of schema/fault.h.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import unittest
from collections import Counter
from pathlib import Path
from typing import Dict, List, Optional, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.arena import Arena  # noqa: E402
from support.content import LOOSE, STRICT, Rules, Span  # noqa: E402
from support.harness import HarnessError  # noqa: E402
from support.probe import seed_of  # noqa: E402
from support.script import Act  # noqa: E402
from support import wire  # noqa: E402
from support.writer import Writer  # noqa: E402

HITS = int(os.environ.get("COMFYMON_HITS", 24))    # wanted in every phase
LEAST = 20                                          # fewer than this in a phase fails the run
PHASES = ("reserve/publish", "commit/stored", "reply/record", "salvage/unlink")
TRAFFIC = ("--traces", "1000000", "--spans", "7", "--tags", "3", "--jobs", "--rate", "1500", "--ring-bytes", "8000000")
LOST = "acked but never delivered"
TWICE = "delivered more than once"


class PushClient(Writer):
    """A program that only pushes: no hello, and after a reconnect all that was not confirmed once more."""

    def connect(self) -> bool:
        if not super().connect():
            return False
        self._ready = True
        for batch in self._unacked:
            self._send(wire.frame_message(batch.body))
        return True

    def _greet(self) -> bytes:
        return b""


def kills_in(log: Path) -> Counter:
    """(phase, mark) -> processes that died there."""
    found: Counter = Counter()
    last: Dict[Tuple[str, str], str] = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        pid, mark, phase = line.split()
        if mark == "kill":
            found[phase, last[pid, phase]] += 1
        else:
            last[pid, phase] = mark
    return found


def inside(kills: Counter, phase: str) -> int:
    return kills[phase, "enter"] + kills[phase, "inside"]


class Marked(Arena):
    """An arena of a FAULT build: every mark is logged, one thing may be broken, kills are aimed."""

    def __init__(self, seed: int, breaks: Optional[str] = None, rules: Rules = LOOSE) -> None:
        super().__init__(seed, rules=rules)
        self.log = self.agent.dirs.base / "phases"
        self.marks = {"COMFYMON_FAULT_LOG": str(self.log)}
        if breaks:
            self.marks["COMFYMON_BREAK"] = breaks
        self.calm.update(self.marks)

    def aim(self, phase: str, reach: int) -> Dict[str, str]:
        """Death at one of the first `reach` marks of the phase."""
        return {"COMFYMON_KILL_AT": f"{phase}:{self.random.randint(1, reach)}",
                "COMFYMON_KILL_PAUSE_MS": str(self.random.choice((0, 0, 2, 10)))}

    def agent_dies(self, phase: str, reach: int) -> None:
        if phase == "reply/record" and self.random.random() < 0.3:
            self.dd.script(Act(status=503, retry_after="1"))
        self.lets_die(self.aim(phase, reach))

    def probe_dies(self, reach: int) -> None:
        process = self.probes.spawn(*TRAFFIC[:-4], "--rate", "0", "--ring-bytes", "2000000",
                                    env={**self.marks, **self.aim("reserve/publish", reach)})
        self.probes.reap(process)
        if process.returncode != -signal.SIGKILL:
            raise HarnessError(f"probe_gen ended with {process.returncode}")


def strike_publish(arena: Marked, hits: int) -> None:
    arena.start_calm()
    while inside(kills_in(arena.log), "reserve/publish") < hits:
        arena.probe_dies(600)


def strike_agent(arena: Marked, hits: int, phase: str, reach: int) -> None:
    for _ in range(2):
        arena.probes.spawn(*TRAFFIC)
    for _ in range(hits * 4):
        if inside(kills_in(arena.log), phase) >= hits:
            break
        arena.agent_dies(phase, reach)
    arena.probes.kill(signal.SIGTERM, every=True)


def strike_salvage(arena: Marked, hits: int) -> None:
    for _ in range(hits * 4):
        if inside(kills_in(arena.log), "salvage/unlink") >= hits:
            break
        arena.leave_rings(2)
        arena.agent_dies("salvage/unlink", 6)


def strike_push(arena: Marked, hits: int) -> None:
    """As commit/stored, with a client that never says hello and repeats what was not confirmed."""
    trace = 0
    with PushClient(arena.agent.socket_path, arena.ledger) as client:
        for _ in range(hits):
            arena.start_doomed(arena.aim("commit/stored", 6))
            limit = time.monotonic() + 4
            while arena.agent.returncode is None and time.monotonic() < limit:
                trace += 1
                client.finish(spans_of(trace, client))
                if not client.pump(0.02) and not client.connect():
                    time.sleep(0.02)
            arena.dies(0)
        arena.start_calm()
        client.flush(20)
        arena.agent.drain(20)
        arena.agent.kill9(arena.ledger)


def spans_of(trace: int, client: Writer) -> List[Span]:
    return [{"trace_id": trace, "span_id": trace << 8 | i, "parent_id": trace << 8 if i else 0, "service": "s",
             "name": "n", "resource": f"r{i}", "start": client.now(), "duration": 1000} for i in (1, 2, 0)]


class Phases(unittest.TestCase):
    kills: Counter = Counter()

    def strike(self, strike, *args, rules: Rules = LOOSE) -> None:
        with Marked(seed_of(41), rules=rules) as arena:
            strike(arena, HITS, *args)
            Phases.kills += kills_in(arena.log)
            report = arena.verify()
            print(f"{' '.join(map(str, args)) or strike.__name__}: {report}", flush=True)
            self.assertTrue(report.ok, str(report))
            self.assertEqual(arena.dd.problems(), [])

    def test_1_between_reserve_and_publish(self) -> None:
        self.strike(strike_publish)

    def test_2_between_commit_and_stored(self) -> None:
        self.strike(strike_agent, "commit/stored", 30)

    def test_3_between_commit_and_stored_when_the_client_only_pushes(self) -> None:
        self.strike(strike_push, rules=STRICT)

    def test_4_between_reply_and_record(self) -> None:
        self.strike(strike_agent, "reply/record", 12)

    def test_5_between_salvage_and_unlink(self) -> None:
        self.strike(strike_salvage)

    def test_6_no_phase_was_missed(self) -> None:
        print(f"{'phase':18} {'enter':>6} {'inside':>7} {'leave':>6}   kills")
        for phase in PHASES:
            print(f"{phase:18} " + " ".join(f"{Phases.kills[phase, mark]:{width}}" for mark, width in
                                            (("enter", 6), ("inside", 7), ("leave", 6))), flush=True)
        for phase in PHASES:
            self.assertGreaterEqual(inside(Phases.kills, phase), LEAST, f"{phase}: too few kills inside")
            for mark in ("enter", "inside"):
                self.assertGreaterEqual(Phases.kills[phase, mark], 4, f"{phase}: {mark} hardly ever hit")


class Broken(unittest.TestCase):
    """The ledger fails when the program is wrong, or its silence proves nothing."""

    def fails(self, breaks: str, expected: List[str], strike, *args, rules: Rules = LOOSE) -> None:
        with Marked(seed_of(43), breaks, rules) as arena:
            strike(arena, HITS // 2, *args)
            report = arena.verify()
            print(f"{breaks}: {report}"[:600], flush=True)
            self.assertFalse(report.ok, f"{breaks} went unnoticed")
            self.assertTrue(set(expected) & set(report.violations), f"{breaks}: none of {expected}")

    def test_stored_is_said_before_the_commit(self) -> None:
        self.fails("stored-before-commit", [LOST], strike_agent, "commit/stored", 30)

    def test_a_repeated_batch_is_not_recognised(self) -> None:
        self.fails("no-repeats", [TWICE, "counters"], strike_push, rules=STRICT)

    def test_a_chunk_is_recorded_as_sent_before_the_reply(self) -> None:
        self.fails("sent-before-reply", [LOST], strike_agent, "reply/record", 12)

    def test_a_ring_is_salvaged_twice(self) -> None:
        self.fails("salvage-twice,no-repeats", [TWICE, "counters"], strike_salvage)

    def test_a_ring_is_removed_before_the_commit(self) -> None:
        self.fails("unlink-before-commit", [LOST], strike_salvage)

    def test_a_record_is_published_before_its_payload_is_there(self) -> None:
        self.fails("publish-before-payload", [LOST], strike_publish)


if __name__ == "__main__":
    unittest.main()
