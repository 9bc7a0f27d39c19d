"""The ledger holds while the collector's surroundings change: clock, limits, signals, files, a second collector."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import unittest
from pathlib import Path
from typing import Dict

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.arena import Arena  # noqa: E402
from support.cgroup import Cgroup  # noqa: E402
from support.content import STRICT  # noqa: E402
from support.harness import Agent, binary, wait_until  # noqa: E402
from support.script import Act  # noqa: E402
from support.traffic import Traffic  # noqa: E402
from support.writer import Writer  # noqa: E402

YEAR = 365 * 86400
CANARY = "canary0123456789abcdef0123456789"   # as long as a key


class Life(unittest.TestCase):
    def setUp(self) -> None:
        self.arena = Arena(91, rules=STRICT)
        self.agent, self.dd, self.ledger = self.arena.agent, self.arena.dd, self.arena.ledger
        self.seeds = random.Random(91)

    def tearDown(self) -> None:
        self.arena.__exit__()

    def send(self, traces: int = 20, spans: int = 5, text: str = "x", error: int = 0) -> None:
        """Traces that the collector has stored when this returns."""
        with Writer(self.agent.socket_path, self.ledger) as writer:
            Traffic(writer, self.seeds.getrandbits(40), error).send(traces, spans, text)
            writer.flush(15)

    def check(self, timeout: float = 30) -> Dict[str, object]:
        status = self.agent.drain(timeout, received=len(self.ledger.acked))
        self.ledger.check(self.dd.requests(), status)
        return status

    # ---- clock ----

    def set_clock(self, seconds: int) -> None:
        (self.agent.dirs.base / "shift").write_text(f"{seconds}\n")
        time.sleep(0.05)

    def start_with_clock(self, seconds: int) -> None:
        self.set_clock(seconds)
        self.agent.env = {**self.arena.calm, "LD_PRELOAD": str(binary().parent / "clockshift.so"),
                          "CLOCK_SHIFT_FILE": str(self.agent.dirs.base / "shift")}
        self.agent.start()

    def test_a_clock_that_leaps_drops_nothing(self) -> None:
        self.start_with_clock(0)
        self.dd.refuse()
        for shift in (-3600, 0, 10 * YEAR, 0, -50 * YEAR, 0, 8 * 86400, 0):
            self.set_clock(shift)
            self.send(5)
            time.sleep(1.2)     # the store is maintained each second
        self.dd.reopen()
        self.assertEqual(self.check(70)["signals"]["trace"]["dropped"], {})

    def test_a_clock_set_back_during_a_rest_does_not_prolong_it(self) -> None:
        self.start_with_clock(0)
        self.dd.script(Act(status=503, retry_after="2"))
        self.send()
        wait_until(lambda: self.dd.script_left() == 0, 10, "the refusal")
        self.set_clock(-86400)
        began = time.monotonic()
        self.check(30)
        self.assertLess(time.monotonic() - began, 15)

    def test_a_start_in_1970_delivers(self) -> None:
        self.start_with_clock(-int(time.time()) + 100)
        self.send()
        self.check()
        self.agent.stop()
        self.start_with_clock(0)
        self.send()
        self.check()

    # ---- limits ----

    def test_64_descriptors_are_enough(self) -> None:
        self.agent.wrapper = ["prlimit", "--nofile=64"]
        self.agent.start()
        peers = [Writer(self.agent.socket_path) for _ in range(60)]
        for peer in peers:
            peer.connect_blind()
        for peer in peers:
            peer.close()
        self.send()
        self.check()

    def test_stopped_for_a_while_and_let_go(self) -> None:
        self.agent.start()
        with Writer(self.agent.socket_path, self.ledger) as writer:
            traffic = Traffic(writer, 5)
            traffic.send(10)
            os.kill(self.agent.pid, signal.SIGSTOP)
            traffic.send(10)
            time.sleep(2)
            os.kill(self.agent.pid, signal.SIGCONT)
            traffic.send(10)
            writer.flush(15)
        self.check()

    @unittest.skipIf(Cgroup.missing(), Cgroup.missing())
    def test_32_megabytes_in_a_cgroup(self) -> None:
        with Cgroup(32 << 20) as group:
            self.agent.wrapper = group.wrapper
            self.agent.start()
            for _ in range(5):
                self.send(200, 20, "y" * 200)
            self.check(60)
            self.assertEqual(group.kills(), 0)

    # ---- signals ----

    def test_ends_in_time_although_the_destination_hangs(self) -> None:
        self.agent.start()
        self.dd.always(Act(mode="hang"))
        self.send(2000, 10, "z" * 100)
        began = time.monotonic()
        self.agent.process.terminate()
        time.sleep(0.1)
        self.agent.process.terminate()
        self.assertEqual(self.agent.process.wait(12), 0)
        self.assertLess(time.monotonic() - began, 7)
        self.dd.clear()
        with self.ledger.kill():    # its one request was under way
            pass
        self.agent.start()
        self.check(60)

    def test_a_storm_of_hangups_with_bad_configurations_keeps_the_old_one(self) -> None:
        config = self.agent.dirs.base / "c.json"
        config.write_text("{}")
        self.agent = self.arena.agent = Agent(self.dd.url, args=["--config", str(config)], dirs=self.agent.dirs)
        self.agent.start()
        for text in ("{", '{"no": 1}', '{"store": {"cap": "many"}}', "\x00\xff", "[]"):
            config.write_text(text)
            for _ in range(20):
                os.kill(self.agent.pid, signal.SIGHUP)
                time.sleep(0.002)
        self.send()
        self.check()

    # ---- files ----

    def test_a_second_collector_names_the_first(self) -> None:
        self.agent.start()
        done = self.agent.cli("agent", timeout=20)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(str(self.agent.pid), done.stderr + done.stdout)
        self.send()
        self.check()

    def test_a_shell_on_the_buffer_finds_it_locked_and_harms_nothing(self) -> None:
        self.agent.start()
        self.send()
        with self.assertRaises(sqlite3.OperationalError):
            with sqlite3.connect(self.agent.dirs.data / "buffer.db", timeout=0.2) as db:
                db.execute("SELECT count(*) FROM sqlite_master").fetchall()
        self.send()
        self.check()

    def test_a_newer_buffer_is_refused_and_left_alone(self) -> None:
        self.agent.start()
        self.send()
        self.check()
        self.agent.stop()
        path = self.agent.dirs.data / "buffer.db"
        with sqlite3.connect(path) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            db.execute(f"PRAGMA user_version={version + 1}")
        before = path.read_bytes()
        self.agent.start(wait=False)
        self.assertNotEqual(self.agent.process.wait(10), 0)
        self.assertEqual(path.read_bytes(), before)
        self.assertRegex(self.agent.log_tail(3), "newer|version|migrat")
        with sqlite3.connect(path) as db:
            db.execute(f"PRAGMA user_version={version}")
        self.agent.start()
        self.send()
        self.check()

    def test_the_buffer_is_deleted_under_a_running_collector(self) -> None:
        self.agent.start()
        self.send()
        self.check()
        for path in self.agent.dirs.data.iterdir():
            if path.name != "lock":
                path.unlink()
        self.send()
        self.check()

    def test_a_directory_lies_where_the_buffer_should_be(self) -> None:
        (self.agent.dirs.data / "buffer.db").mkdir()
        self.agent.start(wait=False)
        try:
            self.assertNotEqual(self.agent.process.wait(3), 0)
            self.assertIn("buffer.db", self.agent.log())
        except subprocess.TimeoutExpired:   # it helped itself
            self.agent.wait_ready()
            self.send()
            self.check()

    # ---- secrets ----

    def test_a_key_is_written_nowhere(self) -> None:
        self.agent.env = {**self.arena.calm, "DD_API_KEY": CANARY, "COMFYMON_LOG_LEVEL": "debug"}
        self.agent.start()
        self.dd.script(Act(status=403), Act(status=400))
        self.send()
        said = [self.agent.log()]
        for verb in (["status"], ["status", "--json"], ["check"], ["check", "--json"], ["doctor"], ["traces", "--json"]):
            done = self.agent.cli(*verb)
            said.append(done.stdout + done.stderr)
        said.append(Path(f"/proc/{self.agent.pid}/cmdline").read_text())
        self.agent.stop()
        for text in said:
            self.assertNotIn(CANARY, text)
        for path in self.agent.dirs.base.rglob("*"):
            if path.is_file():
                self.assertNotIn(CANARY.encode(), path.read_bytes(), str(path))
        for request in self.dd.requests():
            self.assertNotIn(CANARY, str(request.headers))


if __name__ == "__main__":
    unittest.main()
