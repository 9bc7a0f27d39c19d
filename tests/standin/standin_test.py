"""The stand-in's own promises, beyond the recordings: each generation, deaths, neighbours."""
from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import unittest
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from client import BAD_NEIGHBOURS, ComfyError, ComfyUI, free_port, workflow  # noqa: E402

PROFILES = ("p2024a", "p010", "p0345", "p0364", "p0368", "p0100", "p038", "pfuture", "plifecycle",
            "pminimal")
PEEK = os.path.join(HERE, "test_nodes", "peek")
LIFECYCLE = os.path.join(HERE, "test_nodes", "lifecycle")
NEIGHBOURS = [os.path.join(BAD_NEIGHBOURS, name) for name in ("aaa_before", "zzz_after")]


def standin(**more: Any) -> ComfyUI:
    return ComfyUI(kind="standin", **more)


class Generations(unittest.TestCase):
    def test_each_generation_runs_success_failure_and_interrupt(self) -> None:
        for profile in PROFILES:
            with self.subTest(profile=profile), standin(profile=profile) as comfy:
                self.assertEqual(comfy.run(workflow("quick"))["status"]["status_str"], "success")
                failed = comfy.run(workflow("failing"))
                self.assertEqual(failed["status"]["status_str"], "error")
                self.assertIn("execution_error", dict(failed["status"]["messages"]))
                running = comfy.submit(workflow("interrupted"))
                comfy.wait_running(running)
                while running not in comfy.history(running):  # one at its very start is lost
                    comfy.interrupt()
                    time.sleep(0.05)
                self.assertIn("execution_interrupted",
                              dict(comfy.wait(running)["status"]["messages"]))
                self.assertEqual(comfy.stop(signal.SIGINT), 0)

    def test_each_generation_works_between_bad_neighbours(self) -> None:
        for profile in PROFILES:
            with self.subTest(profile=profile), \
                    standin(profile=profile, node_dirs=NEIGHBOURS) as comfy:
                self.assertEqual(comfy.run(workflow("tiny"))["status"]["status_str"], "success")
                self.assertNotIn("IMPORT FAILED", comfy.log())

    def test_lifecycle_handlers_hear_each_job_to_its_end(self) -> None:
        with standin(profile="plifecycle", node_dirs=[LIFECYCLE]) as comfy:
            good = comfy.submit(workflow("tiny"))
            comfy.wait(good)
            bad = comfy.submit(workflow("failing"))
            comfy.wait(bad)
            time.sleep(0.2)
            self.assertEqual(comfy.request("GET", "/lifecycle"),
                             [["queued", good], ["started", good], ["succeeded", good],
                              ["queued", bad], ["started", bad], ["failed", bad]])

    def test_newest_generation_refuses_an_id_that_is_no_uuid(self) -> None:
        with standin(profile="p038") as comfy:
            with self.assertRaises(ComfyError) as refused:
                comfy.submit(workflow("tiny"), prompt_id="mine")
            self.assertEqual(refused.exception.status, 400)
            self.assertEqual(refused.exception.body["error"]["type"], "invalid_prompt_id")


class StartUp(unittest.TestCase):
    def test_names_who_asks_for_torch_before_its_time(self) -> None:
        with standin(node_dirs=[PEEK]) as comfy:
            early = comfy.stats()["standin"]["early_torch_imports"]
            self.assertEqual(len(early), 1)
            self.assertTrue(early[0].endswith("peek/prestartup_script.py"))
        with standin() as comfy:
            self.assertEqual(comfy.stats()["standin"]["early_torch_imports"], [])

    def test_a_context_variable_reaches_the_queue_and_not_the_worker(self) -> None:
        with standin(node_dirs=[PEEK]) as comfy:
            comfy.run(workflow("tiny"), headers={"X-Peek": "abc"}, path="/api/prompt")
            self.assertEqual(comfy.request("GET", "/peek"), {
                "on_prompt": "abc", "validate_prompt": "abc", "put": "abc", "worker": "unset"})

    def test_a_base_without_custom_nodes_is_fatal(self) -> None:
        with tempfile.TemporaryDirectory() as base:
            comfy = standin(base=base)
            comfy.spawn()
            self.assertEqual(comfy.wait_exit(), 1)
            self.assertIn("FileNotFoundError", comfy.log())

    def test_port_zero_is_chosen_and_printed(self) -> None:
        comfy = standin()
        comfy.port = 0
        try:
            comfy.prepare()
            comfy.spawn()
            mark = "To see the GUI go to: http://127.0.0.1:"
            end = time.monotonic() + 20.0
            while mark not in comfy.log() and time.monotonic() < end:
                time.sleep(0.05)
            comfy.port = int(comfy.log().split(mark)[1].split()[0])
            self.assertEqual(comfy.run(workflow("tiny"))["status"]["status_str"], "success")
        finally:
            comfy.close()


class Deaths(unittest.TestCase):
    def _death(self, name: str) -> int:
        with standin() as comfy:
            comfy.submit(workflow(name))
            return comfy.wait_exit()

    def test_dies_by_the_signal_each_scenario_names(self) -> None:
        self.assertEqual(self._death("segfault"), -signal.SIGSEGV)
        self.assertEqual(self._death("abort"), -signal.SIGABRT)
        self.assertEqual(self._death("sigkill"), -signal.SIGKILL)

    def test_sigterm_ends_at_once_and_sigint_cleanly(self) -> None:
        with standin() as comfy:
            prompt_id = comfy.submit(workflow("hang"))
            comfy.wait_running(prompt_id)
            self.assertEqual(comfy.stop(signal.SIGTERM), -signal.SIGTERM)
        with standin() as comfy:
            self.assertEqual(comfy.stop(signal.SIGINT), 0)
            self.assertIn("Stopped server", comfy.log())

    def test_exit_in_a_node_leaves_a_zombie_that_answers(self) -> None:
        with standin() as comfy:
            stuck = comfy.submit(workflow("zombie"))
            comfy.wait_running(stuck)
            time.sleep(0.5)
            waiting = comfy.submit(workflow("tiny"))
            time.sleep(0.3)
            queue = comfy.queue()
            self.assertEqual([item[1] for item in queue["queue_running"]], [stuck])
            self.assertEqual([item[1] for item in queue["queue_pending"]], [waiting])
            self.assertEqual(comfy.history(), {})

    def test_restart_in_place_keeps_the_process_and_loses_its_jobs(self) -> None:
        with standin() as comfy:
            pid = comfy.pid
            done = comfy.submit(workflow("tiny"))
            comfy.wait(done)
            comfy.submit(workflow("exec_restart"))
            end = time.monotonic() + 30.0
            while time.monotonic() < end:
                comfy.wait_ready()
                try:
                    if not comfy.history() and not comfy.queue()["queue_running"]:
                        break
                except OSError:
                    pass
                time.sleep(0.05)
            self.assertEqual(comfy.stats()["standin"]["pid"], pid)
            self.assertEqual(comfy.run(workflow("tiny"))["status"]["status_str"], "success")

    def test_a_taken_port_is_fatal(self) -> None:
        with standin(port=free_port()) as comfy:
            second = standin(port=comfy.port)
            try:
                second.prepare()
                second.spawn()
                self.assertEqual(second.wait_exit(), 1)
            finally:
                second.close()


if __name__ == "__main__":
    unittest.main(verbosity=2)
