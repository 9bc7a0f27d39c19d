"""Jobs and their nodes, as each generation of ComfyUI runs them: the tree that TELEMETRY.md draws."""

from __future__ import annotations

import os
import signal
import sys
import threading
import unittest
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parent))
from comfyhost import HERE, LOCAL_ROOT, PROFILES, Host, Span, children, only, wait_for, workflow  # noqa: E402
from client import BAD_NEIGHBOURS  # noqa: E402

NEIGHBOURS = [os.path.join(BAD_NEIGHBOURS, name) for name in ("aaa_before", "zzz_after")]
REQUEST, VALIDATE, WAIT = "aiohttp.request", "comfyui.workflow.validate", "comfyui.queue.wait"
JOB, EVICT, NODE = "comfyui.workflow.execute", "comfyui.cache.evict", "comfyui.node.execute"
OLD = ("p2024a", "p010")  # nothing asynchronous, no registry of progress
WITHOUT_NODES = ("pminimal",)  # nodes are told to clients only

# TELEMETRY.md, section 2, of the spans that are tested here: nothing else may leave the process.
COMMON = {"component", "span.kind", "error.type", "error.message", "error.stack", "prompt.id", "oom", "device_error"}
WORKFLOW = {"job.id", "workflow.hash", "workflow.status", "workflow.node_count", "workflow.nodes_executed",
            "workflow.nodes_cached", "workflow.worker_died", "queue.number", "queue.item", "queue.wait_ms", "thread.id", "memory.rss.before_bytes",
            "memory.rss.after_bytes", "memory.rss.peak_bytes", "memory.held.outputs_bytes", "memory.held.outputs_bytes.gpu",
            "memory.held.models_bytes", "memory.held.models_bytes.gpu", "memory.held.top", "memory.unaccounted_bytes"}
ALLOWED = {
    VALIDATE: {"workflow.hash", "workflow.node_count"}, WAIT: {"queue.number", "queue.item", "workflow.status"}, EVICT: set(), JOB: WORKFLOW,
    NODE: {"node.id", "node.display_id", "node.parent_id", "node.class_type", "node.status", "node.cached", "node.attempts",
           "node.calls", "node.steps", "node.steps_per_s", "memory.rss.before_bytes", "memory.rss.after_bytes",
           "node.output_bytes", "node.output_bytes.gpu", "error.real_node", "error.real_class"}}


class Job:
    """The spans of one submitted prompt."""

    def __init__(self, spans: List[Span], prompt_id: str, minimal: bool = False) -> None:
        self.minimal = minimal
        self.run = only([s for s in spans if s.name == JOB and s.meta["prompt.id"] == prompt_id])
        self.spans = [s for s in spans if s.trace_id == self.run.trace_id]
        self.request = only([s for s in self.spans if s.name == REQUEST])
        self.nodes = {s.meta["node.id"]: s for s in self.spans if s.name == NODE}
        if len(self.nodes) != len([s for s in self.spans if s.name == NODE]):
            raise AssertionError("a node has more than one span")

    def named(self, name: str) -> Span:
        span: Span = only([s for s in self.spans if s.name == name])
        return span

    def statuses(self) -> Dict[str, str]:
        return {key: span.meta["node.status"] for key, span in self.nodes.items()}


def wait_job(comfy: Host, prompt_id: str) -> Job:
    """The job's spans, once its own and its request's are there."""
    comfy.wait(prompt_id)

    def found() -> bool:
        spans = comfy.spans()
        runs = [s for s in spans if s.name == JOB and s.meta["prompt.id"] == prompt_id]
        return bool(runs) and any(s.name == REQUEST and s.span_id == runs[0].parent_id for s in spans)

    wait_for(found)
    return Job(comfy.spans(), prompt_id, comfy.profile in WITHOUT_NODES)


def run(comfy: Host, name: str, **more: Any) -> Job:
    return wait_job(comfy, comfy.submit(workflow(name), **more))


class Case(unittest.TestCase):
    maxDiff = None

    def check_tags(self, spans: List[Span]) -> None:
        for span in spans:
            if span.name in ALLOWED:
                self.assertLessEqual((set(span.meta) | set(span.metrics)) - COMMON, ALLOWED[span.name], span)
                self.assertEqual(span.meta["component"], "comfyui")

    def check_tree(self, job: Job) -> None:
        """Request, check, wait and run; nodes below the run, those of a sub-graph below its node."""
        checks = [s for s in job.spans if s.name == VALIDATE]
        for span in (*checks, job.named(WAIT), job.run):
            self.assertEqual(span.parent_id, job.request.span_id, span)
        self.assertEqual([(s.resource, s.type) for s in checks], [(job.run.resource, "custom")] * (not job.minimal))
        self.assertEqual((job.run.type, job.named(WAIT).type), ("worker", "queue"))
        self.assertTrue(job.request.flags & LOCAL_ROOT)
        wait = job.named(WAIT)
        self.assertAlmostEqual(wait.duration_ns / 1e6, job.run.metrics["queue.wait_ms"], places=3)
        self.assertLessEqual(wait.start_ns + wait.duration_ns, job.run.start_ns)
        self.assertEqual(wait.metrics["queue.item"], job.run.metrics["queue.item"])
        for node in job.nodes.values():
            parent = node.meta.get("node.parent_id")
            above = job.nodes[parent] if parent else job.run
            self.assertEqual(node.parent_id, above.span_id, node)
            self.assertGreaterEqual(node.start_ns, above.start_ns)
            self.assertLessEqual(node.start_ns + node.duration_ns, above.start_ns + above.duration_ns)
            self.assertEqual((node.resource, node.type), (node.meta["node.class_type"], "worker"))
        self.check_tags(job.spans)

    def check_run(self, job: Job, status: str, nodes: int, executed: Optional[int] = None, cached: int = 0) -> None:
        self.assertEqual(job.run.meta["workflow.status"], status)
        self.assertEqual(job.run.error, status == "error")
        self.assertEqual(job.run.metrics["workflow.node_count"], nodes)
        self.assertEqual(job.run.metrics["workflow.nodes_cached"], cached)
        if executed is not None:
            self.assertEqual(job.run.metrics["workflow.nodes_executed"], executed)
        for when in ("before", "after", "peak"):
            self.assertGreater(job.run.metrics[f"memory.rss.{when}_bytes"], 1 << 20)
        self.assertGreaterEqual(job.run.metrics["memory.rss.peak_bytes"], job.run.metrics["memory.rss.after_bytes"])


class EveryGeneration(Case):
    def each(self, check: Callable[[str, Host], None], *leave_out: str) -> None:
        for profile in PROFILES:
            if profile not in leave_out:
                with self.subTest(profile=profile), Host(profile=profile) as comfy:
                    check(profile, comfy)

    def test_draws_the_tree_of_a_job_that_succeeds(self) -> None:
        def check(profile: str, comfy: Host) -> None:
            job = run(comfy, "steps")
            self.check_tree(job)
            self.assertRegex(job.run.resource, r"^StandinOut [0-9a-f]{8}$")
            self.assertTrue(job.run.meta["workflow.hash"].startswith(job.run.resource[-8:]))
            self.check_run(job, "success", 3, None if profile in WITHOUT_NODES else 3)
            if profile in WITHOUT_NODES:
                return
            self.assertEqual(job.statuses(), {"1": "success", "2": "success", "3": "success"})
            steps = job.nodes["2"]
            self.assertEqual((steps.resource, steps.metrics["node.steps"]), ("StandinSteps", 5))
            self.assertLess(steps.metrics["node.steps_per_s"], 1000)
            for node in job.nodes.values():
                self.assertEqual((node.metrics["node.attempts"], node.metrics["node.calls"]), (1, 1), node)
                self.assertGreater(node.metrics["memory.rss.before_bytes"], 1 << 20)

        self.each(check)

    def test_says_what_the_cache_answered(self) -> None:
        def check(profile: str, comfy: Host) -> None:
            run(comfy, "cached")
            job = run(comfy, "cached")
            self.check_tree(job)
            self.check_run(job, "success", 3, None if profile in WITHOUT_NODES else 0, 3)
            if profile not in WITHOUT_NODES:
                self.assertEqual(job.statuses(), {"3": "cached"})
                self.assertEqual(job.nodes["3"].meta["node.cached"], "true")

        self.each(check)

    def test_names_the_node_that_failed(self) -> None:
        def check(profile: str, comfy: Host) -> None:
            job = run(comfy, "gpu_oom")
            self.check_tree(job)
            self.check_run(job, "error", 3)
            for span in [job.run, *([] if profile in WITHOUT_NODES else [job.nodes["2"]])]:
                self.assertTrue(span.error)
                self.assertTrue(span.meta["error.type"].endswith("torch.OutOfMemoryError"), span)
                self.assertTrue(span.meta["error.message"].startswith("CUDA out of memory"), span)
                self.assertIn("in run\n", span.meta["error.stack"])
                self.assertNotIn("raise ", span.meta["error.stack"], "no source")
                self.assertEqual(span.meta["oom"], "gpu")
            if profile not in WITHOUT_NODES:
                self.assertEqual(job.nodes["2"].meta["node.status"], "error")
                self.assertNotIn("3", job.nodes)
            host = run(comfy, "host_alloc")
            self.assertEqual(host.run.meta["oom"], "host_alloc")

        self.each(check)

    def test_tells_an_end_of_memory_from_an_error_of_the_device(self) -> None:
        wanted = {"memory_error": ("host_alloc", None), "array_memory_error": ("host_alloc", None), "no_map": ("host_alloc", None),
                  "windows": ("host_alloc", None), "cuda_out": ("gpu", None), "accelerator_out": ("gpu", None),
                  "accelerator": (None, "true"), "cuda_assert": (None, "true"), "hip": (None, "true"),
                  "no_image": (None, None), "argument": (None, None), "cudnn": (None, None), "onnx": (None, "true"),
                  "wrapped_device": (None, "true"), "wrapped_memory": ("gpu", None), "boasting": (None, None)}

        def check(profile: str, comfy: Host) -> None:
            for case, said in wanted.items():
                graph = {"1": {"class_type": "StandinMachineError", "inputs": {"value": 1, "case": case}},
                         "2": {"class_type": "StandinOut", "inputs": {"value": ["1", 0]}}}
                job = wait_job(comfy, comfy.submit(graph))
                if profile in WITHOUT_NODES and case.startswith("wrapped"):
                    continue  # the message is of the outer error alone
                for span in [job.run, *([] if profile in WITHOUT_NODES else [job.nodes["1"]])]:
                    self.assertEqual((span.meta.get("oom"), span.meta.get("device_error")), said, (case, span))

        self.each(check)

    def test_an_interrupted_job_is_no_error(self) -> None:
        def check(profile: str, comfy: Host) -> None:
            prompt_id = comfy.submit(workflow("interrupted"))
            comfy.wait_running(prompt_id)
            wait_for(lambda: profile in WITHOUT_NODES or any(s.name == NODE for s in comfy.open_slots()))
            comfy.interrupt()
            job = wait_job(comfy, prompt_id)
            self.check_tree(job)
            self.assertEqual((job.run.meta["workflow.status"], job.run.error), ("interrupted", False))
            stopped = [s for s in job.nodes.values() if s.meta["node.status"] == "interrupted"]
            if profile not in WITHOUT_NODES:
                self.assertFalse(only(stopped).error)

        self.each(check)

    def test_calls_of_a_list_are_counted(self) -> None:
        def check(_: str, comfy: Host) -> None:
            job = run(comfy, "list_fan_out")
            self.check_tree(job)
            self.assertEqual({key: node.metrics["node.calls"] for key, node in job.nodes.items()}, {"1": 1, "2": 4, "3": 1, "4": 1})

        self.each(check, *WITHOUT_NODES)

    def test_a_lazy_node_is_one_span(self) -> None:
        def check(_: str, comfy: Host) -> None:
            job = run(comfy, "lazy")
            self.check_tree(job)
            self.check_run(job, "success", 4, 3)
            self.assertEqual({key: node.metrics["node.attempts"] for key, node in job.nodes.items()}, {"1": 1, "3": 2, "4": 1})

        self.each(check, "p2024a", *WITHOUT_NODES)

    def test_nodes_of_a_sub_graph_are_below_its_node(self) -> None:
        def check(_: str, comfy: Host) -> None:
            job = run(comfy, "subgraph")
            self.check_tree(job)
            self.check_run(job, "success", 3, 5)
            below = children(job.spans, job.nodes["2"])
            self.assertEqual({s.meta["node.id"] for s in below}, {"2.0.0.1", "2.0.0.2"})
            self.assertEqual({s.meta["node.display_id"] for s in below}, {"2"})
            self.assertEqual(job.nodes["2"].metrics["node.attempts"], 1)

        self.each(check, "p2024a", *WITHOUT_NODES)

    def test_a_failure_in_a_sub_graph_names_who_really_failed(self) -> None:
        def check(_: str, comfy: Host) -> None:
            job = run(comfy, "subgraph_failing")
            self.check_tree(job)
            self.check_run(job, "error", 3)
            self.assertEqual(job.statuses(), {"1": "success", "2": "error", "2.0.0.1": "success", "2.0.0.2": "error"})
            self.assertEqual((job.nodes["2"].meta["error.real_node"], job.nodes["2"].meta["error.real_class"]), ("2.0.0.2", "StandinRaise"))
            self.assertNotIn("error.real_node", job.nodes["2.0.0.2"].meta)
            self.assertEqual({job.nodes[n].meta["error.type"] for n in ("2", "2.0.0.2")}, {"builtins.ValueError"})

        self.each(check, "p2024a", *WITHOUT_NODES)

    def test_asynchronous_nodes_overlap_and_fail(self) -> None:
        def check(_: str, comfy: Host) -> None:
            job = run(comfy, "async_two")
            self.check_tree(job)
            one, two = job.nodes["1"], job.nodes["2"]
            for node in (one, two):
                self.assertGreater(node.duration_ns, 0.29e9)
            self.assertLess(max(one.start_ns, two.start_ns), min(one.start_ns + one.duration_ns, two.start_ns + two.duration_ns))
            failed = run(comfy, "async_failing")
            self.check_tree(failed)
            self.check_run(failed, "error", 3)
            self.assertEqual(failed.nodes["2"].meta["error.message"], "async on purpose")
            self.assertGreater(failed.nodes["2"].duration_ns, 0.04e9)

        self.each(check, *OLD, *WITHOUT_NODES)

    def test_a_node_that_is_blocked_is_a_warning(self) -> None:
        def check(_: str, comfy: Host) -> None:
            job = run(comfy, "blocked")
            self.check_tree(job)
            self.check_run(job, "success", 3, 3)
            self.assertEqual(job.statuses(), {"1": "success", "2": "success", "3": "blocked"})
            self.assertFalse(job.nodes["3"].error)

        self.each(check, "p2024a", *WITHOUT_NODES)

    def test_twins_share_one_run(self) -> None:
        def check(_: str, comfy: Host) -> None:
            job = run(comfy, "twins")
            self.check_tree(job)
            self.check_run(job, "success", 4, 3, 1)
            self.assertEqual(sorted(job.statuses()[n] for n in ("1", "2")), ["cached", "success"])

        self.each(check, *OLD, *WITHOUT_NODES)

    def test_what_fails_the_check_is_told_without_its_values(self) -> None:
        def check(_: str, comfy: Host) -> None:
            with self.assertRaises(Exception):
                comfy.submit(workflow("invalid"))
            span = only(comfy.wait_spans(VALIDATE, 1))
            self.assertTrue(span.error)
            self.assertEqual((span.resource, span.meta["error.type"]), ("invalid", "prompt_outputs_failed_validation"))
            self.assertNotIn("error.message", span.meta)
            self.assertEqual(comfy.spans(JOB), [])

        self.each(check, *WITHOUT_NODES)

    def test_what_is_taken_out_of_the_queue_is_cancelled(self) -> None:
        def check(_: str, comfy: Host) -> None:
            running = comfy.submit(workflow("sleep"))
            comfy.wait_running(running)
            first, second, third = (comfy.submit(workflow("tiny")) for _ in range(3))
            comfy.delete(second)
            comfy.delete(first)
            comfy.clear()
            job = wait_job(comfy, running)
            self.check_tree(job)
            last = run(comfy, "tiny")
            waits = {s.meta["prompt.id"]: s for s in comfy.spans(WAIT)}
            for prompt_id in (first, second, third):
                self.assertEqual(waits[prompt_id].meta.get("workflow.status"), "cancelled")
                self.assertTrue(waits[prompt_id].parent_id)
            self.assertNotIn("workflow.status", waits[last.run.meta["prompt.id"]].meta)
            self.assertEqual(len(comfy.spans(JOB)), 2)
            self.assertEqual([s.name for s in comfy.open_slots()], [])

        self.each(check)

    def test_a_worker_that_dies_is_told(self) -> None:
        def check(profile: str, comfy: Host) -> None:
            prompt_id = comfy.submit(workflow("zombie"))
            run_span = only(comfy.wait_spans(JOB, 1))
            self.assertEqual(run_span.meta["prompt.id"], prompt_id)
            self.assertEqual((run_span.meta["workflow.status"], run_span.meta["workflow.worker_died"]), ("error", "true"))
            self.assertEqual(run_span.meta["error.type"], "builtins.SystemExit")
            if profile not in WITHOUT_NODES:
                dead = only([s for s in comfy.spans(NODE) if s.resource == "StandinExit"])
                self.assertEqual((dead.meta["node.status"], dead.meta["error.type"]), ("error", "builtins.SystemExit"))

        self.each(check)

    def test_a_kill_leaves_the_job_and_the_node_open(self) -> None:
        def check(profile: str, comfy: Host) -> None:
            prompt_id = comfy.submit(workflow("hang"))
            comfy.wait_running(prompt_id)
            queued = comfy.submit(workflow("tiny"))
            names = {JOB, WAIT} | ({NODE} if profile not in WITHOUT_NODES else set())
            wait_for(lambda: {s.name for s in comfy.open_slots()} >= names and
                     (profile in WITHOUT_NODES or any(s.resource == "StandinHang" for s in comfy.open_slots())))
            threads = {int(entry.name) for entry in Path(f"/proc/{comfy.pid}/task").iterdir()}
            comfy.stop(signal.SIGKILL)
            left = {s.name: s for s in comfy.open_slots()}
            self.assertIn(left[JOB].metrics["thread.id"], threads - {comfy.pid})
            self.assertEqual((left[JOB].metrics["queue.item"], "queue.item" in left[WAIT].metrics), (0, False))
            self.assertEqual(left[JOB].meta["prompt.id"], prompt_id)
            self.assertRegex(left[JOB].resource, r"^StandinOut [0-9a-f]{8}$")
            self.assertEqual(left[WAIT].meta["prompt.id"], queued)
            if profile not in WITHOUT_NODES:
                self.assertEqual({key: left[NODE].meta[key] for key in ("prompt.id", "node.id", "node.class_type")},
                                 {"prompt.id": prompt_id, "node.id": "2", "node.class_type": "StandinHang"})

        self.each(check)


class Jobs(Case):
    def test_one_id_twice_is_two_jobs(self) -> None:
        with Host() as comfy:
            ids = ["11111111-2222-3333-4444-555555555555"] * 2
            first = comfy.submit(workflow("sleep"), prompt_id=ids[0])
            comfy.submit(workflow("tiny"), prompt_id=ids[1])
            spans = comfy.wait_spans(JOB, 2)
            self.assertEqual([s.meta["prompt.id"] for s in spans], [first, first])
            self.assertEqual([s.metrics["workflow.node_count"] for s in spans], [len(workflow("sleep")), len(workflow("tiny"))])
            wait_for(lambda: len(comfy.spans(REQUEST)) >= 2)
            posts = [s for s in comfy.spans(REQUEST) if s.resource == "POST /prompt"]
            self.assertEqual([s.parent_id for s in spans], [s.span_id for s in posts])
            self.assertEqual(len({s.meta["job.id"] for s in spans}), 2)

    def test_jobs_put_while_others_are_taken_each_keep_their_request(self) -> None:
        with Host() as comfy:
            def submit() -> None:
                for _ in range(60):
                    comfy.submit(workflow("tiny"))

            clients = [threading.Thread(target=submit) for _ in range(4)]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            spans = comfy.wait_spans(JOB, 240, 60)
            self.assertEqual([s for s in comfy.spans(WAIT) if "workflow.status" in s.meta], [])
            self.assertEqual(len({s.parent_id for s in spans}), 240)
            self.assertNotIn(0, {s.parent_id for s in spans})

    def test_an_id_that_is_no_uuid_is_sent_as_its_hash(self) -> None:
        with Host() as comfy:
            comfy.submit(workflow("tiny"), prompt_id="mister secret")
            span = only(comfy.wait_spans(JOB, 1))
            self.assertRegex(span.meta["prompt.id"], r"^[0-9a-f]{16}$")
            self.assertNotIn(b"mister secret", comfy.raw())

    def test_a_job_without_a_request_is_the_root(self) -> None:
        with Host(node_dirs=[str(HERE / "nodes" / "aside")], env={"ASIDE": "1"}) as comfy:
            span = only(comfy.wait_spans(JOB, 1))
            wait = only(comfy.spans(WAIT))
            self.assertEqual((span.parent_id, span.flags & LOCAL_ROOT), (0, LOCAL_ROOT))
            self.assertEqual((wait.trace_id, wait.parent_id, wait.flags & LOCAL_ROOT), (span.trace_id, span.span_id, 0))
            self.assertAlmostEqual(wait.duration_ns / 1e6, span.metrics["queue.wait_ms"], places=3)
            self.assertEqual({s.parent_id for s in comfy.spans(NODE)}, {span.span_id})
            self.check_tags(comfy.spans(JOB, WAIT, NODE))

    def test_the_callers_trace_goes_on_to_the_nodes(self) -> None:
        with Host() as comfy:
            caller = "00-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-01"
            job = run(comfy, "tiny", headers={"traceparent": caller})
            self.assertEqual({s.trace_id for s in job.spans}, {0x0123456789ABCDEF0123456789ABCDEF})
            self.assertEqual({s.priority for s in job.spans}, {1})
            self.assertEqual(job.request.parent_id, 0x00F067AA0BA902B7)
            self.check_tree(job)

    def test_the_same_workflow_has_the_same_name_whatever_its_values_and_ids(self) -> None:
        with Host() as comfy:
            graph = workflow("lazy")
            other = {f"n{key}": {"class_type": node["class_type"], "inputs": {
                name: [f"n{value[0]}", value[1]] if isinstance(value, list) else value for name, value in node["inputs"].items()}}
                for key, node in reversed(list(graph.items()))}
            other["n1"]["inputs"]["value"] = 77
            for prompt in (graph, other):
                comfy.run(prompt)
            del other["n3"]["inputs"]["b"]
            with self.assertRaises(Exception):
                comfy.submit(other)
            first, second = comfy.spans(JOB)
            self.assertEqual(first.resource, second.resource)
            hashes = [s.meta["workflow.hash"] for s in comfy.wait_spans(VALIDATE, 3)]
            self.assertEqual(hashes[0], hashes[1])
            self.assertNotEqual(hashes[0], hashes[2])

    def test_models_are_loaded_below_their_nodes(self) -> None:
        with Host() as comfy:
            job = run(comfy, "quick")
            self.check_tree(job)
            by_id = {s.span_id: s for s in job.spans}
            found = {s.name: by_id[s.parent_id].resource for s in job.spans if s.name in (
                "comfyui.sample", "comfyui.clip.encode", "comfyui.vae.decode")}
            self.assertEqual(found, {"comfyui.sample": "KSampler", "comfyui.clip.encode": "CLIPTextEncode",
                                     "comfyui.vae.decode": "VAEDecode"})
            self.assertEqual(job.nodes["5"].metrics["node.output_bytes"], 1024)

    def test_memory_is_seen_to_grow(self) -> None:
        with Host() as comfy:
            graph = workflow("allocate")
            big = next(key for key, node in graph.items() if node["class_type"] == "StandinAllocate")
            graph[big]["inputs"].update(mbytes=128, keep=True)
            job = wait_job(comfy, comfy.submit(graph))
            node = job.nodes[big]
            grown = node.metrics["memory.rss.after_bytes"] - node.metrics["memory.rss.before_bytes"]
            self.assertGreater(grown, 100 << 20)
            self.assertGreater(node.metrics["node.output_bytes"], 127 << 20)
            self.assertGreater(job.run.metrics["memory.rss.peak_bytes"], job.run.metrics["memory.rss.before_bytes"] + (100 << 20))

    def test_devices_are_asked_only_when_they_are_up(self) -> None:
        for env, wanted in (({}, set()), ({"STANDIN_CUDA": "1"}, {"memory.gpu.0.allocated_bytes", "memory.gpu.0.reserved_bytes"})):
            with Host(env=env) as comfy:
                job = run(comfy, "tiny")
                self.assertEqual({key for key in job.run.metrics if key.startswith("memory.gpu")}, wanted)
                self.assertEqual(job.run.meta.get("memory.gpu.0.uuid"), "fa4e0000-0000-4000-8000-000000000001" if wanted else None)

    def test_nothing_of_torch_is_imported_early(self) -> None:
        with Host() as comfy:
            self.assertEqual(comfy.stats()["standin"]["early_torch_imports"], [])

    def test_messages_tell_of_nodes_where_nothing_else_does(self) -> None:
        with Host(profile="pminimal") as comfy:
            comfy.websocket()
            job = run(comfy, "steps", client_id=comfy.client_id)
            self.check_tree(job)
            self.check_run(job, "success", 3, 3)
            self.assertEqual(job.statuses(), {"1": "success", "2": "success", "3": "success"})
            self.assertEqual(job.nodes["2"].metrics["node.steps"], 5)

    def test_messages_can_be_left_out(self) -> None:
        with Host(env={"COMFYMON_ERROR_MESSAGE": "0"}) as comfy:
            job = run(comfy, "gpu_oom")
            self.assertNotIn("error.message", job.run.meta)
            self.assertIn("error.type", job.run.meta)


def outcome(comfy: Host, name: str) -> Any:
    """What a client sees of a job, without what is never the same twice."""
    entry = comfy.run(workflow(name))
    said = [[event, {key: value for key, value in data.items() if key not in ("prompt_id", "timestamp", "executed", "traceback", "current_outputs")}]
            for event, data in entry["status"]["messages"]]
    return name, entry["outputs"], entry["status"]["status_str"], said


SEEN = ("tiny", "cached", "lazy", "subgraph", "list_fan_out", "blocked", "failing", "failing_unicode", "subgraph_failing", "gpu_oom",
        "host_alloc", "interrupt_self", "steps")


class Host_(Case):
    def test_sees_no_difference(self) -> None:
        for profile in PROFILES:
            seen = []
            for node in (True, False):
                with self.subTest(profile=profile, node=node), Host(profile=profile, node=node) as comfy:
                    seen.append([outcome(comfy, name) for name in SEEN])
            self.assertEqual(seen[0], seen[1], profile)

    def test_works_between_bad_neighbours(self) -> None:
        for profile in PROFILES:
            with self.subTest(profile=profile), Host(profile=profile, node_dirs=NEIGHBOURS) as comfy:
                job = run(comfy, "list_fan_out")
                self.check_tree(job)
                self.assertNotIn("IMPORT FAILED", comfy.log())
                if profile not in WITHOUT_NODES:
                    self.check_run(job, "success", 4, 4)
                    self.assertEqual(job.nodes["2"].metrics["node.calls"], 4)
                failed = run(comfy, "gpu_oom")
                self.check_run(failed, "error", 3)
                self.assertEqual(failed.run.meta["oom"], "gpu")

    def test_objects_are_used_rightly_as_far_as_a_debug_interpreter_can_tell(self) -> None:
        with Host(env={"PYTHONMALLOC": "debug", "PYTHONDEVMODE": "1", "PYTHONFAULTHANDLER": "1"}) as comfy:
            for name in SEEN:
                comfy.run(workflow(name))
            for _ in range(3):
                run(comfy, "async_two")
            self.assertEqual(comfy.stop(signal.SIGINT), 0, comfy.log()[-3000:])
            self.assertNotIn("Fatal Python error", comfy.log())


class Secrets(Case):
    CANARY = "xyzzy-canary"

    def place(self, where: str) -> str:
        return f"{self.CANARY}-{where}-0123456789"

    def graph(self) -> Dict[str, Any]:
        graph = workflow("failing")
        raising = next(node for node in graph.values() if node["class_type"] == "StandinRaise")
        raising["inputs"]["message"] = self.place("input") + "\n'quoted' \\ \"twice\" \u00e9\u4e2d"
        raising["inputs"]["unknown"] = {"deep": [self.place("nested")], self.place("key"): 1}
        raising["_meta"] = {"title": self.place("title")}
        return graph

    def test_nothing_that_a_person_typed_is_written(self) -> None:
        extra = {"client_id": self.place("client"), "api_key_comfy_org": self.place("api"), "auth_token_comfy_org": self.place("token"),
                 "job_id": self.place("job"), "extra_pnginfo": {"workflow": {"nodes": [{"widgets_values": [self.place("widget")]}]}}}
        for profile in PROFILES:
            more = {} if profile in ("p038", "plifecycle") else {"prompt_id": self.place("prompt")}
            with self.subTest(profile=profile), Host(profile=profile) as comfy:
                comfy.submit(self.graph(), extra_data=extra, **more)
                wait_for(lambda: len(comfy.spans(JOB)) == 1)
                self.assertIn("<redacted>", only(comfy.spans(JOB)).meta["error.message"])
                self.assertNotIn(self.CANARY.encode(), comfy.raw())

    def test_a_message_of_a_megabyte_is_bounded(self) -> None:
        with Host() as comfy:
            job = run(comfy, "failing_huge")
            self.assertLess(len(job.run.meta["error.message"]), 4096)


class Bounds(Case):
    def test_what_does_not_fit_is_run_all_the_same(self) -> None:
        with Host() as comfy:
            graph: Dict[str, Any] = {}
            for i in range(700):
                graph[f"a{i}"] = {"class_type": "StandinAsync", "inputs": {"value": i, "seconds": 0.5}}
                graph[f"o{i}"] = {"class_type": "StandinOut", "inputs": {"value": [f"a{i}", 0]}}
            job = wait_job(comfy, comfy.submit(graph))
            self.assertEqual(job.run.meta["workflow.status"], "success")
            self.assertGreater(len(job.nodes), 500)
            self.assertEqual([s.name for s in comfy.open_slots()], [])


if __name__ == "__main__":
    unittest.main()
