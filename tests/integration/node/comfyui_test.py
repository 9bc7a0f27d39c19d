"""The node in a running ComfyUI: what is delivered, what survives, and that ComfyUI does as it would without.

The host is the stand-in. Spans are those of rows/, so that these tests are about the node, the
collector that it starts and the ring between them, whatever the hooks of ComfyUI's own are.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import unittest
from pathlib import Path
from typing import Any, Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parent))
from node import HERE, NODE, Place, alive, wait_until  # noqa: E402
from client import ComfyError, ComfyUI, workflow  # noqa: E402
from support.fake_datadog import FakeDatadog  # noqa: E402

ROWS = str(HERE / "rows")
BOTH = [str(NODE), ROWS]
SCENARIOS = ("quick", "failing", "failing_unicode", "lazy", "subgraph", "subgraph_failing", "async_two", "async_failing",
             "blocked", "list_fan_out", "vae_tiled_retry", "gpu_oom", "steps", "threads")


def test_graph(kind: str, count: int) -> Dict[str, Any]:
    return {"1": {"class_type": kind, "inputs": {"value": 1, "count": count}},
            "2": {"class_type": "StandinOut", "inputs": {"value": ["1", 0]}}}


def stat_fields(pid: int) -> List[str]:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def settled(place: Place, received: int) -> Dict[str, Any]:
    """The status once that many spans have come."""
    def there() -> Dict[str, Any]:
        status = place.status()
        return status if status and status["signals"]["trace"]["received"] >= received else {}
    return wait_until(there, 15, f"{received} spans received, has {place.status().get('signals')}", 0.1)


def spoken(comfy: ComfyUI, name: str) -> Any:
    """All that a client gets to know of one prompt, without what differs from run to run."""
    try:
        entry = comfy.run(workflow(name))
    except ComfyError as refused:
        entry = {"refused": refused.status, "body": refused.body}
    text = json.dumps(entry, sort_keys=True)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID", text)
    text = re.sub(r'"timestamp": \d+', '"timestamp": 0', text)
    return json.loads(re.sub(r"comfymon-base-\w+", "BASE", text))


class Comfy(unittest.TestCase):
    def place(self, **more: Any) -> Place:
        place = Place(**more)
        self.addCleanup(place.close)
        return place

    def test_a_job_reaches_datadog_and_a_kill_leaves_its_open_spans(self) -> None:
        with FakeDatadog() as dd:
            place = self.place(url=dd.url)
            with place.comfy(BOTH) as comfy:
                agent = place.wait_agent()
                comfy.run(workflow("tiny"))
                killed = comfy.submit(workflow("hang"))
                comfy.wait_running(killed)
                settled(place, 4)
                self.assertEqual(int(stat_fields(agent)[3]), agent, "a session of its own")
                self.assertNotEqual(int(stat_fields(agent)[1]), comfy.pid)
                self.assertEqual(os.readlink(f"/proc/{agent}/cwd"), "/")
                comfy.send_signal(signal.SIGKILL)
                self.assertEqual(comfy.wait_exit(), -signal.SIGKILL)
            self.assertTrue(alive(agent))

            def dead() -> List[Dict[str, Any]]:
                return [span for span in dd.spans() if span["meta"].get("comfymon.unfinished") == "true"]

            open_then = ["comfyui.node.execute", "comfyui.workflow.execute", "test.job", "test.node"]
            wait_until(lambda: sorted(span["name"] for span in dead()) == open_then, 15, "the open spans, each once")
            by_name = {span["name"]: span for span in dead()}
            self.assertEqual(by_name["comfyui.workflow.execute"]["meta"]["prompt.id"], killed)
            self.assertEqual(by_name["comfyui.node.execute"]["meta"]["node.class_type"], "StandinHang")
            self.assertEqual(by_name["comfyui.node.execute"]["meta"]["node.id"], "2")
            jobs = [by_name["test.job"]]
            self.assertEqual(jobs[0]["meta"]["prompt"], killed)
            self.assertEqual({span["error"] for span in dead()}, {1})
            self.assertEqual(by_name["comfyui.node.execute"]["parent_id"], by_name["comfyui.workflow.execute"]["span_id"])
            whole = [span for span in dd.spans() if span["name"] == "test.job" and span not in jobs]
            self.assertEqual(len(whole), 1, "the job before, once")
            self.assertEqual([p for p in place.dirs.run.iterdir() if p.name.startswith("ring-")], [])

    def test_a_module_that_appears_after_us_is_watched_from_the_first_job_on(self) -> None:
        place = self.place()
        with place.comfy(BOTH) as comfy:
            place.wait_agent()
            comfy.run(test_graph("TestSpans", 1))
            wait_until(lambda: "test.late" in {span["name"] for t in place.traces() for span in place.spans(t["trace_id"])},
                       10, "the late module's span")

    def test_a_client_sees_the_same_with_us_without_us_and_switched_off(self) -> None:
        seen = {}
        for kind, nodes, env in (("with", BOTH, {}), ("without", [ROWS], {}), ("off", BOTH, {"DD_TRACE_ENABLED": "false"})):
            place = self.place()
            with place.comfy(nodes, env=env) as comfy:
                seen[kind] = {name: spoken(comfy, name) for name in (*SCENARIOS, "invalid", "cycle")}
                early = comfy.stats()["standin"]["early_torch_imports"]
                self.assertEqual(early, [])
                self.assertEqual(comfy.stop(signal.SIGINT), 0)
                if kind == "off":
                    self.assertIn("comfymon is off: DD_TRACE_ENABLED=false", comfy.log())
                    self.assertEqual(list(place.dirs.run.iterdir()), [])
                    self.assertEqual(place.agent_pid(), 0)
        for name in seen["without"]:
            self.assertEqual(seen["with"][name], seen["without"][name], name)
            self.assertEqual(seen["off"][name], seen["without"][name], name)

    def test_without_autostart_the_ring_waits_for_a_collector(self) -> None:
        place = self.place(env={"COMFYMON_AUTOSTART": "0"})
        with place.comfy(BOTH) as comfy:
            comfy.run(test_graph("TestSpans", 500))
            self.assertEqual(place.agent_pid(), 0)
            comfy.send_signal(signal.SIGKILL)
            comfy.wait_exit()
        self.assertEqual(len(list(place.dirs.run.glob("ring-*.cm"))), 1)
        place.autostart_by_hand()
        settled(place, 503)
        wait_until(lambda: not list(place.dirs.run.glob("ring-*.cm")), 10, "the dead ring's end")

    def test_the_next_agent_learns_of_the_hooks_of_a_host_that_goes_on(self) -> None:
        place = self.place(env={"COMFYMON_AUTOSTART": "0"})

        def hooks() -> Dict[str, Any]:
            return next((p.get("hooks", {}) for p in place.status().get("probes", [])), {})

        place.autostart_by_hand()
        with place.comfy(BOTH) as comfy:
            comfy.run(workflow("tiny"))
            told = wait_until(hooks, 10, "hooks of the host")
            self.assertGreater(told["attached"], 10)
            for number in (signal.SIGKILL, signal.SIGTERM):
                place.stop_agent(number)
                place.autostart_by_hand()
                # Nothing happens in the host meanwhile.
                self.assertEqual(wait_until(hooks, 20, f"hooks, told to the agent after one that got {number!r}"), told)

    def test_the_agent_ends_when_nobody_needs_it_and_the_next_host_starts_one(self) -> None:
        place = self.place(env={"COMFYMON_IDLE_EXIT": "1s"})
        for spans in (1, 2):
            with place.comfy(BOTH) as comfy:
                agent = place.wait_agent()
                comfy.run(workflow("tiny"))
                settled(place, 3 * spans)
            wait_until(lambda: not alive(agent), 10, "the idle agent's end")
            self.assertIn("stopping reason=no_probe", place.log())

    def test_two_hosts_share_one_collector(self) -> None:
        place = self.place()
        with place.comfy(BOTH) as one, place.comfy(BOTH) as two:
            agent = place.wait_agent()
            self.assertIn("collector: present", two.log())
            for comfy in (one, two):
                comfy.run(test_graph("TestSpans", 100))
            status = settled(place, 2 * 103)
            self.assertEqual({p["pid"] for p in status["probes"] if p["alive"]}, {one.pid, two.pid})
            one.send_signal(signal.SIGKILL)
            one.wait_exit()
            two.run(workflow("tiny"))
            settled(place, 2 * 103 + 3)
            self.assertEqual(place.agent_pid(), agent)

    def test_a_buffer_that_serves_another_run_directory_is_told(self) -> None:
        first = self.place()
        with first.comfy(BOTH):
            first.wait_agent()
            second = self.place(env={"COMFYMON_DATA_DIR": str(first.dirs.data)})
            with second.comfy(BOTH) as comfy:
                self.assertEqual(comfy.run(workflow("tiny"))["status"]["status_str"], "success")
                wait_until(lambda: f"data_dir_taken path={first.dirs.data} by_pid={first.agent_pid()}" in second.log(), 10,
                           "the reason in the agent's log")
                self.assertIn("the last one ended: data_dir_taken", second.verb("doctor").stdout)

    def test_an_exec_in_place_ends_one_probe_and_begins_another(self) -> None:
        place = self.place()
        with place.comfy(BOTH) as comfy:
            place.wait_agent()
            restarted = comfy.submit(workflow("exec_restart"))
            wait_until(lambda: comfy.log().count("comfymon 0.1.0 is on") == 2, 20, "the second start in one process")
            comfy.wait_ready()

            def told() -> List[Any]:
                return [span["meta"].get("comfymon.unfinished") for t in place.traces()
                        for span in place.spans(t["trace_id"]) if span["meta"].get("prompt") == restarted]
            wait_until(lambda: told() == ["true"], 10, "the job that the exec ended, once, unfinished")
            status = place.status()
            comfy.run(workflow("tiny"))
            settled(place, status["signals"]["trace"]["received"] + 3)
            alive_now = [p["pid"] for p in place.status()["probes"] if p["alive"]]
            self.assertEqual(alive_now, [comfy.pid])

    def test_a_storm_of_forks_harms_nobody(self) -> None:
        place = self.place()
        with place.comfy(BOTH) as comfy:
            place.wait_agent()
            done = comfy.run(test_graph("TestForks", 60))
            self.assertEqual(done["outputs"]["2"]["text"], ["60"], "every child ended well")
            comfy.run(workflow("tiny"))
            settled(place, 3 + 3)
            wait_until(lambda: len(list(place.dirs.run.glob("ring-*.cm"))) == 1, 20, "the children's rings to be read")
            self.assertTrue(place.status()["signals"]["trace"]["identity"])
            children = [span for t in place.traces() for span in place.spans(t["trace_id"]) if span["name"] == "test.child"]
            self.assertGreaterEqual(len(children), 20, "at least one child had a ring")
            self.assertEqual(len(children) % 20, 0, "a child's spans come all")
            self.assertEqual(len({span["span_id"] for span in children}), len(children))
            self.assertEqual(comfy.stop(signal.SIGINT), 0)


if __name__ == "__main__":
    unittest.main()
