"""The health port: who is answered, who is refused, and that nobody keeps others from being answered."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path
from typing import Dict, List, Optional, Tuple

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS)]
from support.fake_datadog import FakeDatadog  # noqa: E402
from support.harness import Agent, binary, wait_until  # noqa: E402
from support.script import Act  # noqa: E402
from support.writer import Writer  # noqa: E402

PLACES = 32  # an address, agent/control/port.c


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


class Port(unittest.TestCase):
    def start(self, **env: str) -> Agent:
        self.port = free_port()
        agent = Agent(None, {"COMFYMON_DESTINATIONS": "none", "COMFYMON_HEALTH_PORT": str(self.port), **env})
        self.addCleanup(agent.close)
        agent.start()
        return agent

    def ask(self, method: str = "GET", path: str = "/readyz", host: str = "127.0.0.1", body: Optional[bytes] = None,
            headers: Optional[Dict[str, str]] = None) -> Tuple[int, Dict[str, str], bytes]:
        connection = http.client.HTTPConnection(host, self.port, timeout=10)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def send(self, data: bytes) -> bytes:
        """All that comes back for these bytes, until the other end closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sent:
            got = b""
            try:
                sent.sendall(data)
                while True:
                    more = sent.recv(65536)
                    if not more:
                        return got
                    got += more
            except ConnectionError:
                return got

    def connect(self, count: int) -> List[socket.socket]:
        made = [socket.create_connection(("127.0.0.1", self.port), timeout=10) for _ in range(count)]
        for one in made:
            self.addCleanup(one.close)
        return made

    def command(self, agent: Agent, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([str(binary()), *words], env=agent.env, capture_output=True, text=True, timeout=20, check=False)


class Answered(Port):
    def test_without_comfyui_it_is_healthy_and_not_ready(self) -> None:
        agent = self.start()
        status, headers, body = self.ask("GET", "/healthz")
        self.assertEqual((status, headers["content-type"], headers["cache-control"]), (200, "application/json", "no-store"))
        told = json.loads(body)
        self.assertEqual((told["healthy"], told["wrong"], told["processes"]), (True, "", []))
        status, _, body = self.ask("GET", "/readyz")
        told = json.loads(body)
        self.assertEqual((status, told["ready"], told["why"]), (503, False, "no ComfyUI is connected"))
        shown = agent.status()["health_port"]
        self.assertEqual((shown["port"], shown["open"], shown["problem"]), (self.port, False, ""))
        self.assertIn(f"127.0.0.1:{self.port}", shown["at"])
        self.assertIn(f"127.0.0.1:{self.port}", self.command(agent, "status").stdout)
        self.assertIn(f"health port  127.0.0.1:{self.port}", self.command(agent, "doctor").stdout)

    def test_the_control_socket_gives_the_same_answers(self) -> None:
        agent = self.start()
        for path, code in (("/healthz", 200), ("/readyz", 503)):
            with socket.socket(socket.AF_UNIX) as control:
                control.settimeout(10)
                control.connect(str(agent.control_path))
                control.sendall(f"GET {path} HTTP/1.1\r\nHost: anything.example\r\nConnection: close\r\n\r\n".encode())
                text = b""
                while more := control.recv(65536):
                    text += more
            head, _, body = text.partition(b"\r\n\r\n")
            self.assertEqual(int(head.split()[1]), code)
            there, here = json.loads(body), json.loads(self.ask("GET", path)[2])
            for moving in ("looks", "cpu_ns"):
                there.pop(moving), here.pop(moving)
            self.assertEqual(there, here)

    def test_a_command_says_yes_or_no(self) -> None:
        agent = self.start()
        done = self.command(agent, "status", "--healthy")
        self.assertEqual((done.returncode, done.stdout), (0, "healthy\n"))
        done = self.command(agent, "status", "--ready")
        self.assertEqual((done.returncode, done.stdout), (1, "not ready: no ComfyUI is connected\n"))
        done = self.command(agent, "status", "--ready", "--json")
        self.assertEqual((done.returncode, json.loads(done.stdout)["ready"]), (1, False))
        self.assertEqual(self.command(agent, "status", "--ready", "--healthy").stdout.split("\n")[0], "healthy")
        agent.stop()
        for word in ("ready", "healthy"):
            done = self.command(agent, "status", "--" + word)
            self.assertEqual((done.returncode, done.stdout), (1, f"not {word}: no agent runs\n"))
            done = self.command(agent, "status", "--json", "--" + word)
            self.assertEqual((done.returncode, json.loads(done.stdout)[word]), (1, False))

    def test_head_has_no_body_and_its_length(self) -> None:
        self.start()
        for path in ("/healthz", "/readyz"):
            status, headers, body = self.ask("HEAD", path)
            self.assertEqual((status, body), (self.ask("GET", path)[0], b""))
            self.assertGreater(int(headers["content-length"]), 10)

    @unittest.skipUnless(has_ipv6(), "this host has no ::1")
    def test_ipv6_is_answered_too(self) -> None:
        agent = self.start()
        self.assertEqual(self.ask("GET", "/healthz", host="::1")[0], 200)
        self.assertIn(f"[::1]:{self.port}", agent.status()["health_port"]["at"])

    def test_http_1_0_without_a_name_is_answered(self) -> None:
        self.start()
        self.assertTrue(self.send(b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200"))

    def test_an_agent_that_drains_answers_no_more(self) -> None:
        with FakeDatadog() as far:
            far.always(Act(mode="hang"))
            agent = self.start(COMFYMON_DESTINATIONS="datadog", DD_TRACE_AGENT_URL=far.url, COMFYMON_DRAIN="4s",
                               COMFYMON_AGENT_TIMEOUT="60s")
            with Writer(agent.socket_path) as writer:
                writer.finish([{"trace_id": 1, "span_id": 1, "parent_id": 0, "service": "s", "name": "n", "resource": "r",
                                "type": "", "start": writer.now(), "duration": 1000, "error": 0, "meta": {}, "metrics": {}}])
                writer.flush(10)
            wait_until(lambda: agent.status()["signals"]["trace"]["in_flight"] == 1, 10, "the request")
            self.assertEqual(self.ask("GET", "/healthz")[0], 200)
            os.kill(agent.pid, signal.SIGTERM)

            def refused() -> bool:
                try:
                    self.ask("GET", "/healthz")
                except ConnectionError:
                    return True
                return False

            wait_until(refused, 3, "the port to close")
            self.assertIsNone(agent.returncode)  # what is under way still has its time
            self.assertEqual(self.command(agent, "status", "--ready").returncode, 1)

    def test_only_when_asked_for(self) -> None:
        agent = self.start(COMFYMON_HEALTH_PORT="0")
        self.assertEqual(agent.status()["health_port"], {"port": 0, "open": False, "at": "", "problem": ""})
        names = [(task / "comm").read_text().strip() for task in Path(f"/proc/{agent.pid}/task").iterdir()]
        self.assertNotIn("health-port", names)


class Refused(Port):
    def test_other_routes_and_methods(self) -> None:
        self.start()
        for path in ("/", "/status", "/traces", "/jobs", "/memory", "/job/1", "/healthz/", "/../healthz", "/%68ealthzz"):
            self.assertEqual(self.ask("GET", path)[0], 404, path)
        self.assertEqual(self.ask("POST", "/retry", body=b"{}")[0], 404)
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"):
            status, headers, _ = self.ask(method, "/healthz")
            self.assertEqual((status, headers["allow"]), (405, "GET, HEAD"), method)
        self.assertEqual(self.ask("POST", "/healthz", body=b"x" * 100_000)[0], 405)

    def test_a_name_that_is_not_this_hosts(self) -> None:
        self.start()
        for name in ("evil.example", f"evil.example:{self.port}", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0"):
            status, _, body = self.ask("GET", "/healthz", headers={"Host": name})
            self.assertEqual(status, 403, name)
            self.assertNotIn(b"healthy", body)
        for name in ("localhost", f"LOCALHOST:{self.port}", "127.0.0.1", f"[::1]:{self.port}"):
            self.assertEqual(self.ask("GET", "/healthz", headers={"Host": name})[0], 200, name)

    def test_garbage_ends_nothing(self) -> None:
        agent = self.start()
        rng = random.Random(4)
        for data in (b"\x16\x03\x01\x02\x00\x01\x00", b"\x00" * 9000, b"GET\r\n\r\n", b"GET /healthz\r\n\r\n", b"\r\n" * 5000,
                     b"GET /healthz HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\n\r\n",
                     b"GET /healthz HTTP/1.1\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
                     b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
                     *(rng.randbytes(rng.randint(1, 4096)) + b"\r\n\r\n" for _ in range(100))):
            got = self.send(data)
            self.assertFalse(got.startswith(b"HTTP/1.1 200"), data[:40])
        self.assertEqual(self.ask("GET", "/healthz")[0], 200)
        self.assertIsNone(agent.returncode)

    def test_a_port_in_use_is_told_and_the_agent_runs(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            number = taken.getsockname()[1]
            agent = self.start(COMFYMON_HEALTH_PORT=str(number))
            shown = agent.status()["health_port"]
            self.assertEqual((shown["port"], shown["at"]), (number, ""))
            self.assertEqual(shown["problem"], f"127.0.0.1:{number}: Address already in use")
            self.assertIn("health_port_not_opened", agent.log())
            self.assertIn("not open: 127.0.0.1", self.command(agent, "status").stdout)
            doctor = self.command(agent, "doctor").stdout
            self.assertRegex(doctor, "WRONG +.*health port")
            self.assertEqual(self.command(agent, "status", "--healthy").returncode, 0)
            if has_ipv6():  # not by half
                with self.assertRaises(ConnectionRefusedError):
                    socket.create_connection(("::1", number), timeout=5)

    def test_bad_values_are_told(self) -> None:
        agent = self.start()
        for name, value in (("control.port", "65536"), ("control.port", "no"), ("control.bind", "localhost"), ("control.bind", "1.2.3")):
            done = self.command(agent, "check", "--set", f"{name}={value}")
            self.assertEqual(done.returncode, 2, (name, value))
            self.assertIn(name, done.stderr)


class Bound(Port):
    """COMFYMON_HEALTH_BIND."""

    def test_everybody_is_answered_under_any_name_and_it_is_said(self) -> None:
        agent = self.start(COMFYMON_HEALTH_BIND="0.0.0.0")
        self.assertEqual(self.ask("GET", "/healthz", headers={"Host": "10.1.2.3:8127"})[0], 200)
        self.assertEqual(self.ask("GET", "/status")[0], 404)
        shown = agent.status()["health_port"]
        self.assertEqual((shown["open"], shown["at"]), (True, f"0.0.0.0:{self.port}"))
        self.assertIn("warn health_port ", agent.log())
        self.assertRegex(self.command(agent, "doctor").stdout, r"note +.*health port +0\.0\.0\.0")

    @unittest.skipUnless(has_ipv6(), "this host has no ::1")
    def test_any_of_ipv6_is_any_of_ipv4_too(self) -> None:
        self.start(COMFYMON_HEALTH_BIND="::")
        self.assertEqual(self.ask("GET", "/healthz", host="127.0.0.1")[0], 200)
        self.assertEqual(self.ask("GET", "/healthz", host="::1")[0], 200)

    def test_an_address_of_loopback_stays_this_hosts(self) -> None:
        agent = self.start(COMFYMON_HEALTH_BIND="127.0.0.1")
        self.assertFalse(agent.status()["health_port"]["open"])
        self.assertEqual(self.ask("GET", "/healthz", headers={"Host": "evil.example"})[0], 403)

    def test_an_address_that_is_not_ours_is_told(self) -> None:
        agent = self.start(COMFYMON_HEALTH_BIND="192.0.2.1")
        self.assertIn("192.0.2.1", agent.status()["health_port"]["problem"])


class Crowded(Port):
    def test_200_at_once_are_all_answered(self) -> None:
        self.start()
        codes: List[int] = []

        def one() -> None:
            codes.append(self.ask("GET", "/healthz")[0])

        threads = [threading.Thread(target=one) for _ in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertEqual(codes, [200] * 200)

    def test_who_says_nothing_is_cut_and_does_not_keep_others_waiting(self) -> None:
        agent = self.start()
        before = len(os.listdir(f"/proc/{agent.pid}/fd"))
        idle = self.connect(200)
        began = time.monotonic()
        self.assertEqual(self.ask("GET", "/healthz")[0], 200)
        self.assertLess(time.monotonic() - began, 5)  # 200 in turns of 32, a quarter of a second each
        self.assertLessEqual(len(os.listdir(f"/proc/{agent.pid}/fd")), before + PLACES + 2)
        for one in idle:
            self.assertEqual(one.recv(1), b"")

    def test_a_byte_a_second_is_not_enough(self) -> None:
        self.start()
        slow = self.connect(1)[0]
        began = time.monotonic()
        with self.assertRaises(ConnectionError):
            for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n":
                slow.sendall(bytes([byte]))
                time.sleep(0.3)
        self.assertLess(time.monotonic() - began, 8)

    def test_who_does_not_read_is_let_go(self) -> None:
        agent = self.start()
        before = len(os.listdir(f"/proc/{agent.pid}/fd"))
        for one in self.connect(20):
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
        wait_until(lambda: len(os.listdir(f"/proc/{agent.pid}/fd")) <= before, 10, "all to be closed")
        self.assertEqual(self.ask("GET", "/healthz")[0], 200)

    def test_an_idle_port_never_wakes(self) -> None:
        agent = self.start()
        self.ask()
        task = next(t for t in Path(f"/proc/{agent.pid}/task").iterdir() if (t / "comm").read_text().strip() == "health-port")

        def wakes() -> str:
            return next(line for line in (task / "status").read_text().splitlines() if line.startswith("voluntary"))

        time.sleep(0.5)
        before = wakes()
        time.sleep(6)
        self.assertEqual(wakes(), before)

    def test_it_ends_with_the_agent_also_while_somebody_hangs(self) -> None:
        agent = self.start()
        self.connect(40)
        began = time.monotonic()
        self.assertEqual(agent.stop(), 0)
        self.assertLess(time.monotonic() - began, 4)
        with self.assertRaises(ConnectionRefusedError):
            self.ask()
        agent.start()  # the same port at once
        self.assertEqual(self.ask("GET", "/healthz")[0], 200)


if __name__ == "__main__":
    unittest.main()
