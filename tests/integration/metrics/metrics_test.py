"""Metrics of a running agent: what DogStatsD is told adds up to the agent's own counters, whoever goes and comes back; the
scrape page says the same; who is not there is named."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import unittest
import urllib.request
import uuid
from pathlib import Path
from typing import Any, Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from support.exposition import Page, parse  # noqa: E402
from support.fake_datadog import FakeDatadog  # noqa: E402
from support.fake_statsd import FakeStatsd  # noqa: E402
from support.harness import ROOT, Agent, Dirs, binary, wait_until  # noqa: E402
from support.json_schema import problems  # noqa: E402
from support.traffic import Traffic  # noqa: E402
from support.writer import Writer  # noqa: E402

BUILD = Path(os.environ.get("COMFYMON_BUILD", ROOT / "build" / "release"))
STATUS = json.loads((ROOT / "schema" / "views" / "status.schema.json").read_text(encoding="utf-8"))
COUNTERS = ("received", "sent", "sampled_out")


def scrape(agent: Agent) -> "tuple[str, str]":
    """Content type and body."""
    done = subprocess.run(["curl", "-sS", "--max-time", "10", "--unix-socket", str(agent.control_path), "-w", "\n%{content_type}",
                           "http://localhost/metrics"], capture_output=True, text=True, timeout=20, check=True)
    body, _, kind = done.stdout.rpartition("\n")
    return kind, body


def page_of(agent: Agent) -> Page:
    return parse(scrape(agent)[1])


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.dirs = Dirs()
        self.addCleanup(self.dirs.remove)

    def statsd(self, unix: bool = False) -> FakeStatsd:
        dsd = FakeStatsd(self.dirs.base / "dsd.sock" if unix else None)
        self.addCleanup(dsd.close)
        return dsd

    def agent(self, dsd: "FakeStatsd | None", url: "str | None" = None, **env: str) -> Agent:
        more = {} if dsd is None else {"DD_RUNTIME_METRICS_ENABLED": "true", "DD_DOGSTATSD_URL": dsd.url,
                                       "COMFYMON_METRICS_INTERVAL": "1s"}
        if url is None:
            more["COMFYMON_DESTINATIONS"] = "none"
        agent = Agent(url, env={**more, **env}, dirs=self.dirs)
        self.addCleanup(agent.close)
        agent.start()
        return agent

    def check_sums(self, dsd: FakeStatsd, agent: Agent) -> Dict[str, Any]:
        """The agent has stopped: what it told in its life, or lives, is what its buffer says."""
        trace = agent.status()["signals"]["trace"]
        self.assertEqual(dsd.problems, [])
        for name in COUNTERS:
            self.assertEqual(dsd.count(f"comfymon.pipeline.{name}", signal="trace"), trace[name], name)
        for reason, spans in trace["dropped"].items():
            self.assertEqual(dsd.count("comfymon.pipeline.dropped", signal="trace", reason=reason), spans, reason)
        for status, spans in trace["rejected"].items():
            self.assertEqual(dsd.count("comfymon.pipeline.rejected", status=status), spans, status)
        return trace


class Counts(Case):
    def test_add_up_over_two_lives_of_the_agent(self) -> None:
        for unix in (False, True):
            with self.subTest(unix=unix), FakeDatadog() as dd:
                self.dirs = Dirs()
                self.addCleanup(self.dirs.remove)
                dsd = self.statsd(unix)
                agent = self.agent(dsd, dd.url)
                for life in range(2):
                    if life == 1:
                        agent.start()
                    with Writer(agent.socket_path) as writer:
                        traffic = Traffic(writer, seed=life + 1)
                        for _ in range(4):
                            traffic.send(20, 5)
                            time.sleep(0.4)
                        traffic.send(20, 5)  # what comes last goes out with the end of the agent
                        writer.flush(10)
                    self.assertEqual(agent.stop(), 0)
                trace = self.check_sums(dsd, agent)
                self.assertEqual(trace["received"], 2 * 500)
                self.assertGreater(trace["sent"], 0)

    def test_are_kept_while_the_far_end_is_away(self) -> None:
        for unix in (False, True):
            with self.subTest(unix=unix), FakeDatadog() as dd:
                self.dirs = Dirs()
                self.addCleanup(self.dirs.remove)
                dsd = self.statsd(unix)
                agent = self.agent(dsd, dd.url)
                with Writer(agent.socket_path) as writer:
                    traffic = Traffic(writer)
                    traffic.send(20, 5)
                    writer.flush(10)
                    wait_until(lambda: dsd.count("comfymon.pipeline.received") == 100, 10, "the first hundred told")
                    dsd.close_socket(unlink=unix)
                    traffic.send(20, 5)
                    writer.flush(10)
                    wait_until(lambda: agent.status()["metrics"]["last_error"] != "", 10, "the agent to notice")
                    flushes = agent.status()["metrics"]["flushes"]
                    wait_until(lambda: agent.status()["metrics"]["flushes"] >= flushes + 2, 10, "two more in vain")
                    status = agent.status()
                    self.assertGreater(status["metrics"]["dropped"]["absent" if unix else "refused"], 2)
                    self.assertEqual(list(problems(STATUS, status)), [])
                    dsd.open_socket()
                    traffic.send(20, 5)
                    writer.flush(10)
                    wait_until(lambda: dsd.count("comfymon.pipeline.received") == 300, 10, "all three hundred told")
                    status = agent.status()
                    dsd.close_socket()
                    dsd.open_socket()  # another socket at the same address
                    traffic.send(20, 5)
                    writer.flush(10)
                self.assertEqual(agent.stop(), 0)
                self.assertEqual(self.check_sums(dsd, agent)["received"], 400)
                lost = "absent" if unix else "refused"
                self.assertEqual(dsd.count("comfymon.metrics.dropped", reason=lost, signal="metric"),
                                 status["metrics"]["dropped"][lost])

    def test_tell_jobs_that_ended_once_each(self) -> None:
        dsd = self.statsd()
        agent = self.agent(dsd)
        with Writer(agent.socket_path) as writer:
            spans: List[Dict[str, Any]] = []
            for i in range(1, 8):
                spans.append({"trace_id": i, "span_id": i * 10, "parent_id": 0, "service": "s", "name": "comfyui.workflow.execute",
                              "resource": "SaveImage 3fa91c02", "type": "worker", "start": writer.now() - 5_000_000,
                              "duration": 4_000_000, "error": int(i < 4),
                              "meta": {"prompt.id": str(uuid.uuid4()), "workflow.status": "error" if i < 4 else "success"},
                              "metrics": {"queue.item": i}})
            writer.finish(spans)
            writer.flush(10)
        page = page_of(agent)
        self.assertEqual(page.value("comfymon_jobs_ended_total", state="failed"), 3)
        self.assertEqual(page.value("comfymon_jobs_ended_total", state="succeeded"), 4)
        self.assertEqual(agent.stop(), 0)
        agent.start()
        self.assertEqual(agent.stop(), 0)
        self.assertEqual(dsd.count("comfymon.jobs.ended", state="failed"), 3)
        self.assertEqual(dsd.count("comfymon.jobs.ended", state="succeeded"), 4)
        self.assertEqual(dsd.problems, [])


    def test_tell_what_a_probe_lost_once_however_often_it_says_so(self) -> None:
        dsd = self.statsd()
        agent = self.agent(dsd)
        with Writer(agent.socket_path) as writer:
            traffic = Traffic(writer)
            for ring_full, torn in ((0, 0), (5, 0), (5, 0), (12, 3)):  # absolute, in each batch
                writer.losses = (ring_full, 0, 0, torn, 0, 0, 0, 0)
                traffic.send(1)
                writer.flush(10)
            page = page_of(agent)
            self.assertEqual(page.value("comfymon_probe_lost_records_total", reason="ring_full"), 12)
            self.assertEqual(page.value("comfymon_probe_lost_records_total", reason="torn"), 3)
        self.assertEqual(agent.stop(), 0)
        agent.start()
        self.assertEqual(agent.stop(), 0)
        self.assertEqual(dsd.count("comfymon.probe.lost", reason="ring_full"), 12)
        self.assertEqual(dsd.count("comfymon.probe.lost", reason="torn"), 3)


class Gauges(Case):
    def test_tell_memory_and_devices_of_who_lives(self) -> None:
        dsd = self.statsd()
        agent = self.agent(dsd, COMFYMON_NVML=str(BUILD / "tests" / "fake_nvml_fake.so"), FAKE_NVML_GPUS="2", FAKE_NVML_PID=str(os.getpid()),
                           DD_TAGS="team:a|b,x:y z", DD_HOSTNAME="h1")
        with Writer(agent.socket_path, attrs={"service": "pictures", "env": "test,1"}) as writer:
            Traffic(writer).send(1)
            writer.flush(10)
            wait_until(lambda: dsd.gauge("comfymon.gpu.used") and dsd.gauge("comfymon.process.rss"), 10, "memory and devices told")
            sample = dsd.names()["comfymon.process.rss"]
            self.assertEqual(sample.tags, {"pid": str(os.getpid()), "service": "pictures", "env": "test_1", "version": "1.0.0",
                                           "host": "h1", "team": "a_b", "x": "y_z"})
            resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE")
            self.assertLess(abs(sample.value - resident), 0.2 * resident)
            total = int(re.search(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text(encoding="ascii")).group(1)) * 1024
            self.assertEqual(dsd.gauge("comfymon.host.memory"), total)
            self.assertEqual(dsd.gauge("comfymon.pipeline.identity_difference"), 0)
            self.assertEqual(dsd.gauge("comfymon.agent.up", service="comfyui-inference", env="production"), 1)
            self.assertEqual(dsd.gauge("comfymon.gpu.answers", gpu="1"), 1)
            self.assertGreater(dsd.gauge("comfymon.process.gpu"), 0)
            page, status = page_of(agent), agent.status()
            gpu = status["memory"]["gpus"][0]
            labels = page.labels("comfymon_gpu_used_bytes")[0]
            self.assertEqual(labels["gpu_name"], gpu["name"])
            self.assertEqual(page.value("comfymon_gpu_used_bytes", **labels) + page.value("comfymon_gpu_free_bytes", **labels),
                             gpu["total_bytes"])
        self.assertEqual(dsd.problems, [])
        self.assertLessEqual(max(dsd.sizes), 1432)


class ScrapePage(Case):
    def test_is_what_status_says_and_others_can_read_it(self) -> None:
        with FakeDatadog() as dd:
            agent = self.agent(None, dd.url)
            with Writer(agent.socket_path, attrs={"service": 'quo"te\\d\nline', "version": "é" * 300}) as writer:
                Traffic(writer).send(50, 5)
                writer.flush(10)
                status = agent.drain(received=250)
                wait_until(lambda: page_of(agent).labels("comfymon_process_rss_bytes"), 10, "the process to be sampled")
                kind, text = scrape(agent)
            self.assertEqual(kind, "text/plain; version=0.0.4; charset=utf-8")
            page = parse(text)
            for name in COUNTERS:
                self.assertEqual(page.value(f"comfymon_pipeline_{name}_spans_total", signal="trace"),
                                 status["signals"]["trace"][name])
            self.assertEqual(page.value("comfymon_exporter_sent_spans_total", destination="datadog"), 250)
            self.assertEqual(page.value("comfymon_exporter_reached", destination="datadog"), 1)
            self.assertEqual(page.value("comfymon_pipeline_identity_difference_spans", signal="trace"), 0)
            self.assertEqual(page.value("comfymon_agent_state", state="ok"), 1)
            self.assertEqual(page.value("comfymon_agent_up", agent_version=status["version"]), 1)
            self.assertEqual(page.labels("comfymon_process_rss_bytes"),
                             [{"pid": str(os.getpid()), "service": 'quo"te\\d\nline', "version": "é" * 50}])
            self.assertEqual({name for name in page.types if page.types[name] == "counter"},
                             {name for name in page.types if name.endswith("_total")})

    def test_is_on_the_health_port(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        agent = self.agent(None, COMFYMON_HEALTH_PORT=str(port))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            self.assertEqual(answer.headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
            page = parse(answer.read().decode())
        self.assertEqual(page.value("comfymon_agent_up", agent_version=agent.status()["version"]), 1)

    def test_is_there_while_nothing_is_sent(self) -> None:
        agent = self.agent(None)
        self.assertIsNone(agent.status()["metrics"])
        tasks = Path(f"/proc/{agent.pid}/task").iterdir()
        self.assertNotIn("metrics", [(task / "comm").read_text().strip() for task in tasks])
        self.assertEqual([name for name in page_of(agent).types if name.startswith("comfymon_metrics_")], [])


class Switch(Case):
    def test_doctor_and_status_name_a_far_end_that_is_not_there(self) -> None:
        dsd = self.statsd()
        agent = self.agent(dsd)
        wait_until(lambda: agent.status()["metrics"]["flushes"] > 0, 10, "a flush")
        self.assertRegex(agent.cli("status").stdout, rf"metrics +ok, {re.escape(dsd.url)}, \d+ datagrams sent")
        self.assertRegex(agent.cli("doctor").stdout, r"ok +metrics +udp://127")
        dsd.close_socket()
        wait_until(lambda: agent.status()["metrics"]["last_error"] != "", 10, "the agent to notice")
        self.assertRegex(agent.cli("status").stdout, r"metrics +offline, .*dropped: refused \d+\n +Connection refused")
        said = agent.cli("doctor", "--json")
        self.assertEqual(said.returncode, 1)
        station = [one for one in json.loads(said.stdout)["stations"] if one["station"] == "metrics"][0]
        self.assertEqual((station["finding"], station["text"]), ("WRONG", f"{dsd.url}: Connection refused"))
        self.assertIn("DD_DOGSTATSD_URL", station["advice"])

    def test_finds_the_far_end_by_host_and_port(self) -> None:
        for name, number in (("DD_AGENT_HOST", "1"), ("DD_DOGSTATSD_HOST", "2")):
            with self.subTest(name):
                dsd = self.statsd()
                agent = Agent(env={"DD_RUNTIME_METRICS_ENABLED": "1", name: "localhost", "DD_DOGSTATSD_PORT": str(dsd.port),
                                   "COMFYMON_DESTINATIONS": "none", "COMFYMON_METRICS_INTERVAL": "1s"})
                self.addCleanup(agent.close)
                agent.start()
                self.assertEqual(agent.status()["metrics"]["target"], f"udp://localhost:{dsd.port}", number)
                # localhost may be ::1 first, where nobody listens: the next address is tried
                wait_until(lambda: dsd.gauge("comfymon.agent.up") == 1, 10, "a flush to arrive")

    def test_refuses_addresses_that_are_none(self) -> None:
        for url in ("http://x:1", "udp://x", "udp://x:0", "unix://relative", "unixstream:///x"):
            done = subprocess.run([str(binary()), "agent"], env={**os.environ, "COMFYMON_RUN_DIR": str(self.dirs.run),
                                  "COMFYMON_DATA_DIR": str(self.dirs.data), "DD_RUNTIME_METRICS_ENABLED": "true",
                                  "DD_DOGSTATSD_URL": url}, capture_output=True, text=True, timeout=20, check=False)
            self.assertEqual(done.returncode, 2, url)
            self.assertIn("expected udp://host:port or unix:///path", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
