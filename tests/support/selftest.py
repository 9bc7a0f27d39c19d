"""Shows that the oracle works: above all, that it fails when it must.

Run as a script; runs selftest_fake.py and selftest_writer.py as well.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.content import LOOSE, STRICT, Span, mark, span_key  # noqa: E402
from support.ledger import Ledger, LedgerError, Report  # noqa: E402
from support.record import ANSWERED, LOST, REFUSED, Request  # noqa: E402

TRACE = (0x6B033E0B00000000 << 64) | 77
SECOND = 1_000_000_000


def make_span(number: int) -> Span:
    return {"trace_id": TRACE, "span_id": number, "parent_id": 1, "service": "comfyui",
            "name": "comfyui.node.execute", "resource": "KSampler", "type": "worker",
            "start": 1_700_000_000_000_000_000 + number, "duration": 1000 + number,
            "meta": {"node.id": str(number)}, "metrics": {"node.calls": 1}}


def as_received(span: Span) -> Span:
    """The span as a collector sends it on: tags of its own added, the id in two halves."""
    result = copy.deepcopy(span)
    result["tid"] = f"{span['trace_id'] >> 64:016x}"
    result["trace_id"] = span["trace_id"] & (2**64 - 1)
    result["meta"].update({"_dd.p.dm": "-1", "env": "production", "runtime-id": "x"})
    result["metrics"]["_sampling_priority_v1"] = 1
    return result


def request(number: int, spans: List[Span], outcome: str = ANSWERED, at_s: float = 0,
            excused: bool = False, priority: int = 1) -> Request:
    received = [as_received(span) for span in spans]
    marks = [mark(span, priority) for span in received]
    time_ns = int((100 + number + at_s) * SECOND)
    return Request(number, time_ns, "/v0.4/traces", 1, "", {}, marks, received, b"", outcome, 200,
                   excused, time_ns)


def make_status(**counters: Any) -> Dict[str, Any]:
    trace: Dict[str, Any] = {"received": 0, "sent": 0, "sampled_out": 0, "queued": 0,
                             "in_flight": 0, "dropped": {}, "rejected": {}, "identity": True}
    trace.update(counters)
    return {"signals": {"trace": trace}}


class LedgerCase(unittest.TestCase):
    def setUp(self) -> None:
        self.spans = [make_span(number) for number in range(1, 31)]
        self.ledger = Ledger()
        self.ledger.issue(self.spans)
        self.ledger.ack(self.spans)

    def fails(self, kind: str, requests: List[Request], status: Optional[Dict[str, Any]] = None,
              **options: Any) -> str:
        with self.assertRaises(LedgerError) as caught:
            self.ledger.check(requests, status, **options)
        self.assertIn(f"  {kind}: ", str(caught.exception))
        return str(caught.exception)


class TheSets(LedgerCase):
    def test_holds_when_all_arrived_once(self) -> None:
        status = make_status(received=30, sent=30)
        report = self.ledger.check([request(1, self.spans[:9]), request(2, self.spans[9:])],
                                   status)
        self.assertEqual((report.counts["delivered"], report.counts["repeated"]), (30, 0))

    def test_fails_for_a_missing_span(self) -> None:
        text = self.fails("acked but never delivered", [request(1, self.spans[:-1])])
        self.assertIn("000000000000001e comfyui.node.execute", text)

    def test_fails_for_a_span_that_was_only_refused(self) -> None:
        self.fails("acked but never delivered", [
            request(1, self.spans[:-1]), request(2, self.spans[-1:], REFUSED)])

    def test_fails_for_an_invented_span(self) -> None:
        self.fails("delivered but never issued", [request(1, self.spans + [make_span(99)])])

    def test_fails_for_a_span_of_another_trace(self) -> None:
        other = dict(self.spans[0], trace_id=TRACE + 1)
        self.fails("delivered but never issued", [request(1, [other] + self.spans[1:])])

    def test_fails_for_an_acknowledgement_of_something_never_issued(self) -> None:
        self.ledger.ack([(TRACE, 1234)])
        self.fails("acked but never issued", [request(1, self.spans)])

    def test_shows_the_first_twenty_and_says_how_many_more(self) -> None:
        text = self.fails("acked but never delivered", [])
        self.assertEqual(text.count("comfyui.node.execute"), 20)
        self.assertIn("... and 10 more", text)

    def test_an_issued_span_without_acknowledgement_may_be_missing(self) -> None:
        self.ledger.issue([make_span(50)])
        self.ledger.check([request(1, self.spans)])


class TheContents(LedgerCase):
    def altered(self, change: Callable[[Span], None]) -> str:
        spans = copy.deepcopy(self.spans)
        change(spans[4])
        return self.fails("content differs", [request(1, spans)])

    def test_fails_for_each_kind_of_altered_span(self) -> None:
        changes: List[Callable[[Span], None]] = [
            lambda span: span.update(duration=5),
            lambda span: span.update(start=5),
            lambda span: span.update(parent_id=5),
            lambda span: span.update(resource="Other"),
            lambda span: span.update(service="other"),
            lambda span: span.update(error=1),
            lambda span: span["meta"].update({"node.id": "other"}),
            lambda span: span["meta"].pop("node.id"),
            lambda span: span["meta"].update({"more": "tags"}),
            lambda span: span["metrics"].update({"node.calls": 2}),
        ]
        for change in changes:
            self.altered(change)

    def test_says_what_differs(self) -> None:
        text = self.altered(lambda span: span.update(duration=5))
        self.assertIn("duration: 1005 became 5", text)

    def test_loose_rules_ignore_times_and_service_only(self) -> None:
        span, other = self.spans[0], dict(self.spans[0], start=1, duration=2, service="x")
        self.assertEqual(mark(span, 1, LOOSE), mark(other, 1, LOOSE))
        self.assertNotEqual(mark(span, 1, LOOSE), mark(dict(other, name="x"), 1, LOOSE))
        self.assertNotEqual(mark(span, 1, STRICT), mark(other, 1, STRICT))


class TheUnfinished(LedgerCase):
    def unfinished(self, span: Span) -> Span:
        return dict(span, duration=1, error=1, meta={"comfymon.unfinished": "true"})

    def test_an_open_span_is_delivered_as_unfinished(self) -> None:
        span = make_span(40)
        self.ledger.issue_open([span])
        self.ledger.ack([span])
        self.ledger.check([request(1, self.spans + [self.unfinished(span)])])
        self.fails("acked but never delivered", [request(1, self.spans)])

    def test_an_unfinished_span_keeps_its_identity(self) -> None:
        span = make_span(40)
        self.ledger.issue_open([span])
        wrong = dict(self.unfinished(span), resource="Other")
        self.fails("content differs", [request(1, self.spans + [wrong])])

    def test_fails_for_a_finished_span_delivered_as_unfinished(self) -> None:
        spans = [self.unfinished(self.spans[0])] + self.spans[1:]
        self.fails("finished and acked, delivered as unfinished", [request(1, spans)])

    def test_fails_for_an_open_span_delivered_as_finished(self) -> None:
        self.ledger.issue_open([make_span(40)])
        self.fails("only opened, delivered as finished",
                   [request(1, self.spans + [make_span(40)])])

    def test_fails_for_both_forms_of_one_span(self) -> None:
        span = make_span(40)
        self.ledger.issue([span])
        self.fails("delivered more than once", [
            request(1, self.spans + [span]), request(2, [self.unfinished(span)])])


class TheRepeats(LedgerCase):
    def kill_at(self, second: float) -> None:
        at = int(second * SECOND)
        self.ledger.kills.append((at, at + 1000))

    def test_fails_for_a_duplicated_span(self) -> None:
        self.fails("delivered more than once",
                   [request(1, self.spans), request(2, self.spans[:1])])

    def test_fails_for_a_span_twice_in_one_request(self) -> None:
        self.kill_at(101)
        self.fails("delivered more than once", [request(1, self.spans + self.spans[:1])])

    def test_a_reply_lost_by_the_script_excuses_a_repeat(self) -> None:
        self.ledger.check([request(1, self.spans, LOST, excused=True), request(2, self.spans)])

    def test_a_reply_lost_excuses_one_repeat_and_not_two(self) -> None:
        self.fails("delivered more than once", [
            request(1, self.spans, LOST, excused=True), request(2, self.spans),
            request(3, self.spans)])

    def test_a_refused_request_is_no_delivery(self) -> None:
        self.ledger.check([request(1, self.spans, REFUSED), request(2, self.spans)])

    def test_a_kill_excuses_the_request_in_flight(self) -> None:
        self.kill_at(101.5)
        self.ledger.check([request(1, self.spans), request(2, self.spans)])

    def test_a_kill_excuses_one_request_only(self) -> None:
        self.kill_at(101.5)
        self.fails("delivered more than once", [
            request(1, self.spans[:15], at_s=0.4), request(2, self.spans[15:], at_s=-0.6),
            request(3, self.spans)])

    def test_one_kill_excuses_one_of_three_requests(self) -> None:
        self.kill_at(103.5)
        text = self.fails("delivered more than once", [
            request(1, self.spans[:10], at_s=2), request(2, self.spans[10:20], at_s=1),
            request(3, self.spans[20:]), request(4, self.spans)])
        self.assertIn("delivered more than once: 20", text)

    def test_a_kill_excuses_no_request_of_later_times(self) -> None:
        self.kill_at(90)
        self.fails("delivered more than once", [request(1, self.spans), request(2, self.spans)])

    def test_two_kills_excuse_two_requests(self) -> None:
        self.kill_at(101.5)
        self.kill_at(102.5)
        self.ledger.check([request(1, self.spans), request(2, self.spans),
                           request(3, self.spans)])

    def test_a_kill_excuses_no_request_answered_long_before(self) -> None:
        self.kill_at(110)
        self.fails("delivered more than once",
                   [request(1, self.spans), request(20, self.spans)])

    def test_a_later_kill_excuses_no_earlier_repeat(self) -> None:
        self.kill_at(103)
        self.fails("delivered more than once",
                   [request(1, self.spans), request(2, self.spans, at_s=-0.5)])


class TheCounters(LedgerCase):
    def counters(self, delivered: int, **counters: Any) -> Report:
        return self.ledger.verify([request(1, self.spans[:delivered])], make_status(**counters),
                                  allow_loss=delivered < 30)

    def test_fail_when_off_by_one(self) -> None:
        wrong = {
            "is not the sum": {"received": 31, "sent": 30},
            "sent 29": {"received": 30, "sent": 29, "sampled_out": 1},
            "sent 31": {"received": 31, "sent": 31},
            "received 31": {"received": 31, "sent": 30, "sampled_out": 1},
            "received 29": {"received": 29, "sent": 29},
            "1 spans dropped": {"received": 31, "sent": 30, "dropped": {"too_old": 1}},
            "1 spans dropped or rejected": {"received": 31, "sent": 30, "rejected": {"400": 1}},
            "not drained: queued 1": {"received": 31, "sent": 30, "queued": 1},
            "in_flight 1": {"received": 31, "sent": 30, "in_flight": 1},
            "identity False": {"received": 30, "sent": 30, "identity": False},
            "queued is -1": {"received": 30, "sent": 31, "queued": -1},
            "dropped is None": {"received": 30, "sent": 30, "dropped": None},
            "sent is 30.0": {"received": 30, "sent": 30.0},
        }
        for text, counters in wrong.items():
            with self.subTest(counters):
                found = self.counters(30, **counters).violations["counters"]
                self.assertIn(text, " ".join(found))

    def test_explain_every_missing_span(self) -> None:
        self.assertTrue(self.counters(28, received=30, sent=28, dropped={"too_old": 2}).ok)
        self.assertTrue(self.counters(28, received=30, sent=28, dropped={"too_old": 1},
                                      rejected={"400": 1}).ok)
        self.assertFalse(self.counters(28, received=30, sent=29, dropped={"too_old": 1}).ok)
        self.assertFalse(self.counters(28, received=29, sent=28, dropped={"too_old": 1}).ok)

    def test_a_loss_fails_unless_it_is_allowed(self) -> None:
        status = make_status(received=30, sent=28, dropped={"store_full": 2})
        self.fails("counters", [request(1, self.spans[:28])], status)

    def test_forwarded_rejected_traces_are_sampled_out_not_sent(self) -> None:
        requests = [request(1, self.spans[:20]), request(2, self.spans[20:], priority=-1)]
        self.ledger.check(requests, make_status(received=30, sent=20, sampled_out=10))
        text = self.fails("counters", requests, make_status(received=30, sent=30))
        self.assertIn("sampled_out 0", text)


class TheFile(unittest.TestCase):
    def test_survives_the_death_of_the_writer(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ledger"
            code = ("import sys, os; sys.path[:0] = sys.argv[2:]\n"
                    "from pathlib import Path\n"
                    "from support.ledger import Ledger\n"
                    "from support.selftest import make_span\n"
                    "ledger = Ledger(Path(sys.argv[1]))\n"
                    "ledger.issue([make_span(1), make_span(2)])\n"
                    "ledger.issue_open([make_span(3)])\n"
                    "ledger.ack([make_span(1)])\n"
                    "os.kill(os.getpid(), 9)\n")
            tests = str(Path(__file__).resolve().parents[1])
            done = subprocess.run([sys.executable, "-c", code, str(path), tests], check=False,
                                  timeout=20)
            self.assertEqual(done.returncode, -9)
            with open(path, "ab") as file:
                file.write(b'{"k":"acked","keys":["torn')
            ledger = Ledger(path)
            self.assertEqual(len(ledger.issued), 2)
            self.assertEqual(len(ledger.opened), 3)
            self.assertEqual(ledger.acked, {span_key(make_span(1))})
            with ledger.kill():
                time.sleep(0.001)
            ledger.close()
            again = Ledger(path)
            self.addCleanup(again.close)
            self.assertEqual(len(again.kills), 1)

    def test_takes_lines_that_a_foreign_writer_appends(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ledger"
            ledger = Ledger(path)
            span = dict(make_span(7), trace_id=f"{TRACE:032x}", span_id=f"{7:016x}")
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"k": "issued", "spans": [span]}) + "\n")
                file.write(json.dumps({"k": "acked", "keys": [f"{TRACE:032x}/{7:016x}"]}) + "\n")
            ledger.reload()
            ledger.check([request(1, [make_span(7)])])
            ledger.close()


def load_tests(loader: unittest.TestLoader, tests: unittest.TestSuite,
               _: Optional[str]) -> unittest.TestSuite:
    from support import selftest_fake, selftest_writer
    tests.addTests(loader.loadTestsFromModule(selftest_fake))
    tests.addTests(loader.loadTestsFromModule(selftest_writer))
    return tests


if __name__ == "__main__":
    os.environ.pop("COMFYMON_BIN", None)
    unittest.main()
