"""Files of ours are removed while all runs: sockets, the run directory, the buffer, the data directory."""

from __future__ import annotations

import os
import shutil
import sys
import unittest
from pathlib import Path
from typing import Any, Dict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.content import LOOSE  # noqa: E402
from support.fake_datadog import FakeDatadog  # noqa: E402
from support.harness import Agent, can_connect, wait_until  # noqa: E402
from support.ledger import Ledger  # noqa: E402
from support.probe import Probes  # noqa: E402
from support.writer import Writer  # noqa: E402

NOTICED = 15.0      # the agent looks every five seconds


class Removed(unittest.TestCase):
    def setUp(self) -> None:
        self.dd = FakeDatadog(rules=LOOSE, compact=True)
        self.addCleanup(self.dd.close)
        self.agent = Agent(self.dd.url)
        self.addCleanup(self.agent.close)
        self.agent.start()
        self.ledger = Ledger(rules=LOOSE)
        self.crowd = Probes(self.agent, self.ledger)
        self.addCleanup(self.crowd.close)

    def settle(self) -> None:
        for process in list(self.crowd.alive):
            self.assertEqual(self.crowd.reap(process, 40), 0)
        self.crowd.settle(self.dd)
        self.assertEqual(self.dd.problems(), [])

    def queue_what_is_made(self) -> None:
        self.dd.refuse()
        self.crowd.spawn("--traces", "300", "--spans", "5")
        self.crowd.reap(self.crowd.alive[0])
        wait_until(lambda: self.agent.status()["signals"]["trace"]["queued"] >= 1500, 20, "all that was made waits")

    def die_and_deliver(self) -> None:
        self.agent.kill9(self.ledger)
        self.agent.start()
        self.dd.reopen()
        self.settle()

    def upkeep(self) -> Dict[str, Any]:
        return self.agent.status()["upkeep"]

    def sockets_are_back(self) -> None:
        wait_until(lambda: can_connect(self.agent.socket_path) and can_connect(self.agent.control_path), NOTICED,
                   "both sockets are there again", 0.1)

    def test_removed_sockets_are_made_anew_and_nothing_is_lost(self) -> None:
        self.crowd.spawn("--traces", "1200", "--spans", "5", "--rate", "500")
        wait_until(lambda: self.agent.status()["probe_total"] == 1, 10, "a probe")
        self.agent.socket_path.unlink()
        self.agent.control_path.unlink()
        self.sockets_are_back()
        self.assertEqual([os.stat(p).st_mode & 0o777 for p in (self.agent.socket_path, self.agent.control_path)], [0o600] * 2)
        self.crowd.spawn("--traces", "100", "--spans", "5")      # a new one finds it
        self.settle()
        self.assertEqual(self.upkeep(), {"run_dir_remade": 1, "buffer_rewritten": 0, "problem": ""})
        self.assertIn("run_dir_remade", self.agent.log())
        doctor = self.agent.cli("doctor")
        self.assertIn("were removed and made anew", " ".join(doctor.stdout.split()))

    def test_a_removed_run_directory_is_made_anew_and_probes_go_on(self) -> None:
        self.crowd.spawn("--traces", "2000", "--spans", "5", "--rate", "500")      # for twenty seconds
        wait_until(lambda: self.agent.status()["probe_total"] == 1, 10, "a probe")
        shutil.rmtree(self.agent.dirs.run)
        self.sockets_are_back()
        self.assertEqual(self.agent.dirs.run.stat().st_mode & 0o777, 0o700)
        self.assertTrue(self.agent.status()["probes"][0]["ringless"])
        self.assertIn("without a ring file", " ".join(self.agent.cli("doctor").stdout.split()))
        self.agent.stop()           # whose next one it has to find
        self.agent.start()
        self.settle()
        self.assertNotEqual(self.agent.cli("agent").returncode, 0)      # it is locked as before

    def test_a_removed_buffer_is_written_anew(self) -> None:
        self.queue_what_is_made()
        for name in ("buffer.db", "buffer.db-wal"):
            (self.agent.dirs.data / name).unlink()
        wait_until(lambda: self.upkeep()["buffer_rewritten"] == 1, NOTICED, "the buffer was written anew", 0.2)
        self.assertIn("buffer_removed", self.agent.log())
        self.die_and_deliver()

    def test_a_removed_data_directory_is_made_anew_and_locked(self) -> None:
        self.queue_what_is_made()
        shutil.rmtree(self.agent.dirs.data)
        wait_until(lambda: self.upkeep()["buffer_rewritten"] == 1, NOTICED, "the buffer was written anew", 0.2)
        self.assertEqual(self.agent.dirs.data.stat().st_mode & 0o777, 0o700)
        self.assertIn(f"pid {self.agent.pid}", self.agent.cli("agent").stderr)
        self.die_and_deliver()

    def test_what_cannot_be_made_anew_is_said_until_it_can(self) -> None:
        (self.agent.dirs.data / "buffer.db").unlink()
        (self.agent.dirs.data / "buffer.db").mkdir()
        wait_until(lambda: self.upkeep()["problem"] != "", NOTICED, "the problem", 0.2)
        status = self.agent.status()
        self.assertEqual(status["state"], "degraded")
        self.assertIn("removed and cannot be written anew", status["reason"])
        with Writer(self.agent.socket_path) as writer:      # it works on meanwhile
            writer.finish([{"trace_id": 1, "span_id": 1, "service": "s", "name": "n", "resource": "r",
                            "start": writer.now(), "duration": 5}])
            writer.flush(10)
        (self.agent.dirs.data / "buffer.db").rmdir()
        wait_until(lambda: self.upkeep()["problem"] == "", NOTICED, "the end of the problem", 0.2)
        self.assertEqual(self.upkeep()["buffer_rewritten"], 1)
        self.assertEqual(self.agent.log().count("files_removed"), 1)        # said once


if __name__ == "__main__":
    unittest.main()
