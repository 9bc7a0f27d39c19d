"""A span of ours beside one of ddtrace and of the OpenTelemetry SDK, in one process: `with trace("x"): pass`, hot, and paced.

Hot is the fastest of many rounds, in nanoseconds. Paced is 2,100 spans a second: the median of the CPU time that the thread
used for one (the sleep between two is not in it: it takes 20 us and varies by 5), and a span's share of what the tracer's own
threads used. Ours sends to a collector, peers to a closed loopback port. Beside it an empty `with`, which reads the clock as well.
Run by run.sh --peers with the Python of a venv that has them. Prints JSON lines, see report.py.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
import timeit
from typing import Any, Callable

os.environ.update(DD_TRACE_AGENT_URL="http://127.0.0.1:9", DD_INSTRUMENTATION_TELEMETRY_ENABLED="false",
                  DD_REMOTE_CONFIGURATION_ENABLED="false", DD_TRACE_STARTUP_LOGS="false")
sys.path.insert(0, os.path.join(os.environ.get("COMFYMON_BUILD", "build/release"), "node", "comfymon"))
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import logging  # noqa: E402

import _comfymon  # noqa: E402
from report import report  # noqa: E402
from support.harness import Agent  # noqa: E402

logging.disable(logging.CRITICAL)
ROUNDS, CALLS = 40, 2000
PACE, PACED = 2100, 4200


class Empty:
    def __enter__(self) -> "Empty":
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def hot(make: Callable[[], Any]) -> float:
    def one() -> None:
        with make():
            pass
    return min(timeit.repeat(one, number=CALLS, repeat=ROUNDS)) / CALLS * 1e9


def paced(make: Callable[[], Any]) -> float:
    """CPU microseconds a span, sleeping in between as a host with work of its own would, so that caches are cold."""
    clock, used = time.thread_time_ns, []
    mine, all_threads, began = clock(), time.process_time_ns(), time.monotonic()
    for i in range(PACED):
        before = clock()
        with make():
            pass
        used.append(clock() - before)
        left = began + (i + 1) / PACE - time.monotonic()
        if left > 0:
            time.sleep(left)
    mine, all_threads = clock() - mine, time.process_time_ns() - all_threads
    return (statistics.median(used) + (all_threads - mine) / PACED) / 1e3


def ddtrace_span() -> Callable[[], Any]:
    from ddtrace.trace import tracer
    return lambda: tracer.trace("x")


def otel_span() -> Callable[[], Any]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Sink(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Sink()))
    tracer = provider.get_tracer("bench")
    return lambda: tracer.start_as_current_span("x")


def ours(run_dir: str, sender: bool, measured: Callable[[Callable[[], Any]], float]) -> float:
    if not _comfymon.start(run_dir=run_dir, ring_bytes=16 << 20, sender=sender):
        raise SystemExit(_comfymon.status()["reason"])
    value = measured(lambda: _comfymon.trace("x"))
    if _comfymon.status()["lost"]:
        raise SystemExit("spans were lost: the figure would be too good")
    _comfymon.stop(0)
    return value


def main() -> None:
    folder = tempfile.mkdtemp(prefix="cm-bench-", dir="/dev/shm")
    os.chmod(folder, 0o700)
    empty = Empty()
    # Peers last: their threads, once started, would be in everybody's CPU time.
    ours_hot = ours(folder, False, hot)
    with Agent(None, env={"COMFYMON_DESTINATIONS": "none"}) as agent:
        base = paced(lambda: empty)
        ours_paced = ours(str(agent.dirs.run), True, paced)
        base = min(base, paced(lambda: empty))
    report("span_paced_2100_per_s", ours_paced, "us", "empty with", base, base + 1)
    for name, maker in (("ddtrace", ddtrace_span), ("opentelemetry_sdk", otel_span)):
        try:
            make = maker()
        except ImportError as error:
            print(f"# {name} is not there: {error}")
            continue
        theirs = hot(make)
        report(f"span_hot_beside_{name}", ours_hot, "ns", name, theirs, theirs / 30)
        beside = paced(make)
        report(f"span_paced_beside_{name}", ours_paced, "us", name, beside, beside)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
