"""Peers that misbehave on the local socket do not keep a good one from being heard."""

from __future__ import annotations

import os
import random
import socket
import sys
import time
import unittest
from pathlib import Path
from typing import List

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import wire  # noqa: E402
from support.arena import Arena  # noqa: E402
from support.content import STRICT  # noqa: E402
from support.harness import sanitizer  # noqa: E402
from support.probe import seed_of  # noqa: E402
from support.traffic import Traffic  # noqa: E402
from support.writer import Writer  # noqa: E402

CONNECTS = 10_000
SLACK_KB = 65536 if sanitizer() else 8192   # a sanitizer keeps what was freed for a while
HTTP = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def hello() -> bytes:
    return wire.HANDSHAKE_PUSH + b"\x01" + (4).to_bytes(8, "big")


class Peers(unittest.TestCase):
    def setUp(self) -> None:
        self.random = random.Random(seed_of(81))
        self.arena = Arena(81, rules=STRICT)
        self.agent = self.arena.agent
        self.agent.start()
        self.open: List[socket.socket] = []

    def tearDown(self) -> None:
        for peer in self.open:
            peer.close()
        self.arena.__exit__()

    def peer(self, data: bytes = b"", keep: bool = True) -> socket.socket:
        """A connection that has sent `data`; a full backlog is waited for."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.agent.socket_path))
        sock.settimeout(5)
        try:
            sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        if keep:
            self.open.append(sock)
        else:
            sock.close()
        return sock

    def fds(self) -> int:
        return len(os.listdir(f"/proc/{self.agent.pid}/fd"))

    def a_good_peer_is_heard(self, within: float = 10.0) -> None:
        with Writer(self.agent.socket_path, self.arena.ledger) as writer:
            traffic = Traffic(writer, self.random.getrandbits(30))
            traffic.send(5)
            writer.flush(within)
        status = self.agent.drain(20, received=len(self.arena.ledger.acked))
        self.arena.ledger.check(self.arena.dd.requests(), status)

    def test_connects_and_closes_ten_thousand_times(self) -> None:
        before = self.fds()
        for _ in range(CONNECTS):
            self.peer(keep=False)
        self.a_good_peer_is_heard()
        self.assertLessEqual(self.fds(), before + 8)

    def test_says_half_a_handshake_and_goes_or_stays(self) -> None:
        for length in range(1, 8):
            for keep in (False, True):
                self.peer(wire.HANDSHAKE_PUSH[:length], keep)
        self.a_good_peer_is_heard()

    def test_speaks_something_else(self) -> None:
        for data in (HTTP, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), b"\x00SP\x00\x00\x10\x00\x00",
                     b"\x00SP\x00\x00\x51\x00\x00", b"\x00SP\x01\x00\x50\x00\x00", self.random.randbytes(4096)):
            peer = self.peer(data)
            peer.settimeout(5)
            got = b"x"
            while got:      # our greeting, then the end
                try:
                    got = peer.recv(64)
                except ConnectionResetError:
                    break
        self.a_good_peer_is_heard()

    def test_announces_lengths_that_cannot_be(self) -> None:
        before = self.resident_kb()
        for length in (0, 1, wire.FRAME_MAX, wire.FRAME_MAX + 1, 2**31, 2**63, 2**64 - 1):
            self.peer(wire.HANDSHAKE_PUSH + b"\x01" + length.to_bytes(8, "big") + bytes(32))
        self.a_good_peer_is_heard()
        self.assertLess(self.resident_kb(), before + SLACK_KB)

    def resident_kb(self) -> int:
        for line in Path(f"/proc/{self.agent.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        raise AssertionError("no VmRSS")

    def test_cuts_its_frames_anywhere(self) -> None:
        who = Writer(self.agent.socket_path)
        good = wire.HANDSHAKE_PUSH + wire.frame_message(wire.encode_hello(who.who, 0, 0, {"service": "x"}))
        for cut in list(range(1, len(good))) + [self.random.randrange(1, len(good)) for _ in range(100)]:
            self.peer(good[:cut], keep=False)
        self.a_good_peer_is_heard()

    def test_hundreds_of_idle_ones_hold_no_place(self) -> None:
        """More than there are places, silent from the start, in a header, and after the whole handshake for ever."""
        before = self.fds()
        for data in (b"", hello(), wire.HANDSHAKE_PUSH):
            for _ in range(90):
                self.peer(data)
            self.a_good_peer_is_heard()
        self.assertLess(self.fds(), before + 64 + 16)   # what is opened at the first use is not theirs

    def test_those_that_speak_keep_their_places(self) -> None:
        writers = [Writer(self.agent.socket_path, self.arena.ledger) for _ in range(20)]
        traffic = [Traffic(writer, self.random.getrandbits(30)) for writer in writers]
        for one in traffic:
            one.send(1)
            one.writer.flush(10)
        for _ in range(200):
            self.peer(wire.HANDSHAKE_PUSH)
        for one in traffic:
            one.send(1)
            self.assertTrue(one.writer.pump(2))
            self.assertEqual(one.writer.waiting, 0)
            one.writer.close()
        self.a_good_peer_is_heard()

    def test_a_byte_at_a_time_is_slow_but_not_wrong(self) -> None:
        slow = self.peer()
        end = time.monotonic() + 2
        while time.monotonic() < end:
            slow.send(b"\x00")
            self.a_good_peer_is_heard()
            time.sleep(0.3)
            try:
                slow.settimeout(0.01)
                if slow.recv(64) == b"":
                    break
            except (TimeoutError, ConnectionResetError):
                continue

    def test_never_reads_its_replies(self) -> None:
        """Its replies fill a buffer of their own; whoever reads is answered at once."""
        deaf = Writer(self.agent.socket_path)
        self.assertTrue(deaf.connect())
        deaf._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        deaf._sock.settimeout(0.05)
        body = wire.encode_batch(deaf.who, 0, 0, [], 0, b"")
        end = time.monotonic() + 3
        try:
            while time.monotonic() < end:
                deaf._sock.sendall(wire.frame_message(body) * 50)
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            pass
        before = self.resident_kb()
        self.a_good_peer_is_heard()
        self.assertLess(self.resident_kb(), before + SLACK_KB)
        deaf.close()

    def test_five_thousand_at_once(self) -> None:
        end = time.monotonic() + 1
        made = 0
        while made < 5000 and time.monotonic() < end + 10:
            self.peer(self.random.choice((b"", wire.HANDSHAKE_PUSH, HTTP)), keep=False)
            made += 1
        self.a_good_peer_is_heard()


if __name__ == "__main__":
    unittest.main()
