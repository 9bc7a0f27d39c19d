"""config/quickstart.sh, from the built tree on: both traces, the status, what to do next, and nothing left behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from node import BUILD, NODE, ROOT  # noqa: E402

NOBODY = 65534


def quickstart(*before: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*before, str(ROOT / "config" / "quickstart.sh"), "--built"], text=True, capture_output=True,
                          timeout=90, check=False, stdin=subprocess.DEVNULL,
                          env={**os.environ, "COMFYMON_BUILD": str(BUILD), **env})


class Quickstart(unittest.TestCase):
    def shows_the_main_job(self, done: "subprocess.CompletedProcess[str]") -> None:
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        parts = done.stdout.split("\n== ")
        traces = [part for part in parts if part.startswith("comfymon trace ")]
        self.assertEqual(len(traces), 2, done.stdout)
        for trace in traces:
            for name in ("aiohttp.request POST /prompt", "comfyui.workflow.validate", "comfyui.queue.wait",
                         "comfyui.workflow.execute", "comfyui.node.execute"):
                self.assertIn(name, trace)
        self.assertEqual(sum("error: " in trace for trace in traces), 1)
        self.assertEqual(sum("comfyui.model.load" in trace for trace in traces), 1)
        self.assertEqual(sum("unfinished" in trace for trace in traces), 0)
        death = next(part for part in parts if part.startswith("comfymon death "))
        self.assertRegex(death, r"(oom_cgroup \(certain\)|limit_watch \(certain\))")
        self.assertRegex(death, r"running +\S+, node \d Standin")
        self.assertIn("started again", death)
        died = next(part for part in parts if part.startswith("the trace of that job"))
        self.assertIn("unfinished: killed.oom", died)
        jobs = next(part for part in parts if part.startswith("comfymon jobs"))
        self.assertEqual(re.findall(r" (succeeded|failed) ", jobs), ["succeeded", "failed", "failed", "succeeded"])
        memory = next(part for part in parts if part.startswith("comfymon memory"))
        self.assertRegex(memory, r"ComfyUI \d+: .*peak \d")
        self.assertEqual(len(re.findall(r"\n  [0-9a-f]{8} \w+", memory)), 4)
        self.assertEqual(len(re.findall(r" died\n", memory)), 2)  # the job and its node
        self.assertRegex(memory, r"ComfyUI \d+ ended: (oom_cgroup|limit_watch) \(certain\), started again")
        status = next(part for part in parts if part.startswith("comfymon status"))
        self.assertIn("0 queued + 0 in flight + 0 dropped + 0 rejected: holds", status)
        last = done.stdout.rstrip().splitlines()[-2:]
        self.assertIn("install --comfyui", last[0])
        self.assertIn("DD_TRACE_AGENT_URL", last[1])

    def test_shows_the_main_job_twice_in_a_row_and_leaves_nothing(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            for _ in range(2):
                done = quickstart(TMPDIR=place)
                self.shows_the_main_job(done)
                scratch = re.search(r"in (/tmp/comfymon-quickstart-\w+)/data", done.stdout)
                assert scratch
                self.assertFalse(Path(scratch.group(1)).exists())
                self.assertEqual(os.listdir(place), [])

    def test_the_readers_own_switches_do_not_reach_it(self) -> None:
        self.shows_the_main_job(quickstart(DD_TRACE_ENABLED="false", COMFYMON_AUTOSTART="0", DD_TRACE_SAMPLE_RATE="0"))

    @unittest.skipUnless(os.geteuid() == 0, "only root can try it as another user")
    def test_works_as_a_user_without_rights(self) -> None:
        drop = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        if subprocess.run([*drop, "test", "-r", str(NODE / "comfymon")], check=False).returncode != 0:
            self.skipTest(f"another user cannot read {NODE}")
        self.shows_the_main_job(quickstart(*drop, HOME="/nonexistent"))

    def test_a_host_that_does_not_start_is_a_failure(self) -> None:
        done = quickstart(STANDIN_PYTHON="/bin/false")
        self.assertNotEqual(done.returncode, 0)


if __name__ == "__main__":
    unittest.main()
