"""Datadog's own test agent takes our traces with all its checks on, and finds nothing.

The test agent (ddapm-test-agent, pinned below) lives in a virtual environment made here from
PyPI; where that cannot be had the test is skipped, visibly (exit code 77). Traces come from the
native probe (probe_gen) and from the extension in this Python; what arrived is decoded by the test
agent, whose decoder is ddtrace's own way of reading v0.4, and compared with what was made.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Dict, List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.harness import Agent, wait_until  # noqa: E402

PACKAGE = "ddapm-test-agent==1.69.1"
BUILD = Path(os.environ.get("COMFYMON_BUILD", "build/release"))
VENV = BUILD / "tests" / "peers-venv"
SKIPPED = 77
CHECKS = ("trace_count_header", "meta_tracer_version_header", "trace_content_length", "meta_events_is_valid_json",
          "trace_stall", "trace_peer_service", "trace_dd_service")
# What every request of ours goes through. The others skip: they want span events, a stall asked
# for, or a client's variables with schema v1.
MUST_RUN = ("trace_count_header", "meta_tracer_version_header", "trace_content_length")

PYTHON_JOB = """
import asyncio, os, sys
sys.path.insert(0, os.path.join(os.environ["COMFYMON_BUILD"], "node", "comfymon"))
import _comfymon as c
assert c.start(run_dir=os.environ["COMFYMON_RUN_DIR"]), c.status()
for i in range(25):
    with c.trace("peer.request", resource="POST /prompt", service="peer") as root:
        root.set_tag("text", "a \\u00e9 \\U0001f600 line\\nbreak")
        root.set_metric("number", 1.5 * i)
        with c.trace("peer.child", resource="x" * 300):
            pass
        try:
            with c.trace("peer.failed"):
                raise ValueError("expected")
        except ValueError:
            pass
c.stop(5000)
"""


def venv_python() -> Optional[Path]:
    """The environment's interpreter; made at the first call, None where it cannot be."""
    python = VENV / "bin" / "python"
    if (VENV / "ready").exists() and (VENV / "ready").read_text() == PACKAGE:
        return python
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True, timeout=120,
                       capture_output=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", PACKAGE],
                       check=True, timeout=240, capture_output=True)
    except (subprocess.SubprocessError, OSError) as error:
        detail = (getattr(error, "stderr", b"") or b"").decode(errors="replace").strip().splitlines()
        print(f"SKIP: {PACKAGE} cannot be installed: {detail[-1] if detail else error}")
        return None
    (VENV / "ready").write_text(PACKAGE)
    return python


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class TestAgent:
    """One test agent, with all checks on and failures remembered."""

    def __init__(self, python: Path) -> None:
        self.port = free_port()
        self.folder = tempfile.TemporaryDirectory(prefix="cm-dd-")
        env = {"PATH": os.environ["PATH"], "ENABLED_CHECKS": ",".join(CHECKS), "DD_POOL_TRACE_CHECK_FAILURES": "true",
               "LOG_LEVEL": "ERROR", "HOME": self.folder.name}
        self.process = subprocess.Popen(
            [str(python.parent / "ddapm-test-agent"), "--port", str(self.port), "--otlp-http-port", str(free_port()),
             "--otlp-grpc-port", str(free_port()), "--snapshot-dir", self.folder.name],
            env=env, cwd=self.folder.name, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            wait_until(self.answers, 30, "the test agent to answer")
        except AssertionError:
            self.process.kill()
            raise AssertionError(f"the test agent did not start: {(self.process.communicate()[1] or b'')[-800:]!r}") \
                from None

    def __enter__(self) -> "TestAgent":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        self.folder.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url + path, timeout=10) as reply:
            return json.loads(reply.read() or b"null")

    def answers(self) -> bool:
        try:
            return bool(self.get("/info"))
        except (OSError, ValueError):
            return False


class Peer(unittest.TestCase):
    python: Path

    def check(self, dd: TestAgent) -> None:
        """No check failed, and those that must have run have."""
        try:
            self.assertIn(dd.get("/test/trace_check/failures?use_json=true"), ({}, None, []))
        except urllib.error.HTTPError as error:
            self.fail(f"the test agent found: {error.read().decode(errors='replace')[:3000]}")
        except ValueError:
            pass  # an empty text: nothing failed
        summary = dd.get("/test/trace_check/summary")
        for name, counts in summary.items():
            self.assertEqual(counts["Failed_Checks"], 0, name)
        for name in MUST_RUN:
            self.assertGreater(summary[name]["Passed_Checks"], 0, name)

    def spans(self, dd: TestAgent, count: int) -> List[Dict[str, Any]]:
        spans = [span for trace in dd.get("/test/session/traces") for span in trace]
        self.assertEqual(len({(s["trace_id"], s["span_id"]) for s in spans}), count)
        self.assertEqual(len(spans), count)
        return spans

    def test_finds_nothing_in_traces_of_the_native_probe(self) -> None:
        with TestAgent(self.python) as dd, Agent(dd.url) as agent:
            subprocess.run([str(BUILD / "bin" / "probe_gen"), "--traces", "60", "--spans", "21", "--tags", "10", "--jobs"],
                           env=agent.env, check=True, timeout=60)
            status = agent.drain(30, received=60 * 21)
            self.check(dd)
            spans = self.spans(dd, 60 * 21)
            self.assertEqual(sum(not s.get("parent_id") for s in spans), 60)
            trace = status["signals"]["trace"]
            self.assertEqual((trace["sent"], trace["rejected"], trace["identity"]), (60 * 21, {}, True))
            requests = [r for r in dd.get("/test/session/requests") if r["url"].endswith("/v0.4/traces")]
            self.assertTrue(requests)
            for request in requests:
                self.assertGreater(len(base64.b64decode(request["body"])), 10)

    def test_finds_nothing_in_traces_from_python(self) -> None:
        with TestAgent(self.python) as dd, Agent(dd.url, {"COMFYMON_BUILD": str(BUILD.resolve())}) as agent:
            done = subprocess.run([sys.executable, "-c", PYTHON_JOB], env=agent.env, timeout=60, capture_output=True,
                                  text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            agent.drain(30, received=75)
            self.check(dd)
            spans = self.spans(dd, 75)
            roots = [s for s in spans if s["name"] == "peer.request"]
            self.assertEqual(len(roots), 25)
            self.assertEqual({s["service"] for s in roots}, {"peer"})
            self.assertEqual({s["meta"]["text"] for s in roots}, {"a \u00e9 \U0001f600 line\nbreak"})
            self.assertEqual(sorted(s["metrics"]["number"] for s in roots), [1.5 * i for i in range(25)])
            failed = [s for s in spans if s["name"] == "peer.failed"]
            self.assertEqual({(s["error"], s["meta"]["error.type"]) for s in failed}, {(1, "builtins.ValueError")})

    def test_finds_nothing_in_the_ends_of_processes(self) -> None:
        with TestAgent(self.python) as dd, Agent(dd.url) as agent:
            for script in ("exit 3", "kill -SEGV $$", "true"):
                subprocess.run([str(BUILD / "bin" / "comfymon"), "run", "--no-agent", "--restart", "never", "--", "sh", "-c",
                                script], env=agent.env, capture_output=True, timeout=60, check=False)
            agent.drain(30, received=3)
            self.check(dd)
            self.assertGreater(dd.get("/test/trace_check/summary")["meta_events_is_valid_json"]["Passed_Checks"], 0)
            ends = self.spans(dd, 3)
            self.assertEqual(sorted((s["name"], s["resource"], s.get("error", 0)) for s in ends),
                             [("comfyui.process.exit", verdict, error) for verdict, error in (
                                 ("crash_segv", 1), ("exit_clean", 0), ("exit_error", 1))])

    def test_a_payload_it_must_refuse_is_refused(self) -> None:
        """The oracle can fail: a wrong count is found."""
        body = bytes([0x91, 0x90])  # one trace without spans
        with TestAgent(self.python) as dd:
            request = urllib.request.Request(dd.url + "/v0.4/traces", data=body, method="PUT", headers={
                "X-Datadog-Trace-Count": "7", "Content-Type": "application/msgpack"})
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with self.assertRaises(urllib.error.HTTPError):
                opener.open(request, timeout=10)
            with self.assertRaises(AssertionError):
                self.check(dd)


if __name__ == "__main__":
    found = venv_python()
    if found is None:
        sys.exit(SKIPPED)
    Peer.python = found
    print(f"peer: {PACKAGE}")
    unittest.main(verbosity=2)
