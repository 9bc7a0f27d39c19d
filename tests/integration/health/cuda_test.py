"""Jobs that fail by the device: twice in a row it is poisoned, for its memory's end it is not, and who is supervised begins anew."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any, Dict, List

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS), str(TESTS / "standin"), str(Path(__file__).resolve().parent)]
from client import PINNED, ComfyError, ComfyUI, workflow  # noqa: E402
from health_test import NODE, Health  # noqa: E402
from support.harness import binary, wait_until  # noqa: E402

FINAL = ("succeeded", "failed", "lost")
GENERATIONS = (("p0364", "illegal_access"), ("p038", "accelerator"))


def failing(case: str, seed: int) -> Dict[str, Any]:
    return {"1": {"class_type": "StandinMachineError", "inputs": {"value": seed, "case": case}},
            "2": {"class_type": "StandinOut", "inputs": {"value": ["1", 0]}}}


class Device(Health):
    count = 0

    def run_failing(self, host: ComfyUI, case: str) -> str:
        self.count += 1
        prompt_id = host.submit(failing(case, self.count))
        host.wait(prompt_id)
        return prompt_id

    def rows(self) -> Dict[str, Dict[str, Any]]:
        out = subprocess.run([str(binary()), "jobs", "--json"], env=self.env, capture_output=True, timeout=20, check=False).stdout
        return {row["prompt_id"]: row for row in map(json.loads, out.splitlines())}

    def wait_ended(self, *prompt_ids: str) -> List[Dict[str, Any]]:
        wait_until(lambda: all(self.rows().get(one, {"state": ""})["state"] in FINAL for one in prompt_ids), 15, "the jobs' ends")
        rows = self.rows()
        return [rows[one] for one in prompt_ids]

    def deaths(self) -> List[Dict[str, Any]]:
        out = subprocess.run([str(binary()), "deaths", "--json"], env=self.env, capture_output=True, timeout=20, check=False).stdout
        return [json.loads(line) for line in out.splitlines()]

    def supervised(self, profile: str) -> ComfyUI:
        base = self.base / ("comfy-" + profile)
        base.mkdir()
        host = ComfyUI(kind=PINNED, env={**self.env, "COMFYMON_RUN_DRAIN": "1s", "COMFYMON_GRACE": "3s"}, base=str(base),
                       profile=profile, node_dirs=[NODE], wrapper=[str(binary()), "run", "--"])
        self.addCleanup(host.close)
        self.addCleanup(host.stop, signal.SIGTERM)
        host.start()
        return host


class Seen(Device):
    def test_two_in_a_row_are_named_and_left_alone_unless_told_otherwise(self) -> None:
        self.start_agent()
        for profile, case in GENERATIONS:
            with self.subTest(profile=profile):
                host = self.comfy(profile=profile)
                self.wait_state("well")
                failed = [self.run_failing(host, case)]
                rows = self.wait_ended(*failed)
                self.assertEqual((rows[0]["state"], rows[0]["reason"], rows[0]["device_error"]), ("failed", "device_error", True))
                wait_until(lambda: self.process().get("device_failures") == 1, 10, "it to be counted")
                self.assertEqual(self.process()["state"], "well")
                host.run(workflow("tiny"))  # it works: not poisoned
                wait_until(lambda: self.process().get("device_failures") == 0, 10, "the count to begin anew")
                self.assertTrue(self.health()["ready"])
                before = self.health()["ill"]["cuda_poisoned"]
                for _ in range(2):
                    self.run_failing(host, case)
                seen = self.wait_state("cuda_poisoned")
                self.assertEqual((seen["why"], seen["restart_asked"], seen["worker_alive"]),
                                 ("2 jobs in a row failed by an error of the device", False, True))
                health = self.health()
                self.assertEqual((health["ready"], health["healthy"], health["ill"]["cuda_poisoned"]), (False, False, before + 1))
                self.assertRegex(health["wrong"], f"^pid {host.pid} is cuda_poisoned: ")
                host.stop(signal.SIGINT)
                wait_until(lambda: self.health()["healthy"], 15, "the process to be forgotten")

    def test_a_job_that_the_device_cannot_run_is_no_poison(self) -> None:
        self.start_agent()
        host = self.comfy(profile="p038")
        self.wait_state("well")
        for row in self.wait_ended(*[self.run_failing(host, case) for case in ("no_image", "argument", "no_image", "cudnn")]):
            self.assertEqual((row["state"], row["reason"], row["device_error"]), ("failed", "error", False), row)
        self.assertEqual((self.process()["state"], self.process()["device_failures"]), ("well", 0))

    def test_an_end_of_its_memory_is_no_poison(self) -> None:
        self.start_agent()
        for profile, cases in (("p0364", ("cuda_out", "wrapped_memory")), ("p038", ("accelerator_out", "cuda_out"))):
            with self.subTest(profile=profile):
                host = self.comfy(profile=profile)
                self.wait_state("well")
                ids = [self.run_failing(host, case) for case in cases] + [host.submit(workflow("gpu_oom"))]
                for row in self.wait_ended(*ids):
                    self.assertEqual((row["state"], row["reason"], row["device_error"]), ("failed", "oom_gpu", False), row)
                seen = self.process()
                self.assertEqual((seen["state"], seen["device_failures"]), ("well", 0))
                self.assertTrue(self.health()["ready"])
                host.stop(signal.SIGINT)
                wait_until(lambda: self.health()["processes"] == [], 15, "the process to be forgotten")


class Supervised(Device):
    def test_it_begins_anew_when_the_jobs_are_marked(self) -> None:
        self.env["COMFYMON_HEALTH_RESTART"] = "cuda_poisoned"
        host = self.supervised("p038")
        first = self.wait_state("well", 30)
        ids = [self.run_failing(host, "accelerator") for _ in range(2)]

        def other() -> bool:
            try:
                return bool(host.stats()["standin"]["pid"] != first["pid"])
            except (OSError, ComfyError):
                return False

        wait_until(other, 30, "another ComfyUI")
        for row in self.wait_ended(*ids):
            self.assertEqual((row["state"], row["reason"], row["signal"], row["device_error"]), ("failed", "device_error", None, True))
        self.assertEqual(host.run(workflow("tiny"))["status"]["status_str"], "success")
        fresh = self.wait_state("well", 30)
        self.assertNotEqual(fresh["life"], first["life"])
        self.assertEqual(fresh["device_failures"], 0)
        told = self.deaths()
        self.assertEqual([(d["pid"], d["verdict"], d["restarted"]) for d in told], [(first["pid"], "cuda_poisoned", True)])
        health = self.health()
        self.assertEqual((health["restarts_asked"], health["ill"]["cuda_poisoned"], health["ready"]), (1, 1, True))

    def test_by_default_it_is_only_named(self) -> None:
        host = self.supervised("p0364")
        first = self.wait_state("well", 30)
        for _ in range(3):
            self.run_failing(host, "illegal_access")
        wait_until(lambda: self.process().get("device_failures") == 3, 15, "three to be counted")
        seen = self.wait_state("cuda_poisoned")
        self.assertEqual((seen["pid"], seen["restart_asked"], seen["device_failures"]), (first["pid"], False, 3))
        self.assertEqual(self.deaths(), [])


if __name__ == "__main__":
    unittest.main()
