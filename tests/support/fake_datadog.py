"""A scripted fake Datadog agent for tests.

In the test's own process:

    with FakeDatadog() as dd:                       # loopback TCP; unix=PATH adds a Unix socket
        agent_env["DD_TRACE_AGENT_URL"] = dd.url
        dd.script(Act(status=503, times=3), Act(mode="reset_after_read"))
        dd.always(Act(status=429, retry_after="2"))
        dd.refuse(); dd.reopen()                    # connection refused, then back
        wait_until(lambda: len(dd.spans()) == 21, 10)
        self.assertEqual(dd.problems(), [])

As a process of its own (see fake_client.RemoteFake, which has the same methods):

    python3 tests/support/fake_datadog.py --port 0 --unix PATH --record FILE [--compact]

prints its port on the first line and its control port on the second. `record` keeps every
request in a synced JSONL file (record.load reads it), so the oracle survives a crash.
Behaviours are listed in script.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.content import LOOSE, STRICT, Rules, Span  # noqa: E402
from support.http_server import HttpServer  # noqa: E402
from support.payload import info_document, read_payload  # noqa: E402
from support.record import Recorder, Request, request_to_json  # noqa: E402
from support.script import Act, Script  # noqa: E402

TRACES = "/v0.4/traces"
DEFAULT_RATES = {"service:,env:": 1.0}
PORTAL = "<html><head><title>Sign in</title></head><body>Hotel network</body></html>"
RECORDED = ("/v0.6/stats", "/telemetry/proxy/", "/profiling/v1/input", "/evp_proxy/",
            "/dogstatsd/", "/tracer_flare/v1", "/v0.7/config")


class FakeDatadog:
    """See the module's text. Every method may be called from any thread."""

    def __init__(self, port: Optional[int] = 0, unix: Optional[Path] = None,
                 record: Optional[Path] = None, rules: Rules = STRICT,
                 compact: bool = False, host: str = "127.0.0.1") -> None:
        self.rules = rules
        self._script = Script()
        self._recorder = Recorder(record, compact)
        self._problems: List[str] = []
        self._info = json.dumps(info_document()).encode()
        self._state = hashlib.sha256(self._info).hexdigest()
        self._server = HttpServer(self, port, unix)
        self._server.host = host
        self._server.open()

    def __enter__(self) -> "FakeDatadog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._server.close()
        self._recorder.close()

    @property
    def port(self) -> Optional[int]:
        return self._server.port

    @property
    def url(self) -> str:
        return f"http://{self._server.host}:{self._server.port}"

    @property
    def unix_url(self) -> str:
        return f"unix://{self._server.unix}"

    @property
    def connections(self) -> int:
        """Connections accepted so far."""
        return self._server.accepted

    def script(self, *acts: Act) -> None:
        """Queue behaviours for the next trace requests."""
        self._script.queue(*acts)

    def always(self, act: Act) -> None:
        """Drop the queue; behave like this until changed."""
        self._script.always(act)

    def clear(self) -> None:
        """Accept everything again."""
        self._script.clear()

    def script_left(self) -> int:
        return self._script.left()

    def refuse(self) -> None:
        """Close the listeners and all connections: connects are refused."""
        self._server.close()

    def reopen(self) -> None:
        """Listen again on the same port and path."""
        self._server.open()

    def requests(self, path: str = TRACES) -> List[Request]:
        """Every request received in full on this path, in order of arrival."""
        return self._recorder.requests(path)

    def spans(self, delivered: bool = True) -> List[Span]:
        """Spans received: those delivered (2xx or reply lost), or all. Empty when compact."""
        chosen = [r for r in self.requests() if r.delivered or not delivered]
        return [span for request in chosen for span in request.spans]

    def problems(self) -> List[str]:
        """Everything a strict receiver would complain about, each with its request's number."""
        return list(self._problems)

    def summary(self) -> Dict[str, Any]:
        requests = self.requests()
        outcomes: Dict[str, int] = {}
        for request in requests:
            outcomes[request.outcome] = outcomes.get(request.outcome, 0) + 1
        return {"requests": len(requests), "outcomes": outcomes, "connections": self.connections,
                "marks": sum(len(r.marks) for r in requests if r.delivered),
                "script_left": self.script_left(), "problems": len(self._problems)}

    # What HttpServer calls.

    def at_accept(self) -> Optional[Act]:
        return self._script.take_at_accept()

    def begin(self, path: str, _: Dict[str, str]) -> Act:
        return self._script.take(path)

    def finish(self, request: Request, outcome: str, status: int, excused: bool) -> None:
        self._recorder.finish(request, outcome, status, excused)

    def receive(self, path: str, headers: Dict[str, str], body: bytes,
                act: Act) -> Tuple[Request, int, Dict[str, str], bytes]:
        """Records a request that was read in full; says what to answer."""
        extra = {"Datadog-Agent-Version": "7.99.0", "Datadog-Agent-State": self._state,
                 "Content-Type": "application/json", **act.headers}
        if act.retry_after is not None:
            extra["Retry-After"] = act.retry_after
        if path == TRACES:
            request, status, reply = self._traces(path, headers, body, act)
        else:
            request = self._recorder.add(path, headers, body, [], [])
            status, reply = self._other(path, act)
        if act.mode == "portal":
            extra["Content-Type"] = "text/html"
            reply = PORTAL.encode()
        return request, status, extra, reply

    def _traces(self, path: str, headers: Dict[str, str], body: bytes,
                act: Act) -> Tuple[Request, int, bytes]:
        payload = read_payload(headers, body, self.rules)
        request = self._recorder.add(path, headers, body, payload.marks, payload.spans)
        self._problems += [f"request {request.number}: {text}" for text in payload.problems]
        if act.max_body is not None and len(body) > act.max_body:
            return request, 413, b"request body too large"
        if payload.error:
            return request, 400, payload.error.encode()
        if act.body is not None:
            return request, act.status, act.body.encode()
        if not 200 <= act.status < 300:
            return request, act.status, f"scripted {act.status}".encode()
        rates = DEFAULT_RATES if act.rates is None else act.rates
        return request, act.status, json.dumps({"rate_by_service": rates}).encode()

    def _other(self, path: str, act: Act) -> Tuple[int, bytes]:
        if act.status != 200:
            return act.status, f"scripted {act.status}".encode()
        if path == "/info":
            return 200, self._info
        if path.startswith(RECORDED):
            return 200, b"{}"
        return 404, b"404 page not found\n"


def control_reply(fake: FakeDatadog, path: str, data: Any) -> Any:
    """One command of the control port; see fake_client.RemoteFake for the other side."""
    if path == "/script":
        fake.script(*[Act(**act) for act in data])
    elif path == "/always":
        fake.always(Act(**data))
    elif path == "/clear":
        fake.clear()
    elif path == "/refuse":
        fake.refuse()
    elif path == "/reopen":
        fake.reopen()
    elif path == "/requests":
        requests = fake.requests(data.get("path", TRACES))[data.get("skip", 0):]
        return [request_to_json(request) for request in requests]
    elif path == "/problems":
        return fake.problems()
    elif path != "/summary":
        raise ValueError(f"unknown command {path}")
    return fake.summary()


def control_server(fake: FakeDatadog) -> ThreadingHTTPServer:
    class Control(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            try:
                status, reply = 200, control_reply(fake, self.path, json.loads(raw or b"{}"))
            except (ValueError, TypeError, OSError) as error:
                status, reply = 400, str(error)
            body = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet: the test prints what it needs."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Control)


def main() -> int:
    parser = argparse.ArgumentParser(description="scripted fake Datadog agent")
    parser.add_argument("--port", type=int, default=0, help="TCP port on loopback, 0 = any")
    parser.add_argument("--unix", type=Path, help="also listen on this Unix socket")
    parser.add_argument("--record", type=Path, help="synced JSONL file of what was received")
    parser.add_argument("--compact", action="store_true", help="keep marks, not whole spans")
    parser.add_argument("--loose", action="store_true", help="hash without times and service")
    parser.add_argument("--with-parent", action="store_true", help="end when the parent ends")
    args = parser.parse_args()
    fake = FakeDatadog(args.port, args.unix, args.record, LOOSE if args.loose else STRICT,
                       args.compact)
    control = control_server(fake)
    threading.Thread(target=control.serve_forever, daemon=True).start()
    print(fake.port, flush=True)
    print(control.server_address[1], flush=True)
    parent = os.getppid()
    while not signal.sigtimedwait({signal.SIGTERM, signal.SIGINT}, 1.0):
        if args.with_parent and os.getppid() != parent:
            break
    fake.close()
    return 0


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    sys.exit(main())
