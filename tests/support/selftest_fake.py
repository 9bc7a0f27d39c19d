"""Shows that msgpack, fake Datadog and the harness do what their texts say."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import sys
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import msgpack, record  # noqa: E402
from support.fake_client import RemoteFake  # noqa: E402
from support.fake_datadog import FakeDatadog  # noqa: E402
from support.harness import Agent, HarnessError, wait_until  # noqa: E402
from support.ledger import Ledger, LedgerError  # noqa: E402
from support.script import Act  # noqa: E402

HEADERS = {"Content-Type": "application/msgpack", "X-Datadog-Trace-Count": "1",
           "Datadog-Meta-Lang": "python", "Datadog-Meta-Lang-Version": "3.11.2",
           "Datadog-Meta-Tracer-Version": "1.0.0"}


def wire_span(number: int = 2, **more: Any) -> Dict[str, Any]:
    span = {"trace_id": 77, "span_id": number, "parent_id": 1, "service": "comfyui",
            "name": "comfyui.sample", "resource": "euler", "start": 10**18, "duration": 5,
            "meta": {"_dd.p.dm": "-1", "_dd.p.tid": "6b033e0b00000000"},
            "metrics": {"_sampling_priority_v1": 1}}
    span.update(more)
    return span


def post(port: int, spans: List[Dict[str, Any]], headers: Optional[Dict[str, str]] = None,
         timeout: float = 3) -> Tuple[int, bytes]:
    conn = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        conn.request("POST", "/v0.4/traces", msgpack.encode([spans]), headers or HEADERS)
        reply = conn.getresponse()
        return reply.status, reply.read()
    finally:
        conn.close()


class Msgpack(unittest.TestCase):
    def test_gives_back_what_was_encoded(self) -> None:
        for value in (None, True, False, 0, 127, 128, 2**64 - 1, -1, -32, -33, -2**63, 1.5, "",
                      "é" * 40, "x" * 70_000, b"", b"z" * 300, [], [1] * 20, [0] * 70_000,
                      {}, {str(i): i for i in range(20)}, {"a": [{"b": {"c": None}}]}):
            self.assertEqual(msgpack.decode(msgpack.encode(value)), (value, 0))

    def test_reads_every_width_of_number(self) -> None:
        for raw, value in ((b"\xcc\xff", 255), (b"\xcd\x01\x00", 256), (b"\xce\0\0\0\1", 1),
                           (b"\xd0\xff", -1), (b"\xd1\xff\xff", -1), (b"\xd2\xff\xff\xff\xff", -1),
                           (b"\xca\x3f\x80\0\0", 1.0), (b"\xdc\0\1\xc0", [None]),
                           (b"\xde\0\1\xa1a\1", {"a": 1})):
            self.assertEqual(msgpack.decode(raw), (value, 0))

    def test_counts_repeated_keys(self) -> None:
        self.assertEqual(msgpack.decode(b"\x82\xa1a\x01\xa1a\x02"), ({"a": 2}, 1))

    def test_refuses_what_is_not_one_document(self) -> None:
        for raw in (b"", b"\xc0\xc0", b"\xc1", b"\xc7\0\1", b"\xd4\1\1", b"\xa2a", b"\xa1\xff",
                    b"\x92\x01", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff",
                    b"\xdb\xff\xff\xff\xff", b"\x81\x01\x01", b"\x91" * 1000, b"\xcb\0"):
            with self.assertRaises(msgpack.MsgpackError):
                msgpack.decode(raw)


class FakeCase(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory(dir="/tmp")
        self.addCleanup(self.folder.cleanup)
        self.unix = Path(self.folder.name) / "apm.sock"
        self.dd = FakeDatadog(unix=self.unix)
        self.addCleanup(self.dd.close)
        assert self.dd.port is not None
        self.port = self.dd.port

    def outcome(self) -> Tuple[str, bool]:
        wait_until(lambda: all(r.outcome != record.PENDING for r in self.dd.requests()), 3)
        last = self.dd.requests()[-1]
        return last.outcome, last.excused


class Accepting(FakeCase):
    def test_answers_rates_and_records_the_spans(self) -> None:
        self.dd.always(Act(rates={"service:x,env:y": 0.5}))
        status, body = post(self.port, [wire_span(2), wire_span(3)])
        self.assertEqual((status, json.loads(body)),
                         (200, {"rate_by_service": {"service:x,env:y": 0.5}}))
        self.assertEqual(self.dd.problems(), [])
        self.assertEqual(self.outcome(), ("answered", False))
        self.assertEqual([s["span_id"] for s in self.dd.spans()], [2, 3])
        self.assertEqual(self.dd.requests()[0].marks[1].key, ((0x6B033E0B00000000 << 64) | 77, 3))

    def test_listens_on_a_unix_socket_and_keeps_connections_open(self) -> None:
        body = msgpack.encode([[wire_span()]])
        head = "PUT /v0.4/traces HTTP/1.1\r\nHost: x\r\n" + "".join(
            f"{k}: {v}\r\n" for k, v in HEADERS.items()) + f"Content-Length: {len(body)}\r\n\r\n"
        with socket.socket(socket.AF_UNIX) as conn:
            conn.settimeout(3)
            conn.connect(str(self.unix))
            for _ in range(2):
                conn.sendall(head.encode() + body)
                self.assertTrue(conn.recv(65536).startswith(b"HTTP/1.1 200 "))
        self.assertEqual((len(self.dd.requests()), self.dd.problems()), (2, []))

    def test_answers_info_and_the_other_paths(self) -> None:
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=3)
        self.addCleanup(conn.close)
        for path, status in (("/info", 200), ("/v0.6/stats", 200), ("/nothing", 404),
                             ("/telemetry/proxy/api/v2/apmtelemetry", 200)):
            conn.request("GET", path)
            reply = conn.getresponse()
            reply.read()
            self.assertEqual(reply.status, status, path)
        self.assertEqual(len(self.dd.requests("/v0.6/stats")), 1)

    def test_names_what_is_wrong_with_a_request(self) -> None:
        cases = {
            "X-Datadog-Trace-Count": ([wire_span()], {**HEADERS, "X-Datadog-Trace-Count": "2"}),
            "Content-Type": ([wire_span()], {**HEADERS, "Content-Type": "text/plain"}),
            "datadog-meta-lang is missing": ([wire_span()], {"Content-Type": "x"}),
            "_sampling_priority_v1": ([wire_span(metrics={})], HEADERS),
            "_dd.p.dm": ([wire_span(meta={})], HEADERS),
            "_dd.p.tid": ([wire_span(meta={"_dd.p.dm": "-1", "_dd.p.tid": "ABC"})], HEADERS),
            "several traces": ([wire_span(), wire_span(3, trace_id=78)], HEADERS),
            "span id twice": ([wire_span(), wire_span()], HEADERS),
            "name has 101": ([wire_span(name="n" * 101)], HEADERS),
            "unknown fields": ([wire_span(extra=1)], HEADERS),
        }
        for text, (spans, headers) in cases.items():
            before = len(self.dd.problems())
            self.assertEqual(post(self.port, spans, headers)[0], 200, text)
            self.assertIn(text, "\n".join(self.dd.problems()[before:]))

    def test_complains_about_repeated_keys(self) -> None:
        once = msgpack.encode({**wire_span(), "error": 0})
        body = b"\x91\x91" + bytes([once[0] + 1]) + once[1:] + msgpack.encode("error") + b"\0"
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=3)
        self.addCleanup(conn.close)
        conn.request("POST", "/v0.4/traces", body, HEADERS)
        self.assertEqual(conn.getresponse().status, 200)
        self.assertEqual(self.dd.problems(), ["request 1: 1 map keys are repeated"])

    def test_other_paths_do_not_use_up_the_script(self) -> None:
        self.dd.script(Act(status=503))
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=3)
        self.addCleanup(conn.close)
        conn.request("GET", "/info")
        self.assertEqual(conn.getresponse().status, 200)
        self.assertEqual((self.dd.script_left(), post(self.port, [wire_span()])[0]), (1, 503))

    def test_refuses_what_an_agent_cannot_decode(self) -> None:
        for change in ({"trace_id": 0}, {"span_id": "x"}, {"meta": {"a": 1}}, {"error": 2},
                       {"metrics": {"a": "1"}}, {"duration": -1}, {"meta": None}):
            self.assertEqual(post(self.port, [wire_span(**change)])[0], 400, change)
            self.assertEqual(self.outcome(), ("refused", False))
        self.assertEqual(self.dd.spans(), [])


class Failing(FakeCase):
    def test_follows_the_queue_then_the_default(self) -> None:
        self.dd.script(Act(status=503, times=2), Act(status=429, retry_after="7"))
        self.assertEqual([post(self.port, [wire_span()])[0] for _ in range(4)],
                         [503, 503, 429, 200])
        self.assertEqual(self.outcome(), ("answered", False))
        self.assertEqual([r.outcome for r in self.dd.requests()], ["refused"] * 3 + ["answered"])
        self.dd.always(Act(status=401))
        self.assertEqual([post(self.port, [wire_span()])[0] for _ in range(2)], [401, 401])

    def test_refuses_bodies_above_a_size(self) -> None:
        self.dd.always(Act(max_body=300))
        self.assertEqual(post(self.port, [wire_span()])[0], 200)
        self.assertEqual(post(self.port, [wire_span(2), wire_span(3)])[0], 413)

    def test_loses_replies_in_every_way(self) -> None:
        for mode in ("close_after_read", "reset_after_read", "close_mid_reply", "truncated",
                     "garbage", "bad_chunked", "hang"):
            self.dd.script(Act(mode=mode))
            with self.assertRaises((OSError, http.client.HTTPException), msg=mode):
                post(self.port, [wire_span()], timeout=0.5)
            self.assertEqual(self.outcome(), ("lost", True), mode)
        self.assertEqual(len(self.dd.spans()), 7)

    def test_reset_is_a_reset_and_close_is_an_end(self) -> None:
        for mode, ending in (("close_after_read", "end"), ("reset_after_read", "reset"),
                             ("reset_accept", "reset")):
            self.dd.script(Act(mode=mode))
            try:  # a connection that is reset at once may not even come about
                with socket.create_connection(("127.0.0.1", self.port), timeout=3) as conn:
                    conn.sendall(b"POST /v0.4/traces HTTP/1.1\r\nContent-Length: 1\r\n\r\n\x90")
                    found = "end" if conn.recv(1) == b"" else "data"
            except ConnectionError:
                found = "reset"
            self.assertEqual(found, ending, mode)

    def test_asks_for_a_large_body_that_waits_for_the_word(self) -> None:
        body = msgpack.encode([[wire_span()]])
        head = "POST /v0.4/traces HTTP/1.1\r\nExpect: 100-continue\r\n" + "".join(
            f"{k}: {v}\r\n" for k, v in HEADERS.items()) + f"Content-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.port), timeout=3) as conn:
            conn.sendall(head.encode())
            self.assertEqual(conn.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
            conn.sendall(body)
            self.assertTrue(conn.recv(65536).startswith(b"HTTP/1.1 200 "))

    def test_reads_a_chunked_body_and_complains(self) -> None:
        body = msgpack.encode([[wire_span()]])
        conn = http.client.HTTPConnection("127.0.0.1", self.port, timeout=3)
        self.addCleanup(conn.close)
        conn.request("POST", "/v0.4/traces", iter([body[:50], body[50:]]), HEADERS,
                     encode_chunked=True)
        self.assertEqual(conn.getresponse().status, 200)
        self.assertIn("Content-Length is missing", self.dd.problems()[0])

    def test_answers_empty_huge_and_portal(self) -> None:
        self.dd.script(Act(mode="empty"), Act(mode="huge", reply_bytes=200_000),
                       Act(mode="portal"))
        self.assertEqual(post(self.port, [wire_span()]), (200, b""))
        self.assertEqual(self.outcome(), ("lost", True))
        self.assertEqual(len(post(self.port, [wire_span()])[1]), 200_000)
        self.assertIn(b"<html>", post(self.port, [wire_span()])[1])
        self.assertEqual(self.outcome(), ("refused", False))

    def test_an_error_with_an_odd_body_is_refused_all_the_same(self) -> None:
        self.dd.script(Act(status=500, mode="huge", reply_bytes=1000), Act(status=204))
        self.assertEqual(post(self.port, [wire_span()])[0], 500)
        self.assertEqual(self.outcome(), ("refused", True))
        self.assertEqual(post(self.port, [wire_span()]), (204, b""))
        self.assertEqual(self.outcome(), ("answered", False))

    def test_fails_connections_without_reading_anything(self) -> None:
        for mode in ("reset_accept", "close_accept", "hang_accept", "close_before_read"):
            self.dd.script(Act(mode=mode))
            with self.assertRaises((OSError, http.client.HTTPException), msg=mode):
                post(self.port, [wire_span()], timeout=0.3)
        self.assertEqual((self.dd.requests(), self.dd.script_left()), ([], 0))

    def test_a_peer_that_did_not_wait_makes_the_outcome_lost(self) -> None:
        self.dd.script(Act(delay_s=1.2))
        with self.assertRaises(OSError):
            post(self.port, [wire_span()], timeout=0.2)
        self.assertEqual(self.outcome(), ("lost", True))

    def test_refuses_connections_and_comes_back_on_the_same_port(self) -> None:
        self.dd.refuse()
        with self.assertRaises(ConnectionRefusedError):
            post(self.port, [wire_span()])
        self.assertFalse(self.unix.exists())
        self.dd.reopen()
        self.assertEqual(post(self.port, [wire_span()])[0], 200)

    def test_reads_slowly(self) -> None:
        self.dd.script(Act(mode="slow_read", read_bps=1000))
        began = time.monotonic()
        self.assertEqual(post(self.port, [wire_span()])[0], 200)
        self.assertGreater(time.monotonic() - began, 0.1)


class Remote(unittest.TestCase):
    def test_keeps_its_record_over_a_crash(self) -> None:
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            path = Path(folder) / "record"
            with RemoteFake(record=path) as dd:
                port = dd.port
                self.assertEqual(post(port, [wire_span(2)])[0], 200)
                dd.script(Act(mode="hang"))
                with self.assertRaises(OSError):
                    post(port, [wire_span(3)], timeout=0.3)
                dd.kill()
                outcomes = [r.outcome for r in record.load(path)]
                self.assertEqual(outcomes, ["answered", "lost"])
                with open(path, "ab") as file:
                    file.write(b'{"n":3,"t')
                dd.start()
                self.assertEqual(dd.port, port)
                self.assertEqual(post(port, [wire_span(4)])[0], 200)
                dd.always(Act(status=500))
                self.assertEqual(post(port, [wire_span(5)])[0], 500)
                self.assertEqual(dd.problems(), [])
                self.assertEqual([r.number for r in dd.requests()], [1, 2, 3, 4])
                self.assertEqual(dd.requests()[3].marks, record.load(path)[3].marks)
                self.check_against_a_ledger(dd.requests())

    def check_against_a_ledger(self, requests: List[record.Request]) -> None:
        trace = (0x6B033E0B00000000 << 64) | 77
        wrote = [dict(wire_span(number), trace_id=trace) for number in (2, 3, 4)]
        ledger = Ledger()
        ledger.issue(wrote)
        ledger.ack(wrote)
        ledger.check(requests)
        ledger.ack([(trace, 5)])
        with self.assertRaises(LedgerError):
            ledger.check(requests)


STAND_IN = """#!%s -S
import os, signal, socket, sys
if sys.argv[1] == "status":
    print('{"signals":{"trace":{"received":3,"queued":0,"in_flight":0}}}')
    sys.exit(0)
print("started", sorted(k for k in os.environ if k.startswith(("DD_", "SECRET"))), flush=True)
if os.environ.get("DIE"):
    sys.exit("cannot start")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
socks = [socket.socket(socket.AF_UNIX) for _ in range(2)]
for sock, name in zip(socks, ("comfymon.sock", "control.sock")):
    path = os.environ["COMFYMON_RUN_DIR"] + "/" + name
    if os.path.exists(path):
        os.unlink(path)
    sock.bind(path)
    sock.listen(8)
while True:
    signal.pause()
"""


class Harness(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(dir="/tmp")
        self.addCleanup(folder.cleanup)
        program = Path(folder.name) / "comfymon"
        program.write_text(STAND_IN % sys.executable)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        saved = os.environ.get("COMFYMON_BIN")
        os.environ.update(COMFYMON_BIN=str(program), SECRET="x", DD_ENV="leak")
        self.addCleanup(os.environ.pop, "SECRET")
        self.addCleanup(os.environ.pop, "DD_ENV")
        if saved is None:
            self.addCleanup(os.environ.pop, "COMFYMON_BIN")
        else:
            self.addCleanup(os.environ.__setitem__, "COMFYMON_BIN", saved)

    def test_starts_asks_kills_restarts_and_stops(self) -> None:
        ledger = Ledger()
        with Agent("http://127.0.0.1:1") as agent:
            self.assertEqual(agent.drain(5, received=3)["signals"]["trace"]["received"], 3)
            agent.kill9(ledger)
            self.assertEqual((agent.returncode, len(ledger.kills)), (-9, 1))
            agent.start()
            self.assertEqual(agent.stop(), 0)
            self.assertEqual(agent.log().count("started ['DD_TRACE_AGENT_URL']"), 2)
            base = agent.dirs.base
        self.assertFalse(base.exists())

    def test_an_agent_that_does_not_start_shows_its_log(self) -> None:
        agent = Agent(env={"DIE": "1"})
        self.addCleanup(agent.close)
        with self.assertRaisesRegex(HarnessError, "(?s)exited with 1.*cannot start"):
            agent.start()

    def test_waits_are_bounded(self) -> None:
        with self.assertRaisesRegex(HarnessError, "waited 0.1 s for: pigs"):
            wait_until(lambda: False, 0.1, "pigs")
        with Agent() as agent:
            with self.assertRaisesRegex(HarnessError, "nothing queued.*received"):
                agent.drain(0.3, received=4)


if __name__ == "__main__":
    unittest.main()
