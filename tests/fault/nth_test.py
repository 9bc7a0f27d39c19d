"""The ledger holds while the collector is killed at its N-th system call, or its N-th call of a function fails.

One cycle: start, open the buffer, salvage the ring of a dead probe, take batches of living ones, process, send,
record. N goes over all of it: by default a sample that $COMFYMON_SEED draws, with COMFYMON_EVERY=1 each N.
"""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import sys
import time
import unittest
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.arena import Arena  # noqa: E402
from support.harness import HarnessError, binary, wait_until  # noqa: E402
from support.probe import TRAFFIC, seed_of  # noqa: E402
from support.writer import Writer  # noqa: E402

EVERY = os.environ.get("COMFYMON_EVERY") == "1"
CYCLE = 1300    # system calls from the lock on; measured: 850 until the first delivery is recorded, then 150 a batch
SAMPLE = 70
BLOCK = 35      # kills before the ledger is asked
TOOLS = binary().parent


def sample(chance: random.Random, top: int, count: int) -> List[int]:
    """Numbers 1..top: all of them, or `count` spread evenly with a random offset each; in random order."""
    if EVERY or count >= top:
        chosen = list(range(1, top + 1))
    else:
        step = top / count
        chosen = [1 + int(step * i + chance.uniform(0, step)) for i in range(count)]
    chance.shuffle(chosen)
    return chosen


class KilledAtTheNthCall(unittest.TestCase):
    def test_every_call_of_a_cycle(self) -> None:
        seed = seed_of(61)
        numbers = sample(random.Random(seed), CYCLE, SAMPLE)
        hit: Dict[int, int] = {}
        for begin in range(0, len(numbers), BLOCK):
            with Arena(seed + begin) as arena:
                report = arena.agent.dirs.base / "calls"
                self.kill_at_each(arena, numbers[begin:begin + BLOCK], report)
                for line in report.read_text().splitlines():
                    number = int(line.split()[-1])
                    hit[number] = hit.get(number, 0) + 1
                result = arena.verify()
                self.assertTrue(result.ok, str(result))
                self.assertEqual(arena.dd.problems(), [])
                print(f"{len(arena.ledger.kills)} kills: {result}", flush=True)
        killed = sum(count for number, count in hit.items() if number >= 0)
        print(f"killed at {killed} of {len(numbers)} calls, {len(hit)} different system calls", flush=True)
        self.assertGreaterEqual(killed, len(numbers) * 9 // 10, "most kills missed the cycle")
        self.assertGreaterEqual(len(hit), 15, "too few different system calls hit")

    @staticmethod
    def kill_at_each(arena: Arena, numbers: List[int], report: Path) -> None:
        for _ in range(2):
            arena.probes.spawn(*TRAFFIC, "--rate", "300", "--ring-bytes", "8000000")
        for n in numbers:
            arena.leave_rings(1)
            arena.lets_die(wrapper=[str(TOOLS / "nthcall"), "--kill", str(n), "--after", "lock", "--report",
                                    str(report), "--"])
        arena.probes.kill(signal.SIGTERM, every=True)


class Failing(NamedTuple):
    call: str
    error: int
    self_only: bool = False     # its libraries' calls do not count: some of them abort or do not notice
    times: int = 1
    first: int = 1              # the call to begin with


FAILINGS = (
    Failing("malloc", errno.ENOMEM, self_only=True),
    Failing("malloc", errno.ENOMEM, self_only=True, times=50),
    Failing("malloc", errno.ENOMEM), Failing("malloc", errno.ENOMEM, first=3900),   # ready at about 4,200
    Failing("open", errno.EMFILE), Failing("open", errno.EIO),
    Failing("pwrite", errno.ENOSPC), Failing("pwrite", errno.EIO, times=5),
    Failing("pread", errno.EIO),
    Failing("fsync", errno.EIO), Failing("fsync", errno.EIO, times=3),
    Failing("ftruncate", errno.EIO),
    Failing("connect", errno.ECONNREFUSED), Failing("connect", errno.ENETUNREACH, times=2),
    Failing("send", errno.ECONNRESET), Failing("recv", errno.ECONNRESET),
    Failing("write", errno.ENOSPC, self_only=True), Failing("unlink", errno.EACCES),
)


def failures(chance: random.Random) -> Iterator[Tuple[Failing, int]]:
    """Which function, and at which call: small numbers densely, larger ones ever more thinly."""
    for failing in FAILINGS:
        n = 1
        while n <= 2000:
            yield failing, failing.first + n - 1
            n += 1 + int(n * chance.uniform(0.3, 1.2)) if not EVERY or n > 400 else 1


class OneCallFails(unittest.TestCase):
    def test_each_function_at_its_nth_call(self) -> None:
        seed = seed_of(67)
        chance = random.Random(seed)
        with Arena(seed) as arena:
            log = arena.agent.dirs.base / "failed"
            tried: Dict[Failing, int] = {}
            past: set = set()
            for failing, n in failures(chance):
                if failing in past:
                    continue
                log.unlink(missing_ok=True)
                with self.subTest(call=failing.call, error=failing.error, times=failing.times, n=n):
                    self.one(arena, failing, n, log)
                tried[failing] = tried.get(failing, 0) + 1
                if not log.exists():
                    past.add(failing)   # it makes fewer calls than n
            report = arena.verify()
            self.assertTrue(report.ok, str(report))
            for failing, count in tried.items():
                print(f"{failing.call} {errno.errorcode[failing.error]} x{failing.times} from {failing.first}: {count} runs", flush=True)
            print(report, flush=True)
            for failing, count in tried.items():
                self.assertGreater(count, 1, f"{failing.call} never failed")

    def one(self, arena: Arena, failing: Failing, n: int, log: Path) -> None:
        """A collector in which this call fails: it goes on, or ends with a word, and is never broken."""
        arena.leave_rings(1)
        before = len(arena.agent.log())
        arena.start_doomed({"LD_PRELOAD": str(TOOLS / "failcall.so"), "FAIL_CALL": failing.call, "FAIL_AT": str(n),
                            "FAIL_ERRNO": str(failing.error), "FAIL_TIMES": str(failing.times), "FAIL_LOG": str(log),
                            "FAIL_SELF": "1" if failing.self_only else "0"})
        arena.probes.spawn("--traces", "3", "--spans", "7", "--tags", "3", "--jobs", "--drain-ms", "400")
        for process in list(arena.probes.alive):
            arena.probes.reap(process)
        what = f"{failing.call} {errno.errorcode[failing.error]} at {n}"
        if arena.agent.returncode is None:
            time.sleep(0.05)
            arena.agent.process.terminate()
        status = arena.dies(8.0)
        said = arena.agent.log()[before:]
        self.assertIsNotNone(status, f"{what}: did not end in 8 s after SIGTERM:\n{said}")
        self.assertGreaterEqual(status, 0, f"{what}: died by signal {-(status or 0)}:\n{said}")
        self.assertIsNone(re.search("Sanitizer|panic|assert|corrupt", said), f"{what}: {said}")
        if status:
            self.assertRegex(said, r"comfymon: \S", f"{what}: ended with {status} and no word")


if __name__ == "__main__":
    unittest.main()
