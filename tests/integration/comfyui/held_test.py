"""What ComfyUI holds when a job has ended: on the stand-in, and on caches and models of our own with every shape there is."""

from __future__ import annotations

import gc
import os
import sys
import types
import unittest
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

sys.path.insert(0, str(Path(__file__).resolve().parent))
from comfyhost import PROFILES, Host, ksampler, workflow  # noqa: E402
from base import Case, Span, _comfymon, only  # noqa: E402

sys.path.append(str(Path(__file__).resolve().parents[2] / "standin" / "comfyui" / "_fake"))
os.environ["STANDIN_CUDA"] = "1"
import torch  # noqa: E402

MIB = 1 << 20
JOB = "comfyui.workflow.execute"


class EveryGeneration(unittest.TestCase):
    def test_counts_results_and_models_and_leaves_the_rest_unaccounted(self) -> None:
        for profile in PROFILES:
            with self.subTest(profile=profile), Host(profile=profile) as comfy:
                graph = workflow("allocate")
                graph["1"]["inputs"].update(mbytes=40, keep=True)
                comfy.run(graph)
                first = comfy.wait_spans(JOB, 1)[-1]
                self.assertEqual(first.metrics["memory.held.outputs_bytes"], 40 * MIB)
                self.assertEqual(first.metrics["memory.held.outputs_bytes.gpu"], 0)
                self.assertEqual(first.meta["memory.held.top"], "1 StandinAllocate 40 MiB")
                self.assertNotIn("memory.held.partial", first.meta)
                self.assertEqual(first.metrics["memory.unaccounted_bytes"],
                                 first.metrics["memory.rss.after_bytes"] - 40 * MIB)
                # The first node keeps what it made for ever: held by nobody that is accounted.
                comfy.run(ksampler())
                second = comfy.wait_spans(JOB, 2)[-1]
                self.assertEqual(second.metrics["memory.held.models_bytes"], 3 * MIB)
                self.assertLess(second.metrics["memory.held.outputs_bytes"], MIB)
                self.assertGreater(second.metrics["memory.unaccounted_bytes"],
                                   first.metrics["memory.unaccounted_bytes"] + 30 * MIB)

    def test_a_sub_graphs_nodes_are_named(self) -> None:
        with Host() as comfy:
            graph = {"1": {"class_type": "StandinAllocate", "inputs": {"mbytes": 3, "keep": False}},
                     "2": {"class_type": "StandinMeasure", "inputs": {"image": ["1", 0]}},
                     "7": {"class_type": "StandinSubgraph", "inputs": {"value": ["2", 0]}},
                     "9": {"class_type": "StandinOut", "inputs": {"value": ["7", 0]}}}
            comfy.run(graph)
            self.assertEqual(only(comfy.wait_spans(JOB, 1)).meta["memory.held.top"], "1 StandinAllocate 3.0 MiB")


# ---- caches of our own ------------------------------------------------------------------------

class KeySet:
    def __init__(self, keys: Dict[str, Any]) -> None:
        self.keys = keys


class Graph:
    def __init__(self, added: Dict[str, Any]) -> None:
        self.ephemeral_prompt = added


class Cache:
    def __init__(self, keys: Dict[str, Any], cache: Dict[Any, Any], below: Optional[Dict[Any, Any]] = None,
                 added: Optional[Dict[str, Any]] = None) -> None:
        self.cache_key_set, self.cache, self.subcaches, self.dynprompt = KeySet(keys), cache, below or {}, Graph(added or {})


class CacheEntry(NamedTuple):
    ui: dict
    outputs: list


class PromptExecutor:
    def __init__(self, outputs: Any) -> None:
        self.caches = types.SimpleNamespace(outputs=outputs)

    def execute(self, prompt: Any, prompt_id: str, extra_data: Any = {}, execute_outputs: Any = []) -> None:
        pass

    def add_message(self, event: str, data: Any, broadcast: bool) -> None:
        pass


def module(name: str, **content: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    for value in content.values():
        if isinstance(value, type):
            value.__module__ = name
            for function in vars(value).values():
                if isinstance(function, types.FunctionType):
                    function.__module__ = name
    made.__dict__.update(content)
    sys.modules[name] = made
    return made


class ModelPatcher:
    def __init__(self, model: Any, size: int, loaded: int, device: str = "cuda") -> None:
        self.model, self.size, self._loaded, self.load_device = model, size, loaded, torch.device(device)

    def loaded_size(self) -> int:
        return self._loaded


class LoadedModel:
    def __init__(self, model: Any) -> None:
        self.model = model


class CLIP:
    def __init__(self, patcher: Any) -> None:
        self.patcher = patcher


class NestedTensor:
    def __init__(self, *tensors: Any) -> None:
        self.tensors = list(tensors)


class Network:
    pass


models: List[Any] = []
execution = module("execution", PromptExecutor=PromptExecutor)
module("comfy.model_management", current_loaded_models=models, LoadedModel=LoadedModel)
module("comfy.model_patcher", ModelPatcher=ModelPatcher)
module("comfy.sd", CLIP=CLIP)
module("comfy.nested_tensor", NestedTensor=NestedTensor)


def tensor(mbytes: float, device: str = "cpu") -> Any:
    return torch.zeros((int(mbytes * MIB) // 4,), device=device)


class Shapes(Case):
    def setUp(self) -> None:
        super().setUp()
        models.clear()
        _comfymon.attach()
        self.addCleanup(_comfymon.detach)

    def job(self, outputs: Any, prompt: Optional[Dict[str, Any]] = None) -> Span:
        """The job's span, whose executor has these outputs at the end."""
        before = len(self.ring().spans())
        execution.PromptExecutor(outputs).execute(prompt or {}, "an id", {}, [])
        return [s for s in self.ring().spans() if s.name == JOB][before:][-1]

    def held(self, span: Span) -> Any:
        return tuple(span.metrics[f"memory.held.{what}"] / MIB for what in (
            "outputs_bytes", "outputs_bytes.gpu", "models_bytes", "models_bytes.gpu"))

    def test_what_shares_a_storage_is_counted_once_and_whole(self) -> None:
        whole = tensor(4)
        part = torch.Tensor((2,), storage=whole.untyped_storage())
        prompt = {"1": {"class_type": "Whole"}, "2": {"class_type": "Part"}}
        span = self.job(Cache({"2": "k2", "1": "k1"}, {"k2": [[part]], "k1": [[whole], [whole, {"a": (part,)}]]}), prompt)
        self.assertEqual(self.held(span), (4, 0, 0, 0))
        self.assertEqual(span.meta["memory.held.top"], "2 Part 4.0 MiB")

    def test_names_the_three_largest_and_those_of_earlier_workflows_as_one(self) -> None:
        sizes = {"1": 1, "2": 8, "3": 0.5, "4": 3}
        prompt = {key: {"class_type": "Node" + key} for key in sizes}
        values = {("key", key): CacheEntry({"text": ["x"] * 100}, [[tensor(size, "cuda" if key == "2" else "cpu")]])
                  for key, size in sizes.items()}
        values.update({("old", number): CacheEntry({}, [[tensor(1)]]) for number in range(5)})
        span = self.job(Cache({key: ("key", key) for key in sizes}, values), prompt)
        self.assertEqual(self.held(span), (17.5, 8, 0, 0))
        self.assertEqual(span.meta["memory.held.top"], "2 Node2 8.0 MiB; earlier workflows 5.0 MiB; 4 Node4 3.0 MiB")
        self.assertEqual(span.metrics["memory.unaccounted_bytes"], span.metrics["memory.rss.after_bytes"] - 9.5 * MIB)

    def test_caches_below_a_node_are_its_sub_graphs(self) -> None:
        below = Cache({"2.0.0.1": "b"}, {"b": [[tensor(2)]]})
        span = self.job(Cache({"2": "a"}, {}, {("2", "Expands"): below}, {"2.0.0.1": {"class_type": "Inside"}}))
        self.assertEqual(span.meta["memory.held.top"], "2.0.0.1 Inside 2.0 MiB")

    def test_a_model_is_counted_once_by_its_network(self) -> None:
        network, other = Network(), Network()
        first = ModelPatcher(network, 10 * MIB, 4 * MIB)
        models[:] = [LoadedModel(first), LoadedModel(ModelPatcher(network, 10 * MIB, 4 * MIB))]
        unloaded = ModelPatcher(other, 6 * MIB, 0)
        on_host = ModelPatcher(Network(), 0, 2 * MIB, "cpu")
        span = self.job(Cache({}, {"x": [[first], [CLIP(unloaded)], [on_host], [NestedTensor(tensor(1), tensor(1))]]}))
        self.assertEqual(self.held(span), (2, 0, 18, 4))

    def test_who_has_methods_of_his_own_is_not_asked(self) -> None:
        class Asked(Exception):
            pass

        class Remote(ModelPatcher):
            def loaded_size(self) -> int:
                raise Asked

        class Entry:
            @property
            def model(self) -> Any:
                raise Asked

        class Proxy(torch.Tensor):
            @classmethod
            def __torch_function__(cls, *_: Any) -> Any:
                raise Asked

            @property
            def nbytes(self) -> int:
                raise Asked

        for kind in (Remote, Entry, Proxy):
            kind.__module__ = "elsewhere"
        asked: List[str] = []
        Remote.loaded_size = lambda self: asked.append("loaded_size") or 0  # type: ignore[assignment,func-returns-value]
        Entry.model = property(lambda self: asked.append("model"))  # type: ignore[assignment,func-returns-value]
        Proxy.nbytes = property(lambda self: asked.append("nbytes"))  # type: ignore[assignment,func-returns-value]
        network = Network()
        network.model_loaded_weight_memory = MIB  # type: ignore[attr-defined]
        models[:] = [Entry(), LoadedModel(Remote(network, 2 * MIB, 0))]
        span = self.job(Cache({}, {"x": [[Proxy((1024,))], [tensor(1)]]}))
        self.assertEqual((self.held(span), asked), ((1, 0, 2, 1), []))

    def test_looks_at_so_many_values_and_says_that_there_are_more(self) -> None:
        many = {number: [[object() for _ in range(100)], [tensor(0.001)]] for number in range(500)}
        span = self.job(Cache({}, many))
        self.assertEqual(span.meta["memory.held.partial"], "true")
        self.assertGreater(span.metrics["memory.held.outputs_bytes"], 0)
        endless: List[Any] = []
        endless.append(endless)
        span = self.job(Cache({}, {1: endless}))
        self.assertEqual(span.meta["memory.held.partial"], "true")

    def test_whatever_the_host_made_of_its_caches_leaves_the_job_alone(self) -> None:
        class Fierce:
            def __getattr__(self, name: str) -> Any:
                raise RuntimeError(name)

        class NoTensor(torch.Tensor):
            def numel(self) -> int:
                raise RuntimeError

            element_size = None  # type: ignore[assignment]
            nbytes = None  # type: ignore[assignment]

            def untyped_storage(self) -> Any:
                raise RuntimeError

        shape = NoTensor.__new__(NoTensor)
        shape.device = torch.device("cpu")
        for outputs in (None, 7, Fierce(), Cache([], {}), Cache({"1": []}, {}), Cache({"1": "a"}, None),  # type: ignore[arg-type]
                        Cache({"1": "a"}, {"a": Fierce()}), Cache({}, {1: [[shape]]}), {"1": [[Fierce()]]}):
            span = self.job(outputs)
            self.assertEqual(span.meta["workflow.status"], "success")
            self.assertEqual(span.metrics["memory.held.outputs_bytes"], 0)
        self.assertEqual([h["failures"] for h in _comfymon.hooks() if h["failures"]], [])

    def test_nothing_is_kept_alive(self) -> None:
        gone: List[int] = []

        class Watched(torch.Tensor):
            def __del__(self) -> None:
                gone.append(1)

        cache = Cache({"1": "a"}, {"a": [[Watched((16,))]]})
        span = self.job(cache, {"1": {"class_type": "Node"}})
        self.assertEqual(span.metrics["memory.held.outputs_bytes"], 64)
        del cache
        gc.collect()
        self.assertEqual(gone, [1])


if __name__ == "__main__":
    unittest.main()
