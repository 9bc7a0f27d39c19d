"""`comfymon agent` as a service: what it logs, its signals, how long its end takes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path
from typing import Any, Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from support.fake_datadog import FakeDatadog  # noqa: E402
from support.harness import ROOT, Agent, Dirs, wait_until  # noqa: E402
from support.script import Act  # noqa: E402
from support.writer import Writer  # noqa: E402

FAILCALL = Path(os.environ.get("COMFYMON_BUILD", ROOT / "build" / "release")) / "bin" / "failcall.so"
LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (error|warn|info|debug) [a-z_]+( [a-z_]+=(\"[^\"]*\"|\S*))*$")


def span(writer: Writer, trace: int) -> Dict[str, Any]:
    return {"trace_id": trace, "span_id": trace, "parent_id": 0, "service": "shop", "name": "one", "resource": "One",
            "type": "worker", "start": writer.now(), "duration": 1000, "error": 0, "meta": {}, "metrics": {}}


def events(text: str) -> List[str]:
    return [line.split()[2] for line in text.splitlines()]


class Service(unittest.TestCase):
    def setUp(self) -> None:
        self.dd = FakeDatadog()
        self.addCleanup(self.dd.close)

    def agent(self, **env: str) -> Agent:
        agent = Agent(self.dd.url, env)
        self.addCleanup(agent.close)
        agent.start()
        return agent

    def send(self, agent: Agent, count: int) -> None:
        with Writer(agent.socket_path) as writer:
            writer.finish([span(writer, i + 1) for i in range(count)])
            writer.flush(10)

    def handshake_as(self, uid: int, agent: Agent) -> str:
        """What a client of that user gets for the first eight bytes."""
        client = ("import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(sys.argv[1]);"
                  "s.sendall(bytes([0, 83, 80, 0, 0, 80, 0, 0])); sys.stdout.write(s.recv(8).hex() or 'closed')")
        done = subprocess.run(["setpriv", f"--reuid={uid}", "--clear-groups", "/usr/bin/python3", "-c", client,
                               str(agent.socket_path)], capture_output=True, text=True, timeout=20, check=False, cwd="/")
        return done.stdout or done.stderr.strip().rsplit("\n", 1)[-1]

    @unittest.skipUnless(os.geteuid() == 0, "needs root to become somebody else")
    def test_other_users_send_only_when_they_are_named(self) -> None:
        agent = self.agent(COMFYMON_ALLOW_UIDS="65534")
        os.chmod(Path(agent.socket_path).parent.parent, 0o711)
        self.assertEqual(self.handshake_as(65534, agent), "0053500000510000")
        self.assertNotEqual(self.handshake_as(65533, agent), "0053500000510000")
        self.assertEqual(Path(agent.socket_path).parent.stat().st_mode & 0o777, 0o711)
        agent.stop()
        alone = self.agent()
        os.chmod(Path(alone.socket_path).parent.parent, 0o711)
        self.assertIn("Permission", self.handshake_as(65534, alone))
        self.assertEqual(Path(alone.socket_path).parent.stat().st_mode & 0o777, 0o700)

    def test_the_log_has_a_line_an_event_and_none_an_item(self) -> None:
        agent = self.agent()
        self.send(agent, 2000)
        agent.drain(10, received=2000)
        self.dd.refuse()
        self.send(agent, 1)
        wait_until(lambda: "delivery_failed" in agent.log(), 10, "the failure in the log")
        self.dd.reopen()
        wait_until(lambda: "delivery_resumed" in agent.log(), 20, "the recovery in the log")
        agent.stop()
        text = agent.log()
        for line in text.splitlines():
            self.assertRegex(line, LINE)
        self.assertEqual(events(text), ["ready", "probe_hello", "probe_hello", "delivery_failed", "delivery_resumed",
                                        "stopping", "stopped"])

    def test_the_level_decides_what_is_said(self) -> None:
        agent = self.agent(COMFYMON_LOG_LEVEL="error")
        self.send(agent, 3)
        agent.stop()
        self.assertEqual(agent.log(), "")

    def test_term_and_int_end_it_and_hup_opens_the_log_anew(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            agent = self.agent()
            os.kill(agent.pid, number)
            wait_until(lambda: agent.returncode is not None, 10, "its end")
            self.assertEqual(agent.returncode, 0)
        log = agent.dirs.base / "own.log"
        agent.env["COMFYMON_LOG_FILE"] = str(log)
        agent.start()
        log.rename(log.with_suffix(".1"))
        os.kill(agent.pid, signal.SIGHUP)
        wait_until(lambda: log.exists() and "log_reopened" in log.read_text(), 10, "the new log")
        self.assertEqual(agent.returncode, None)
        self.assertEqual(agent.stop(), 0)
        self.assertEqual(events(log.read_text()), ["log_reopened", "stopping", "stopped"])

    def test_its_end_waits_for_a_far_end_that_hangs_no_longer_than_drain(self) -> None:
        self.dd.always(Act(mode="hang"))
        agent = self.agent(COMFYMON_DRAIN="1s", COMFYMON_AGENT_TIMEOUT="60s")
        self.send(agent, 1)
        wait_until(lambda: agent.status()["signals"]["trace"]["in_flight"] == 1, 10, "the request")
        began = time.monotonic()
        self.assertEqual(agent.stop(15), 0)
        self.assertLess(time.monotonic() - began, 5)
        self.dd.clear()
        agent.start()
        agent.drain(20, received=1)
        self.assertEqual(agent.status()["signals"]["trace"]["sent"], 1)

    def test_libcurl_comes_with_the_first_trace(self) -> None:
        agent = self.agent()
        maps = Path(f"/proc/{agent.pid}/maps")
        self.assertNotIn("libcurl", maps.read_text())
        self.send(agent, 1)
        agent.drain(10, received=1)
        self.assertIn("libcurl", maps.read_text())
        self.assertEqual(len(self.dd.requests()), 1)

    def test_a_libcurl_that_cannot_be_loaded_is_told_and_the_traces_wait(self) -> None:
        place = Dirs()
        self.addCleanup(place.remove)
        (place.base / "libcurl.so.4").write_text("not a library\n")
        agent = self.agent(LD_LIBRARY_PATH=str(place.base))
        self.send(agent, 1)
        wait_until(lambda: "libcurl_not_loaded" in agent.log(), 10, "the reason in the log")
        state = agent.status()["destinations"][0]
        self.assertEqual(state["state"], "offline")
        self.assertIn("libcurl.so.4", state["last_error"])
        self.send(agent, 1)
        self.assertEqual(agent.stop(6), 0)
        del agent.env["LD_LIBRARY_PATH"]
        agent.start()
        agent.drain(10, received=2)
        self.assertEqual(agent.status()["signals"]["trace"]["sent"], 2)

    @unittest.skipUnless(FAILCALL.exists(), "failcall.so is not built")
    def test_a_wakeup_that_fails_does_not_keep_it_from_its_end(self) -> None:
        for n in range(4, 11):  # libcurl wakes its thread by a send, one of these is it
            with self.subTest(n):
                agent = self.agent(LD_PRELOAD=str(FAILCALL), FAIL_CALL="send", FAIL_AT=str(n), FAIL_ERRNO="104",
                                   FAIL_TIMES="1", FAIL_SELF="0", FAIL_LOG=os.devnull, COMFYMON_DRAIN="1s")
                self.send(agent, 1)
                time.sleep(0.1)
                self.assertEqual(agent.stop(6), 0)


if __name__ == "__main__":
    unittest.main()
