"""Each end of a process is one span in Datadog: with its evidence, beside the job that it ended, whoever dies meanwhile."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path
from typing import Any, Dict, List

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS), str(TESTS / "standin")]
from client import PINNED, ComfyError, ComfyUI, workflow  # noqa: E402
from support.content import is_unfinished  # noqa: E402
from support.counters import identity_problems  # noqa: E402
from support.fake_datadog import FakeDatadog  # noqa: E402
from support.harness import ROOT, Agent, binary, wait_until  # noqa: E402

NODE = Path(os.environ.get("COMFYMON_BUILD") or ROOT / "build/release") / "node" / "comfymon"
NAME = "comfyui.process.exit"
SLEEPS = {"1": {"class_type": "StandinSleep", "inputs": {"value": 1, "seconds": 60.0}},
          "2": {"class_type": "StandinOut", "inputs": {"value": ["1", 0]}}}


class ExitSpans(unittest.TestCase):
    """An agent with a destination, and processes beside it."""

    def setUp(self) -> None:
        self.dd = FakeDatadog()
        self.addCleanup(self.dd.close)
        self.agent = Agent(self.dd.url, env={"COMFYMON_GRACE": "2s", "COMFYMON_RUN_DRAIN": "0s", "DD_ENV": "tests"})
        self.addCleanup(self.agent.close)
        self.agent.start()

    def run_it(self, *command: str, options: Any = ("--restart", "never"), **env: str) -> int:
        return subprocess.run([str(binary()), "run", "--no-agent", *options, "--", *command],
                              env={**self.agent.env, **env}, capture_output=True, timeout=60, check=False).returncode

    def comfy(self, *wrapper: str) -> ComfyUI:
        if not NODE.is_dir():
            self.skipTest("the node folder is not built here")
        host = ComfyUI(kind=PINNED, node_dirs=[str(NODE)], base=str(self.agent.dirs.base), wrapper=wrapper,
                       env={**self.agent.env, "COMFYMON_AUTOSTART": "0"})
        self.addCleanup(host.close)
        self.addCleanup(host.stop, signal.SIGTERM)
        host.start()
        return host

    def supervised(self, *options: str) -> ComfyUI:
        return self.comfy(str(binary()), "run", "--no-agent", *options, "--")

    def exits(self) -> List[Dict[str, str]]:
        file = self.agent.dirs.data / "exits"
        return [dict(pair.split("=", 1) for pair in line.split()[1:])
                for line in (file.read_text().splitlines() if file.exists() else [])]

    def told(self, count: int, timeout: float = 20) -> List[Dict[str, Any]]:
        """So many ends, in the order in which they were delivered; no more come."""
        def ends() -> List[Dict[str, Any]]:
            return [span for span in self.dd.spans() if span["name"] == NAME]
        wait_until(lambda: len(ends()) >= count, timeout, f"{count} ends\n{self.agent.log_tail()}")
        time.sleep(0.5)
        self.assertEqual(identity_problems(self.agent.drain()), [])
        self.assertEqual(len(ends()), count)
        self.assertEqual(self.dd.problems(), [])
        return ends()

    def priority(self, span: Dict[str, Any]) -> float:
        """Of the chunk that brought it."""
        for request in self.dd.requests():
            for one in request.spans:
                if one["trace_id"] == span["trace_id"] and "_sampling_priority_v1" in one["metrics"] and any(
                        other["span_id"] == span["span_id"] for other in request.spans):
                    return float(one["metrics"]["_sampling_priority_v1"])
        raise AssertionError("no priority")

    def evidence(self, span: Dict[str, Any]) -> List[str]:
        """As its black box has it."""
        deaths = map(json.loads, self.agent.cli("deaths", "--json").stdout.splitlines())
        return next(list(death["evidence"]) for death in deaths if death["id"] == span["meta"]["exit.death"])

    def event(self, span: Dict[str, Any]) -> Dict[str, Any]:
        (event,) = json.loads(span["meta"]["events"])
        self.assertEqual(event["name"], "process.exit")
        self.assertEqual(event["time_unix_nano"], span["start"] + span["duration"])
        self.assertEqual(event["attributes"]["verdict"], span["resource"])
        self.assertEqual(event["attributes"]["certainty"], span["meta"]["exit.certainty"])
        return dict(event["attributes"])


class Supervised(ExitSpans):
    def test_the_job_that_it_ended_has_it_beside_its_unfinished_spans(self) -> None:
        host = self.supervised("--restart", "never", "--memory-limit", "8G")
        prompt = host.submit(SLEEPS)
        host.wait_running(prompt)
        time.sleep(0.5)     # its probe has told of it
        os.kill(host.serving_pid(), signal.SIGKILL)
        (span,) = self.told(1)
        (line,) = self.exits()
        (job,) = [s for s in self.dd.spans() if s["name"] == "comfyui.workflow.execute"]
        self.assertTrue(is_unfinished(job))
        self.assertEqual((span["trace_id"], span["parent_id"], span["start"]),
                         (job["trace_id"], job["span_id"], job["start"]))
        self.assertEqual((span["resource"], span["error"], span["service"]), ("killed", 1, job["service"]))
        self.assertEqual(span["start"] + span["duration"], int(line["time_ns"]))
        meta, metrics = span["meta"], span["metrics"]
        self.assertEqual({k: meta[k] for k in (
            "exit.verdict", "exit.certainty", "exit.restarted", "exit.death", "prompt.id", "node.id", "node.class_type",
            "error.type")}, {
            "exit.verdict": "killed", "exit.certainty": line["certainty"], "exit.restarted": "false",
            "exit.death": line["death"], "prompt.id": prompt, "node.id": "1", "node.class_type": "StandinSleep",
            "error.type": "killed"})
        self.assertEqual((metrics["exit.signal"], metrics["memory.limit_bytes"]), (9, 8 << 30))
        self.assertNotIn("exit.code", metrics)
        self.assertGreater(metrics["memory.rss.peak_bytes"], 0)    # looked at each second
        self.assertGreater(metrics["process.uptime_ms"], 500)
        self.assertEqual(self.event(span)["evidence"], self.evidence(span))
        self.assertEqual(meta["error.message"], self.evidence(span)[0])
        self.assertGreater(self.priority(span), 0)
        (row,) = [json.loads(one) for one in self.agent.cli("jobs", "--json").stdout.splitlines()]
        shown = self.agent.cli("trace", row["trace_id"])
        self.assertIn(NAME, shown.stdout)

    def test_who_dies_before_it_can_speak_has_a_trace_of_its_own(self) -> None:
        self.assertEqual(self.run_it("sh", "-c", "exit 3", options=(), COMFYMON_CRASH_LIMIT="2"), 3)
        spans = self.told(2)
        self.assertEqual([s["meta"]["exit.death"] for s in spans], [e["death"] for e in self.exits()])
        self.assertEqual([s["meta"]["exit.restarted"] for s in spans], ["true", "false"])
        self.assertEqual(len({s["trace_id"] for s in spans}), 2)
        for span in spans:
            self.assertEqual((span["resource"], span["error"], span.get("parent_id", 0), span["duration"]),
                             ("exit_error", 1, 0, 0))
            self.assertEqual((span["service"], span["meta"]["env"]), ("comfyui-inference", "tests"))
            self.assertEqual(span["metrics"]["exit.code"], 3)
            self.assertNotIn("exit.signal", span["metrics"])
            self.assertEqual(self.event(span)["evidence"], self.evidence(span))
            self.assertEqual(self.priority(span), 2)
            self.assertEqual((span["meta"]["error.type"], span["meta"]["error.message"]), ("exit_error", "exit code 3"))
        page = subprocess.run(["curl", "-sS", "--max-time", "10", "--unix-socket", str(self.agent.control_path),
                               "http://localhost/metrics"], capture_output=True, text=True, timeout=20, check=True).stdout
        counts = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in page.splitlines()
                  if line.startswith("comfymon_process_ended_total{")}
        self.assertEqual({k for k, v in counts.items() if v}, {'comfymon_process_ended_total{verdict="exit_error"}'})
        self.assertEqual(sum(counts.values()), 2)
        self.assertEqual(self.agent.status()["probes"], [])     # nobody ever spoke

    def test_an_end_that_was_wanted_is_no_error(self) -> None:
        self.run_it("true")
        host = self.supervised()
        host.stop(signal.SIGTERM)
        spans = self.told(2)
        self.assertEqual([(s["resource"], s.get("error", 0)) for s in spans], [("exit_clean", 0), ("stopped", 0)])
        for span in spans:
            self.assertNotIn("error.type", span["meta"])
            self.assertNotIn("error.message", span["meta"])
            self.event(span)

    def test_nothing_that_it_printed_goes_with_it(self) -> None:
        self.run_it("sh", "-c", "echo 'secret 4711 Address already in use' >&2; exit 1")
        (span,) = self.told(1)
        self.assertEqual(span["resource"], "port_in_use")
        self.assertNotIn("4711", json.dumps(span))

    def test_sampling_does_not_take_it_away(self) -> None:
        self.agent.stop()
        self.agent.env["DD_TRACE_SAMPLE_RATE"] = "0"
        self.agent.start()
        self.run_it("true")
        (span,) = self.told(1)
        self.assertEqual(self.priority(span), 2)

    def test_one_for_each_whenever_the_agent_is_killed(self) -> None:
        """Nobody takes anything meanwhile, so that what is sent twice was made twice."""
        seed = int(os.environ.get("COMFYMON_SEED") or random.randrange(1 << 30))
        print(f"seed {seed}")
        chance, deaths = random.Random(seed), 40
        self.dd.refuse()

        def die() -> None:
            for i in range(deaths):
                self.run_it("sh", "-c", f"sleep 0.1; kill -{1 + i % 9} $$")

        dying, kills = threading.Thread(target=die), 0
        dying.start()
        while dying.is_alive():
            time.sleep(chance.uniform(0, 0.4))
            self.agent.kill9()
            kills += 1
            self.agent.start()
        dying.join()
        self.assertGreater(kills, 4)
        wanted = sorted(line["death"] for line in self.exits())
        self.assertEqual(len(wanted), deaths)
        self.dd.reopen()
        spans = self.told(len(wanted), 60)
        self.assertEqual(sorted(s["meta"]["exit.death"] for s in spans), wanted)
        self.assertEqual(len({s["span_id"] for s in spans}), len(wanted))
        print(f"{deaths} deaths, {kills} kills of the agent")

    def test_the_last_end_is_sent_before_run_has_ended(self) -> None:
        """By the agent that run started and stops: there may be no other one, ever."""
        self.agent.stop()
        for script, verdict in (("sleep 1; kill -KILL $$", "killed"), ("sleep 1", "exit_clean")):
            before = len(self.dd.spans())
            subprocess.run([str(binary()), "run", "--restart", "never", "--", "sh", "-c", script], env=self.agent.env,
                           capture_output=True, timeout=60, check=False)
            self.assertEqual([s["resource"] for s in self.dd.spans()[before:]], [verdict])

    def test_the_last_job_is_sent_before_run_has_ended(self) -> None:
        self.agent.stop()
        host = self.comfy(str(binary()), "run", "--restart", "never", "--")
        prompt = host.submit(SLEEPS)
        host.wait_running(prompt)
        time.sleep(0.5)
        os.kill(host.serving_pid(), signal.SIGKILL)
        host.wait_exit(20)
        spans = {s["name"]: s for s in self.dd.spans()}
        self.assertTrue(is_unfinished(spans["comfyui.workflow.execute"]))
        self.assertEqual(spans[NAME]["trace_id"], spans["comfyui.workflow.execute"]["trace_id"])

    def test_nobody_waits_at_the_stop_for_a_destination_that_is_away(self) -> None:
        self.dd.refuse()
        self.run_it("true")
        began = time.monotonic()
        self.agent.stop()
        self.assertLess(time.monotonic() - began, 4)
        self.agent.start()
        self.dd.reopen()
        self.told(1, 60)

    def test_the_store_that_forgets_tells_only_of_what_it_saw(self) -> None:
        self.run_it("true")
        self.told(1)
        self.agent.stop()
        self.agent.env["COMFYMON_STORE"] = "ram"
        self.agent.start()
        self.run_it("sh", "-c", "exit 4")
        self.assertEqual([s["resource"] for s in self.told(2)], ["exit_clean", "exit_error"])


class Alone(ExitSpans):
    """Nobody supervises it: only its ring tells."""

    def test_a_kill_is_lost(self) -> None:
        host = self.comfy()
        prompt = host.submit(SLEEPS)
        host.wait_running(prompt)
        time.sleep(0.5)
        host.send_signal(signal.SIGKILL)
        (span,) = self.told(1)
        (job,) = [s for s in self.dd.spans() if s["name"] == "comfyui.workflow.execute"]
        self.assertEqual((span["trace_id"], span["parent_id"], span["resource"], span["error"]),
                         (job["trace_id"], job["span_id"], "lost", 1))
        self.assertEqual((span["meta"]["exit.certainty"], span["meta"]["prompt.id"]), ("unsure", prompt))
        self.assertNotIn("exit.death", span["meta"])
        self.assertEqual(len(self.event(span)["evidence"]), 2)
        self.agent.kill9()
        self.agent.start()
        self.told(1)

    @unittest.skipIf(PINNED == "real", "the stand-in plays the Manager")
    def test_a_restart_in_place_is_told_as_one(self) -> None:
        host = self.comfy()
        try:
            host.request("POST", "/standin/reboot")
        except (OSError, ComfyError):
            pass
        (span,) = self.told(1)
        self.assertEqual((span["resource"], span.get("error", 0)), ("manager_restart", 0))
        host.wait_ready()
        host.send_signal(signal.SIGKILL)
        self.assertEqual([s["resource"] for s in self.told(2)], ["manager_restart", "lost"])

    def test_who_ends_in_order_has_not_died(self) -> None:
        host = self.comfy()
        host.run(workflow("quick"))
        host.stop(signal.SIGINT)
        wait_until(lambda: not list(self.agent.dirs.run.glob("ring-*")), 20, "its ring to be read")
        host.start()
        host.send_signal(signal.SIGKILL)
        self.assertEqual([s["resource"] for s in self.told(1)], ["lost"])


if __name__ == "__main__":
    unittest.main()
