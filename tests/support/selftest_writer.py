"""Shows that the Python probe speaks the formats of schema/ and resumes as a probe must."""

from __future__ import annotations

import ctypes
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import wire  # noqa: E402
from support.content import span_key  # noqa: E402
from support.harness import ROOT, wait_until  # noqa: E402
from support.ledger import Ledger  # noqa: E402
from support.writer import Writer, WriterError, own_identity  # noqa: E402


def make_span(number: int, **more: Any) -> Dict[str, Any]:
    span = {"trace_id": (5 << 64) | 7, "span_id": number, "parent_id": 0, "service": "s",
            "name": "comfyui.sample", "resource": "é", "start": 4 * 10**18, "duration": 4,
            "meta": {"a": "text", "empty": ""}, "metrics": {"i": 3, "f": 1.5, "big": 2.0**40}}
    span.update(more)
    return span


class AgainstTheCodec(unittest.TestCase):
    """The C decoders of schema/ accept what wire.py writes, and the other way round."""

    library: Any = None

    @classmethod
    def setUpClass(cls) -> None:
        compiler = shutil.which("cc")
        if not compiler:
            raise unittest.SkipTest("no C compiler")
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        target = Path(folder.name) / "schema.so"
        sources = [str(path) for path in sorted((ROOT / "schema").glob("*.c"))]
        subprocess.run([compiler, "-std=gnu11", "-O1", "-shared", "-fPIC", f"-I{ROOT}", "-o",
                        str(target), *sources, "-lm"], check=True, timeout=60)
        cls.library = ctypes.CDLL(str(target))

    def decode(self, function: str, frame: bytes) -> None:
        out = ctypes.create_string_buffer(512)
        error = (ctypes.c_void_p * 2)()
        if getattr(self.library, function)(frame, ctypes.c_size_t(len(frame)), out, error):
            self.fail(f"{function}: {ctypes.string_at(error[0]).decode()} at {error[1]}")

    def test_crc32c_has_its_known_value(self) -> None:
        self.assertEqual(wire.crc32c(b"123456789"), 0xE3069283)

    def test_hello_and_batch_are_accepted(self) -> None:
        who = own_identity()
        self.decode("wire_hello_get", wire.encode_hello(who, 1, 2, {"service": "x", "env": ""}))
        strings, used, records, at = wire.Strings(), set(), [], 800
        for number in range(1, 20):
            kind = wire.OPEN if number == 1 else wire.SPAN
            record = wire.encode_span(make_span(number, error=number % 2), kind, at, 0, strings,
                                      used)
            records.append(record)
            at += len(record)
        batch = wire.encode_batch(who, 800, at, records, 18, strings.dictionary(used))
        self.decode("wire_batch_check", batch)
        with self.assertRaisesRegex(AssertionError, "crc32c differs"):
            self.decode("wire_batch_check", batch[:-9] + b"\xff" + batch[-8:])

    def test_stored_is_understood(self) -> None:
        frame = ctypes.create_string_buffer(40)
        given = b"p" * 16 + struct.pack("<QH", 4096, wire.WANTED) + bytes(6)
        self.library.wire_stored_put(frame, given)
        self.assertEqual(wire.decode_stored(frame.raw), wire.Stored(b"p" * 16, 4096, wire.WANTED))
        for broken in (frame.raw[:-1], b"X" + frame.raw[1:], frame.raw[:-1] + b"\1"):
            with self.assertRaises(ValueError):
                wire.decode_stored(broken)


def stored_frame(probe_id: bytes, end: int, status: int) -> bytes:
    frame = b"CMS1" + struct.pack("<HH", 1, status) + probe_id + struct.pack("<QII", end, 0, 0)
    return wire.frame_message(wire.sealed(frame, 32))


class StandInCollector:
    """Takes batches in order; `answer` may replace its reply to a batch, None ends it."""

    def __init__(self, path: Path) -> None:
        self.end = 0
        self.taken: List[bytes] = []
        self.answer: Optional[Callable[[int, int], Optional[int]]] = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(4)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            with conn, conn.makefile("rb") as stream:
                stream.read(8)
                conn.sendall(wire.HANDSHAKE_PULL)
                while self._message(conn, stream):
                    pass

    def _message(self, conn: socket.socket, stream: Any) -> bool:
        head = stream.read(9)
        if len(head) < 9:
            return False
        body = stream.read(int.from_bytes(head[1:], "big"))
        status: Optional[int] = wire.OK
        if body[:4] == b"CMB1":
            first, end = struct.unpack_from("<QQ", body, 40)
            status = wire.OK if first == self.end else wire.WANTED
            if self.answer:
                status = self.answer(first, end)
            if status is None:
                return False
            if status != wire.WANTED:
                self.end = end
                self.taken.append(body)
        conn.sendall(stored_frame(body[8:24], self.end, status or wire.OK))
        return True


class Sending(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(dir="/tmp")
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "s"
        self.collector = StandInCollector(path)
        self.ledger = Ledger()
        self.writer = Writer(path, self.ledger, {"service": "x"})
        self.addCleanup(self.collector.close)
        self.addCleanup(self.writer.close)

    def test_acks_what_was_stored(self) -> None:
        self.writer.open([make_span(1)])
        self.writer.finish([make_span(2), make_span(3)])
        self.assertEqual((len(self.ledger.issued), len(self.ledger.acked)), (2, 0))
        self.writer.flush(5)
        self.assertEqual(len(self.ledger.acked), 3)
        self.writer.finish([make_span(4)])
        self.writer.flush(5)
        self.assertEqual((len(self.collector.taken), self.writer.waiting), (3, 0))
        self.assertEqual(self.writer.head, self.collector.end)

    def test_resumes_at_the_position_that_the_collector_names(self) -> None:
        lost = [True, True]

        def answer(first: int, _: int) -> Optional[int]:
            if first and lost:
                lost.pop()
                return None
            return wire.OK if first == self.collector.end else wire.WANTED

        self.collector.answer = answer
        for number in range(1, 6):
            self.writer.finish([make_span(number)])
        self.writer.flush(5)
        self.assertEqual((lost, len(self.collector.taken)), ([], 5))
        self.assertEqual(len(self.ledger.acked), 5)

    def test_sends_again_when_another_position_is_wanted(self) -> None:
        self.writer.finish([make_span(1)])
        self.writer.flush(5)
        self.writer.finish([make_span(2)])
        self.writer.flush(5)
        refusals = [wire.WANTED]
        self.collector.answer = lambda _, __: refusals.pop() if refusals else wire.OK
        self.writer.finish([make_span(3)])
        self.writer.flush(5)
        self.assertEqual((refusals, len(self.collector.taken)), ([], 3))

    def test_a_batch_called_malformed_is_not_acked(self) -> None:
        self.collector.answer = lambda _, __: wire.MALFORMED
        self.writer.finish([make_span(1)])
        self.writer.flush(5)
        self.assertEqual((len(self.writer.refused), self.ledger.acked), (1, set()))

    def test_splits_large_hand_overs_into_batches(self) -> None:
        text = "x" * 10_000
        self.writer.finish([make_span(n, meta={"t": text}) for n in range(1, 60)])
        self.writer.flush(10)
        self.assertGreater(len(self.collector.taken), 2)
        self.assertLess(max(len(body) for body in self.collector.taken), wire.FRAME_MAX)
        self.assertIn(span_key(make_span(59)), self.ledger.acked)

    def test_says_when_nothing_is_confirmed(self) -> None:
        self.collector.answer = lambda _, __: None
        self.writer.finish([make_span(1)])
        with self.assertRaisesRegex(WriterError, "1 batches unconfirmed"):
            self.writer.flush(0.3)
        wait_until(lambda: self.writer.waiting == 1, 1)


if __name__ == "__main__":
    unittest.main()
