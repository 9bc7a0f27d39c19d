"""The whole way under the Python that runs this file: stand-in, node, collector, traces; and a kill.

It needs aiohttp, so it is run from the virtual environment that newest_aiohttp.sh makes.
"""

from __future__ import annotations

import signal
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from node import NODE, Place, wait_until  # noqa: E402
from client import workflow  # noqa: E402

MINOR = "%d.%d" % sys.version_info[:2]


class Minor(unittest.TestCase):
    def test_jobs_become_traces_and_the_killed_one_is_told(self) -> None:
        with Place() as place, place.comfy(python=sys.executable) as comfy:
            place.wait_agent()
            self.assertIn(f".cpython-{MINOR.replace('.', '')}-", Path(f"/proc/{comfy.pid}/maps").read_text())
            jobs = {name: comfy.submit(workflow(name)) for name in ("quick", "async_two", "failing")}
            for prompt in jobs.values():
                comfy.wait(prompt)
            killed = comfy.submit(workflow("hang"))
            comfy.wait_running(killed)

            def told(prompt: str, tag: str) -> str:
                found = [span for t in place.traces("--text", "comfyui.workflow.execute") for span in place.spans(t["trace_id"])
                         if span["meta"].get("prompt.id") == prompt and span["name"] == "comfyui.workflow.execute"]
                return str(found[0]["meta"].get(tag)) if found else "nothing"

            wanted = {"quick": "success", "async_two": "success", "failing": "error"}
            for name, outcome in wanted.items():
                wait_until(lambda: told(jobs[name], "workflow.status") == outcome, 15, f"{name} to be told as {outcome}")
            comfy.send_signal(signal.SIGKILL)
            comfy.wait_exit()
            wait_until(lambda: told(killed, "comfymon.unfinished") == "true", 15, "the killed job")
            self.assertTrue(place.status()["signals"]["trace"]["identity"])
            self.assertEqual([p["drops"] for p in place.status()["probes"]], [{}])


if __name__ == "__main__":
    print(f"CPython {sys.version.split()[0]}, node {NODE}")
    unittest.main()
