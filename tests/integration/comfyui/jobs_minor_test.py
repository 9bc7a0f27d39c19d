"""Jobs with the Python that runs this file: what differs between minors is how coroutines, contexts and exceptions work."""

from __future__ import annotations

import signal
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from comfyhost import Host, wait_for  # noqa: E402
from jobs_test import JOB, NEIGHBOURS, NODE, Case, run, workflow  # noqa: E402


class ThisMinor(Case):
    def test_runs_jobs_of_every_kind(self) -> None:
        for profile in ("p0364", "p038"):
            with self.subTest(profile=profile), Host(profile=profile, python=sys.executable) as comfy:
                for name, status, nodes in (("quick", "success", 8), ("lazy", "success", 4), ("async_two", "success", 4),
                                            ("subgraph_failing", "error", 3), ("interrupt_self", "interrupted", 3)):
                    job = run(comfy, name)
                    self.check_tree(job)
                    self.assertEqual((job.run.meta["workflow.status"], job.run.metrics["workflow.node_count"]), (status, nodes))
                self.assertEqual(comfy.open_slots(), [])
                self.assertEqual(comfy.stop(signal.SIGINT), 0, comfy.log()[-2000:])

    def test_runs_between_bad_neighbours_with_every_object_checked(self) -> None:
        env = {"PYTHONMALLOC": "debug", "PYTHONDEVMODE": "1"}
        with Host(python=sys.executable, node_dirs=NEIGHBOURS, env=env) as comfy:
            for name in ("list_fan_out", "async_failing", "twins"):
                self.check_tree(run(comfy, name))
            comfy.submit(workflow("zombie"))
            wait_for(lambda: any("workflow.worker_died" in s.meta for s in comfy.spans(JOB)))
            self.assertEqual([s.resource for s in comfy.spans(NODE)].count("StandinExit"), 1)
            self.assertNotIn("Fatal Python error", comfy.log())


if __name__ == "__main__":
    unittest.main()
