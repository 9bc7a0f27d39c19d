"""What a host's values, objects and queues may cost, however large they are and whatever their methods do."""

from __future__ import annotations

import heapq
import os
import sys
import time
import unittest
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
from held_test import MIB, Cache, PromptExecutor, execution, tensor, torch  # noqa: E402
from base import Case, Span, _comfymon  # noqa: E402

JOB, NODE = "comfyui.workflow.execute", "comfyui.node.execute"
WAITING = 2000


class PromptQueue:
    def __init__(self) -> None:
        self.queue: List[Any] = []
        self.taken = 0

    def put(self, item: Any) -> None:
        heapq.heappush(self.queue, item)

    def get(self) -> Tuple[Any, int]:
        self.taken += 1
        return heapq.heappop(self.queue), self.taken

    def task_done(self, item_id: int) -> None:
        pass

    def delete_queue_item(self, function: Callable[[Any], bool]) -> bool:
        for number, item in enumerate(self.queue):
            if function(item):
                self.queue.pop(number)
                heapq.heapify(self.queue)
                return True
        return False


class WorkingExecutor(PromptExecutor):
    """One node, which has these results."""

    def execute(self, prompt: Any, prompt_id: str, extra_data: Any = {}, execute_outputs: Any = []) -> None:
        execution.execute(None, None, self.caches, "1", extra_data, set(), prompt_id, {}, {})  # type: ignore[attr-defined]


def execute(server: Any, dynprompt: Any, caches: Any, current_item: str, extra_data: Any, executed: Any, prompt_id: str,
            execution_list: Any, pending_subgraph_results: Any) -> Tuple[bool, None, None]:
    execution.get_output_data(prompt_id, current_item, None, {}, caches.outputs)  # type: ignore[attr-defined]
    return True, None, None


def get_output_data(prompt_id: str, unique_id: str, obj: Any, input_data_all: Dict[str, Any], results: Any) -> Any:
    return results


execution.__dict__.update(PromptExecutor=WorkingExecutor, PromptQueue=PromptQueue, execute=execute,
                          get_output_data=get_output_data)
sys.modules["execution"] = execution


def nested(shape: Tuple[int, ...]) -> Any:
    """Lists of lists of numbers; each level holds the same one again and again, so that it takes no memory."""
    value: Any = 0
    for length in reversed(shape):
        value = [value] * length
    return value


class Limits(Case):
    def setUp(self) -> None:
        super().setUp()
        _comfymon.attach()
        self.addCleanup(_comfymon.detach)

    def job(self, outputs: Any) -> Tuple[Dict[str, Span], float]:
        """Spans by their names, and the thread's time that the job took, milliseconds."""
        began = time.thread_time()
        WorkingExecutor(outputs).execute({"1": {"class_type": "Node"}}, "an id", {}, [])
        took = (time.thread_time() - began) * 1e3
        return {s.name: s for s in self.ring().spans()}, took

    def test_numbers_without_end_are_not_all_met(self) -> None:
        """100 million of them took 0.28 s of the interpreter's time."""
        spans, took = self.job(Cache({"1": "a"}, {"a": [[nested((100, 1_000_000))]]}))
        self.assertEqual(spans[JOB].meta["memory.held.partial"], "true")
        self.assertLess(took, 100)

    def test_a_few_numbers_are_no_reason_to_stop(self) -> None:
        """More than the values that may hold something; their time is a millisecond, which a sanitizer makes short."""
        for _ in range(20):
            spans, _ = self.job(Cache({"1": "a"}, {"a": [[nested((4200,)), tensor(1)]]}))
            if "memory.held.partial" not in spans[JOB].meta:
                break
        self.assertNotIn("memory.held.partial", spans[JOB].meta)
        self.assertEqual(spans[JOB].metrics["memory.held.outputs_bytes"], MIB)

    def test_results_in_results_are_not_all_met(self) -> None:
        """64 lists of 64 lists of 64 lists: 32 ms for each node."""
        spans, took = self.job([[tensor(1)], nested((64,) * 5)])
        self.assertEqual(spans[NODE].metrics["node.output_bytes"], MIB)
        self.assertLess(took, 15)

    def test_a_long_queue_costs_a_job_no_more_than_a_short_one(self) -> None:
        """Each get compared all that wait with all that the queue has: 10 ms with 2,000."""
        queue = PromptQueue()
        for number in range(WAITING):
            queue.put((number, f"id {number}", {}, {}, []))
        best = float("inf")
        for number in range(20):
            began = time.thread_time()
            (_, prompt_id, *_rest), item_id = queue.get()
            best = min(best, time.thread_time() - began)
            self.assertEqual(prompt_id, f"id {number}")
            queue.task_done(item_id)
        self.assertLess(best, 2e-3)
        self.assertEqual(_comfymon.jobs()["waiting"], WAITING - 20)
        self.assertTrue(queue.delete_queue_item(lambda item: item[1] == "id 1000"))
        self.assertEqual(_comfymon.jobs()["waiting"], WAITING - 21)
        del queue.queue[5:1500]  # by somebody who asks no method
        queue.put((WAITING, "one more", {}, {}, []))
        self.assertEqual(_comfymon.jobs()["waiting"], len(queue.queue))
        queue.queue.clear()
        queue.delete_queue_item(lambda item: False)
        self.assertEqual(_comfymon.jobs()["waiting"], 0)
        ended = [s for s in self.ring().spans() if s.name == "comfyui.queue.wait"]
        self.assertEqual(len([s for s in ended if s.meta.get("workflow.status") == "cancelled"]), WAITING - 19)

    def test_storages_that_lie_about_their_size(self) -> None:
        for said in (-5, 10**400, float("nan"), float("inf"), "12", None, KeyError("size"), [1]):
            with self.subTest(said=repr(said)[:20]):
                class Storage:
                    def nbytes(self, said: Any = said) -> Any:
                        if isinstance(said, Exception):
                            raise said
                        return said

                    _cdata = said

                spans, _ = self.job(Cache({"1": "a"}, {"a": [[torch.Tensor((256,), storage=Storage())]]}))
                told = spans[JOB].metrics
                self.assertEqual(told["memory.held.outputs_bytes"], 1024)
                self.assertGreaterEqual(told["memory.unaccounted_bytes"], 0)
        self.assertEqual([h["failures"] for h in _comfymon.hooks() if h["failures"]], [])

    def test_a_tensor_that_would_run_code_of_its_own_is_not_asked(self) -> None:
        asked: List[str] = []
        for name in ("nbytes", "numel", "element_size", "is_cpu", "device", "untyped_storage", "__getattribute__",
                     "__getattr__", "__torch_function__", "__torch_dispatch__"):
            def tell(*_: Any, name: str = name) -> Any:
                asked.append(name)
                raise AttributeError(name)

            own = type("Own", (torch.Tensor,), {name: tell if name.startswith("__") else property(tell)})
            shape = own.__new__(type("Child", (own,), {}))
            spans, _ = self.job(Cache({"1": "a"}, {"a": [[shape]]}))
            self.assertEqual(spans[JOB].metrics["memory.held.outputs_bytes"], 0)
            spans, _ = self.job([[shape]])
            self.assertNotIn("node.output_bytes", spans[NODE].metrics)
        self.assertEqual(asked, [])

    def test_arguments_that_can_be_gone_through_once_are_left_to_the_host(self) -> None:
        given = (name for name in ("1", "2"))
        executor = WorkingExecutor([])
        executor.execute({"1": {"class_type": "Node"}}, "an id", {}, given)
        self.assertEqual(list(given), ["1", "2"])
        for outputs in (["1"], ("1",), {"1"}, frozenset("1"), {"1": None}):
            executor.execute({"1": {"class_type": "Node"}}, "an id", {}, outputs)
            self.assertTrue(self.ring().spans()[-1].resource.startswith("Node "), outputs)

    def test_an_entry_that_leaves_the_cache_while_it_is_asked(self) -> None:
        cache = Cache({"1": "a"}, {})

        class Leaves(tuple):
            @property
            def outputs(self) -> Any:
                cache.cache.clear()
                return None

        for outputs in (cache, cache.cache):
            cache.cache.update({number: Leaves(([],)) for number in range(50)}, a=Leaves(([],)))
            spans, _ = self.job(outputs)
            self.assertEqual(spans[JOB].meta["workflow.status"], "success")
        self.assertEqual([h["failures"] for h in _comfymon.hooks() if h["failures"]], [])


class Kept(Case):
    """Prompts are kept for resubmission, which runs code of the host: what is in a prompt, classes of nodes."""

    def setUp(self) -> None:
        for name, value in (("COMFYMON_RESUBMIT", "1"), ("COMFYMON_LIFE", "1-1-0badcafe")):
            os.environ[name] = value
            self.addCleanup(os.environ.pop, name)
        super().setUp()
        _comfymon.attach()
        self.addCleanup(_comfymon.detach)

    def test_an_interrupt_is_the_hosts(self) -> None:
        class Pressed(dict):
            def items(self) -> Any:
                raise KeyboardInterrupt

        queue, before = PromptQueue(), _comfymon.jobs()["bodies_failed"]
        with self.assertRaises(KeyboardInterrupt):
            queue.put((1, "an id", {"1": Pressed(class_type="Node")}, {}, []))
            for _ in range(100):
                time.sleep(0.001)
        self.assertEqual(_comfymon.jobs()["waiting"], len(queue.queue), "it may come before the job is in the queue, or after")
        self.assertEqual(_comfymon.jobs()["bodies_failed"], before + 1)


if __name__ == "__main__":
    unittest.main()
