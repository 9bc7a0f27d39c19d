"""What the probe does where it cannot work: it says so, costs nothing, and ComfyUI goes on as before."""

from __future__ import annotations

import contextlib
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
from typing import Any, Dict, Iterator

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration" / "node"))
from comfyui_test import BOTH, ROWS, settled, spoken, test_graph  # noqa: E402
from node import FAKE_HOST, NODE, Place, pythons, stages, wait_until  # noqa: E402
from support import cell  # noqa: E402
from support.harness import sanitizer  # noqa: E402

PYTHON = sorted(pythons().items())[-1][1]
STRANGER = 54321
TOLD = ("quick", "failing")
SENDER_CPU_S = 0.15
WHY = cell.missing()


class Listener:
    """Somebody else at the socket's path; what it does with who connects is `act`."""

    def __init__(self, path: Path, act: Any) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen(16)
        self.kept: list = []
        self.act = act
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self.socket.accept()
                self.kept.append(peer)
                with contextlib.suppress(OSError):
                    self.act(peer)

    def close(self) -> None:
        # shutdown first: accept() in the thread would keep the socket open.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for peer in self.kept:
            peer.close()


def never_answers(_: socket.socket) -> None:
    pass


def answers_garbage(peer: socket.socket) -> None:
    peer.sendall(random.Random(5).randbytes(20000))


def greets_then_lies(peer: socket.socket) -> None:
    peer.sendall(b"\0SP\0\0\x51\0\0" + b"\1" + (40).to_bytes(8, "big") + b"CMS1" + bytes(36))


def promises_too_much(peer: socket.socket) -> None:
    peer.sendall(b"\0SP\0\0\x51\0\0" + b"\1" + (1 << 60).to_bytes(8, "big") + bytes(4096))


def hangs_up(peer: socket.socket) -> None:
    peer.close()


@contextlib.contextmanager
def a_strangers_listener(path: Path) -> Iterator[None]:
    """A child that listens as another user: its uid is what the kernel tells a client."""
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(path))
    path.chmod(0o777)
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.setresuid(STRANGER, STRANGER, STRANGER)
        bound.listen(8)
        os.write(told, b"x")
        signal.pause()
        os._exit(0)
    os.read(ready, 1)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        bound.close()


def sender_cpu_s(pid: int) -> float:
    """Processor time of our thread in the host."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        text = (task / "stat").read_text()
        if "(comfymon-send)" in text:
            fields = text.rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    raise AssertionError("no sender thread")


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class SomebodyElse(unittest.TestCase):
    plain: Dict[str, Any] = {}

    @classmethod
    def setUpClass(cls) -> None:
        with Place() as place, place.comfy([ROWS]) as comfy:
            cls.plain = {name: spoken(comfy, name) for name in TOLD}

    def met(self, place: Place, path: Path, end: Any) -> None:
        """The host works as without us; then the stranger goes, and a collector gets everything."""
        with place.comfy(BOTH) as comfy:
            for name in TOLD:
                self.assertEqual(spoken(comfy, name), self.plain[name])
            comfy.run(test_graph("TestSpans", 2000))
            time.sleep(1)
            self.assertLess(sender_cpu_s(comfy.pid), SENDER_CPU_S)
            self.assertEqual(place.agent_pid(), 0)
            end()
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            place.autostart_by_hand()
            settled(place, 2000)
            self.assertEqual([p["drops"] for p in place.status()["probes"]], [{}])
            begin = time.monotonic()
            self.assertEqual(comfy.stop(signal.SIGINT), 0)
            self.assertLess(time.monotonic() - begin, 5)

    def test_a_listener_that_misbehaves_costs_nothing_and_loses_nothing(self) -> None:
        for act in (never_answers, answers_garbage, greets_then_lies, promises_too_much, hangs_up):
            with self.subTest(act.__name__), Place() as place:
                path = place.dirs.run / "comfymon.sock"
                listener = Listener(path, act)
                self.met(place, path, listener.close)

    @unittest.skipUnless(os.geteuid() == 0, "only root can make a socket of another user there")
    def test_a_listener_of_another_user_is_told_nothing(self) -> None:
        with Place(env={"COMFYMON_AUTOSTART": "0"}) as place, contextlib.ExitStack() as stranger:
            path = place.dirs.run / "comfymon.sock"
            place.dirs.base.chmod(0o711)
            stranger.enter_context(a_strangers_listener(path))
            self.met(place, path, stranger.close)


class NoCollector(unittest.TestCase):
    def test_a_long_time_without_one_fills_the_ring_and_no_more(self) -> None:
        made = 600_000
        with Place(env={"COMFYMON_AUTOSTART": "0"}) as place, place.comfy(BOTH) as comfy:
            comfy.run(test_graph("TestSpans", 20_000))
            before = rss_bytes(comfy.pid)
            comfy.run(test_graph("TestSpans", made), timeout_s=120)
            ring = next(place.dirs.run.glob("ring-*.cm")).stat().st_size
            if not sanitizer():
                self.assertLess(rss_bytes(comfy.pid) - before, ring + (5 << 20))
            self.assertLess(sender_cpu_s(comfy.pid), SENDER_CPU_S)
            self.assertEqual(comfy.run(test_graph("TestSpans", 7))["outputs"]["2"]["text"], ["7"])
            place.autostart_by_hand()
            spans = 20_000 + made + 7

            def all_told() -> bool:
                probe = (place.status().get("probes") or [{"spans": 0, "drops": {}}])[0]
                return bool(probe["spans"] + sum(probe["drops"].values()) >= spans)
            wait_until(all_told, 30, "stored and lost spans to add up", 0.2)
            probe = place.status()["probes"][0]
            # Besides those counted here: jobs, nodes, and a request for each look at the history.
            self.assertLess(probe["spans"] + probe["drops"]["ring_full"], spans + 500, probe)
            self.assertEqual(set(probe["drops"]) - {"ring_full", "open_full"}, set())
            self.assertGreater(probe["drops"]["ring_full"], 100_000)


class NoRoom(unittest.TestCase):
    """Run directories that cannot be used. The host is a small one: see load_test.py for what it checks."""

    def host(self, prepare: str, **env: str) -> "subprocess.CompletedProcess[str]":
        given = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "COMFYMON_AUTOSTART": "0", **env}
        done = cell.run(f"{prepare}\n{PYTHON} {FAKE_HOST} {NODE} 5\n"
                        "ls /dev/shm/comfymon-0/*.cm >/dev/null 2>&1 && stat -c %s /dev/shm/comfymon-0/*.cm >&2; true", given)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def is_off(self, done: "subprocess.CompletedProcess[str]", why: str) -> None:
        self.assertFalse(stages(done)["init"]["on"])
        self.assertRegex(done.stderr, f"^comfymon is off: {why}")
        self.assertEqual(len(done.stderr.splitlines()), 1)

    @unittest.skipIf(WHY, WHY)
    def test_a_shared_memory_that_is_full_small_or_read_only(self) -> None:
        self.is_off(self.host("head -c 63000000 /dev/zero >/dev/shm/full"), "too little room for a ring")
        self.is_off(self.host("mount -o remount,size=4m /dev/shm"), "too little room for a ring")
        self.is_off(self.host("mount -o remount,ro /dev/shm"), "cannot make the run directory /dev/shm/comfymon-0: Read-only")
        done = self.host("")
        self.assertTrue(stages(done)["end"]["on"])
        self.assertEqual(int(done.stderr.splitlines()[-1]), 8 << 20, "an eighth of the 64 MB that engines give")

    @unittest.skipIf(WHY, WHY)
    def test_the_users_runtime_directory_is_next_and_the_program_looks_there_too(self) -> None:
        user = "mkdir -m 700 /dev/shm/user\nmount -t tmpfs -o size=64m tmpfs /dev/shm/user"
        for what in ("mount -o remount,ro /dev/shm", "mkdir -m 755 /dev/shm/comfymon-0"):
            with self.subTest(what):
                done = self.host(f"{user}\n{what}\n{NODE}/comfymon check | grep '^run_dir' >&2", XDG_RUNTIME_DIR="/dev/shm/user")
                self.assertTrue(stages(done)["end"]["on"])
                self.assertIn("is on in /dev/shm/user/comfymon", done.stderr)
                self.assertRegex(done.stderr, r"(?m)^run_dir\s+/dev/shm/user/comfymon\s")

    @unittest.skipIf(WHY, WHY)
    def test_a_directory_that_others_could_have_made(self) -> None:
        made = "mkdir /dev/shm/comfymon-0"
        self.is_off(self.host(f"{made}\nchmod 777 /dev/shm/comfymon-0"), "the run directory .* is open to other users")
        self.is_off(self.host("mkdir -m 700 /dev/shm/x\nln -s x /dev/shm/comfymon-0"), "cannot open the run directory")
        if os.geteuid() == 0:
            self.is_off(self.host(f"{made}\nchmod 700 /dev/shm/comfymon-0\nchown {STRANGER} /dev/shm/comfymon-0"),
                        "the run directory .* belongs to another user")


if __name__ == "__main__":
    unittest.main()
