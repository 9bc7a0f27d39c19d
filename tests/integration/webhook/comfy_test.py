"""From ComfyUI to a receiver: jobs of the stand-in that end well, fail, are taken out of the queue, or die with their
process; what `jobs` and `job` say of them is what the webhook was told."""

from __future__ import annotations

import json
import os
import signal
import sys
import unittest
from pathlib import Path
from typing import Any, Dict, List

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS), str(TESTS / "standin")]
from client import ComfyUI, workflow  # noqa: E402
from support.harness import ROOT, Agent, wait_until  # noqa: E402
from support.hook_receiver import HookReceiver, is_signed  # noqa: E402
from support.json_schema import problems  # noqa: E402

NODE = Path(os.environ.get("COMFYMON_BUILD") or ROOT / "build/release") / "node" / "comfymon"
JOB = json.loads((ROOT / "schema" / "views" / "jobs.schema.json").read_text(encoding="utf-8"))
SECRET = "between us"


class ComfyTold(unittest.TestCase):
    def setUp(self) -> None:
        self.hook = HookReceiver()
        self.addCleanup(self.hook.close)
        self.agent = Agent(env={"COMFYMON_DESTINATIONS": "none", "COMFYMON_WEBHOOK_URL": self.hook.url,
                                "COMFYMON_WEBHOOK_SECRET": SECRET})
        self.addCleanup(self.agent.close)
        self.agent.start()
        self.host = ComfyUI(kind="standin", node_dirs=[str(NODE)], base=str(self.agent.dirs.base), env={
            "COMFYMON_RUN_DIR": str(self.agent.dirs.run), "COMFYMON_DATA_DIR": str(self.agent.dirs.data),
            "COMFYMON_AUTOSTART": "0"})
        self.addCleanup(self.host.close)
        self.host.start()

    def told(self, prompt: str) -> Dict[str, Any]:
        """The one notice of a prompt."""
        def find() -> List[Dict[str, Any]]:
            return [call.job for call in self.hook.told() if call.job["prompt_id"] == prompt]
        wait_until(lambda: find(), 20, f"a notice of {prompt}")
        found = find()
        self.assertEqual(len(found), 1)
        self.assertEqual(list(problems(JOB, found[0])), [])
        return found[0]

    def test_every_end_of_a_job_is_told_as_the_journal_has_it(self) -> None:
        well = self.host.submit(workflow("quick"))
        failed = self.host.submit(workflow("failing"))
        self.host.wait(failed)
        hangs = self.host.submit(workflow("hang"))
        self.host.wait_running(hangs)
        cancelled = self.host.submit(workflow("quick"))
        waits = self.host.submit(workflow("sleep"))
        self.host.delete(cancelled)
        self.assertEqual(self.told(well)["state"], "succeeded")
        self.assertEqual(self.told(cancelled)["state"], "cancelled")
        wrong = self.told(failed)
        self.assertEqual((wrong["state"], wrong["reason"]), ("failed", "error"))
        self.assertTrue(wrong["node_id"] and wrong["node_class"] and wrong["error_type"])
        self.host.send_signal(signal.SIGKILL)
        self.host.wait_exit(10)
        died = self.told(hangs)
        self.assertEqual((died["state"], bool(died["reason"]), bool(died["node_id"])), ("failed", True, True))
        self.assertEqual(self.told(waits)["state"], "lost")
        listed = {job["prompt_id"]: job for job in map(json.loads, self.agent.cli("jobs", "--json").stdout.splitlines())}
        self.assertEqual(set(listed), {well, failed, hangs, cancelled, waits})
        for call in self.hook.calls:
            self.assertTrue(is_signed(call, SECRET))
            self.assertEqual(call.job, listed[call.job["prompt_id"]])
        for prompt in listed:
            self.assertEqual(json.loads(self.agent.cli("job", prompt, "--json").stdout), listed[prompt])
        shown = self.agent.cli("job", failed[:13]).stdout
        self.assertIn(f"comfymon trace {wrong['trace_id']}", shown)
        self.assertEqual(self.agent.cli("trace", wrong["trace_id"]).returncode, 0)


if __name__ == "__main__":
    unittest.main()
