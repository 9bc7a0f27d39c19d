"""Memory over time as a person and a program meet it: who holds what, what leaks, and what is left to see after a restart."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import unittest
from pathlib import Path
from typing import Any, Dict, List

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS), str(TESTS / "standin"), str(TESTS / "integration" / "cli")]
from client import PINNED, ComfyUI, workflow  # noqa: E402
from look_test import on_terminal, plain  # noqa: E402
from support.harness import ROOT, Agent, wait_until  # noqa: E402
from support.json_schema import problems  # noqa: E402

BUILD = Path(os.environ.get("COMFYMON_BUILD", "build/release"))
SCHEMA = json.loads((ROOT / "schema" / "views" / "memory.schema.json").read_text(encoding="utf-8"))
STATUS = json.loads((ROOT / "schema" / "views" / "status.schema.json").read_text(encoding="utf-8"))
FAKE_NVML = str((BUILD / "tests" / "fake_nvml_fake.so").resolve())
MIB = 1 << 20
NO_AGENT = 3


class Memory(unittest.TestCase):
    def start_agent(self, **env: str) -> Agent:
        agent = Agent(env={"COMFYMON_DESTINATIONS": "none", "COMFYMON_AUTOSTART": "0", "COMFYMON_NVML": "none", **env})
        self.addCleanup(agent.close)
        agent.start()
        return agent

    def comfy(self, agent: Agent, **env: str) -> ComfyUI:
        host = ComfyUI(kind=PINNED, env={**agent.env, **env}, node_dirs=[str(BUILD / "node" / "comfymon")])
        self.addCleanup(host.close)
        host.start()
        return host

    def memory(self, agent: Agent, *args: str) -> Dict[str, Any]:
        done = agent.cli("memory", "--json", *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        shown = json.loads(done.stdout)
        self.assertEqual(list(problems(SCHEMA, shown)), [])
        return dict(shown)

    def process(self, agent: Agent, jobs: int) -> Dict[str, Any]:
        """The only ComfyUI, when so many of its jobs have ended."""
        def seen() -> List[Dict[str, Any]]:
            return [p for p in self.memory(agent)["processes"]
                    if sum(job["to_ns"] is not None for job in p["jobs"]) == jobs]

        return wait_until(seen, 10, f"{jobs} jobs")[0]

    def allocate(self, comfy: ComfyUI, mbytes: int, keep: bool) -> None:
        graph = workflow("allocate")
        graph["1"]["inputs"].update(mbytes=mbytes, keep=keep)
        comfy.run(graph)


class Shown(Memory):
    def test_a_node_that_holds_memory_is_the_top_holder(self) -> None:
        agent = self.start_agent()
        self.assertIn("no ComfyUI has been seen", agent.cli("memory").stdout)
        comfy = self.comfy(agent)
        self.allocate(comfy, 40, False)
        process = self.process(agent, 1)
        job = process["jobs"][0]
        self.assertEqual((job["top"], job["outputs_bytes"], job["status"]), ("1 StandinAllocate 40 MiB", 40 * MIB, "success"))
        self.assertEqual([(n["id"], n["class"], n["outputs_bytes"]) for n in job["nodes"]], [("1", "StandinAllocate", 40 * MIB)])
        self.assertGreater(job["nodes"][0]["peak_bytes"], 40 * MIB)
        self.assertLess(job["unaccounted_bytes"], job["peak_bytes"] - 30 * MIB)
        page = agent.cli("memory").stdout
        self.assertIn("  held: results of nodes 40 MiB; models 0 B\n", page)
        self.assertIn("  most by: 1 StandinAllocate 40 MiB\n", page)
        self.assertIn("  too few jobs for a trend (1 so far)\n", page)
        self.assertRegex(page, r"\n  [0-9a-f]{8} StandinOut \w+ +━+ +\d+\.?\d* MiB\n    1 StandinAllocate +━+ +\d+\.?\d* MiB\n")

    def test_the_status_has_a_line_for_each_process_and_device(self) -> None:
        agent = self.start_agent(COMFYMON_NVML=FAKE_NVML, FAKE_NVML_GPUS="2")
        self.assertNotIn("\nmemory ", agent.cli("status").stdout)
        comfy = self.comfy(agent)
        wait_until(lambda: agent.status()["memory"]["gpus"], 10, "devices")
        self.assertNotIn("accounted", agent.cli("status").stdout)
        self.allocate(comfy, 60, False)
        memory = wait_until(lambda: [m for m in [agent.status()["memory"]]
                                     if m["processes"] and m["processes"][0]["accounted_bytes"]], 10, "what it holds")[0]
        self.assertEqual(list(problems(STATUS, agent.status())), [])
        process = memory["processes"][0]
        self.assertEqual(process["accounted_bytes"], 60 * MIB)
        self.assertGreater(process["unaccounted_bytes"], MIB)
        page = agent.cli("status").stdout
        self.assertRegex(page, r"\nmemory +pid \d+ +[\d.]+ MiB, peak [\d.]+ MiB, (limit|host) [\d.]+ .iB, \d\d % of it accounted for\n")
        self.assertIn(" GPU 1 Fake GPU 1, 2 GiB of 80 GiB\n", page)

    def test_a_leak_shows_in_the_trend_and_what_is_freed_does_not(self) -> None:
        agent = self.start_agent()
        for keep, state in ((True, "grows"), (False, "steady")):
            comfy = self.comfy(agent)
            for i in range(10):
                self.allocate(comfy, 20 + i % 2, keep)
            process = self.process(agent, 10)
            self.assertEqual((process["trend"]["state"], process["trend"]["jobs"]), (state, 10))
            if keep:
                self.assertAlmostEqual(process["trend"]["bytes_per_job"] / MIB, 20.5, delta=3)
                self.assertRegex(agent.cli("memory").stdout, r"  grows by (1[89]|2[0-3])\.?\d* MiB a job over the last 10, ")
            else:
                self.assertIn("  steady over the last 10 jobs, ", agent.cli("memory").stdout)
            comfy.stop(signal.SIGINT)
            agent.close()
            agent = self.start_agent()

    def test_the_page_fits_its_terminal(self) -> None:
        agent = self.start_agent()
        comfy = self.comfy(agent)
        self.allocate(comfy, 8, False)
        self.process(agent, 1)
        for columns in (40, 80, 120):
            lines = plain(on_terminal(agent, columns, "memory", "--since", "10m")).splitlines()
            self.assertLessEqual(max(map(len, lines)), columns)
            self.assertTrue(any("█" in line for line in lines))
        ascii_only = on_terminal(agent, 80, "memory", LANG="C", LC_ALL="C", NO_COLOR="1")
        self.assertTrue(ascii_only.isascii())
        self.assertNotIn("\033", ascii_only)
        self.assertIn("1 StandinAllocate", ascii_only)

    def test_pss_is_read_on_demand(self) -> None:
        agent = self.start_agent()
        self.allocate(self.comfy(agent), 8, False)
        self.assertNotIn("pss_bytes", self.process(agent, 1))

        def settled() -> bool:  # the newest sample may be a second old
            process = self.memory(agent, "--pss")["processes"][0]
            self.assertGreater(process["pss_bytes"], MIB)
            return bool(process["pss_bytes"] < process["rss_bytes"] + 4 * MIB)

        wait_until(settled, 10, "a sample that fits")
        self.assertIn(", PSS ", agent.cli("memory", "--pss").stdout)

    def test_eight_devices_and_who_uses_them(self) -> None:
        agent = Agent(env={"COMFYMON_DESTINATIONS": "none", "COMFYMON_AUTOSTART": "0",
                           "COMFYMON_NVML": FAKE_NVML, "FAKE_NVML_GPUS": "8"})
        self.addCleanup(agent.close)
        comfy = self.comfy(agent)
        assert comfy.process
        agent.env["FAKE_NVML_PID"] = str(comfy.process.pid)
        agent.start()
        wait_until(lambda: any(p["gpu_bytes"] for p in self.memory(agent)["processes"]), 15, "what it holds on devices")
        gpus = self.memory(agent)["gpus"]
        self.assertEqual([(g["index"], g["name"], g["answers"]) for g in gpus],
                         [(i, f"Fake GPU {i}", True) for i in range(8)])
        ours = gpus[3]["columns"].index("comfyui_bytes")
        wait_until(lambda: self.memory(agent)["gpus"][3]["points"][-1][ours] == 1 << 30, 10, "ComfyUI's part of a device")
        page = agent.cli("memory").stdout
        self.assertEqual(len(re.findall(r"\nGPU \d Fake GPU \d .* GiB of 80 GiB", page)), 8)
        self.assertEqual(page.count("\n  of it ComfyUI's "), 8)


class Restarts(Memory):
    def test_jobs_and_nodes_are_known_after_a_restart_of_the_agent(self) -> None:
        agent = self.start_agent()
        comfy = self.comfy(agent)
        for i in range(8):
            self.allocate(comfy, 20 + i % 2, True)
        before = self.process(agent, 8)
        agent.kill9()
        self.assertEqual(agent.cli("memory").returncode, NO_AGENT)
        agent.start()
        self.allocate(comfy, 20, True)
        after = self.process(agent, 9)
        self.assertEqual((after["pid"], after["trend"]["state"]), (before["pid"], "grows"))
        for was, known in zip(before["jobs"], after["jobs"]):
            self.assertEqual((was["prompt_id"], was["top"], was["peak_bytes"], [n["id"] for n in was["nodes"]]),
                             (known["prompt_id"], known["top"], known["peak_bytes"], [n["id"] for n in known["nodes"]]))
            self.assertAlmostEqual(was["from_ns"], known["from_ns"], delta=5e8)

    def test_a_death_in_the_midst_of_a_job_and_what_came_after_it(self) -> None:
        agent = self.start_agent()
        comfy = self.comfy(agent)
        self.allocate(comfy, 10, False)
        comfy.wait_running(comfy.submit(workflow("hang")))
        wait_until(lambda: any(job["to_ns"] is None for p in self.memory(agent)["processes"] for job in p["jobs"]), 10,
                   "the job that runs")
        self.assertIn(" runs\n", agent.cli("memory").stdout)
        comfy.send_signal(signal.SIGKILL)
        self.allocate(self.comfy(agent), 10, False)
        wait_until(lambda: len(self.memory(agent)["processes"]) == 2, 10, "two processes")
        wait_until(lambda: [p["alive"] for p in self.processes(agent)] == [False, True], 10, "the end of the first")
        wait_until(lambda: self.processes(agent)[1]["jobs"], 10, "the job of the second")
        first, second = self.processes(agent)
        self.assertEqual([job["unfinished"] for job in first["jobs"]], [False, True])
        self.assertEqual([job["unfinished"] for job in second["jobs"]], [False])
        self.assertLess(first["started_ns"], first["ended_ns"])
        self.assertLess(first["ended_ns"] - 2e9, second["started_ns"])
        page = agent.cli("memory").stdout
        self.assertEqual(len(re.findall(r"\nComfyUI \d+: (?:ended|now) ", page)), 2)
        self.assertRegex(page, r"─✗─")
        self.assertRegex(page, r"─▲─")
        self.assertIn(" died\n", page)

    def processes(self, agent: Agent) -> List[Dict[str, Any]]:
        return sorted(self.memory(agent)["processes"], key=lambda p: int(p["started_ns"]))


if __name__ == "__main__":
    unittest.main()
