"""The hooks of models on functions of our own under ComfyUI's names: shapes that the stand-in does not have."""

from __future__ import annotations

import functools
import sys
import types
import unittest
import weakref
from pathlib import Path
from typing import Any, List, Optional, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from base import Case, Span, _comfymon, only  # noqa: E402


class Dtype:
    def __repr__(self) -> str:
        return "torch.bfloat16"


class Tensor:
    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def __len__(self) -> int:
        return self.shape[0]


class Flux:
    pass


class ControlNet:
    pass


class Patcher:
    load_device = "cuda:0"

    def __init__(self, model: Any, size: int) -> None:
        self.model, self.size, self.loaded = model, size, 0

    def model_size(self) -> int:
        return self.size

    def loaded_size(self) -> int:
        return self.loaded

    def model_dtype(self) -> Dtype:
        return Dtype()


class Loaded:
    """Knows its patcher weakly, as newer generations do."""

    def __init__(self, patcher: Patcher) -> None:
        self.ref = weakref.ref(patcher)

    @property
    def model(self) -> Optional[Patcher]:
        return self.ref()


current_loaded_models: List[Loaded] = []


def load_models_gpu(models: Any, memory_required: int = 0, room: int = 1 << 40) -> str:
    for patcher in models:
        if all(entry.model is not patcher for entry in current_loaded_models):
            management.free_memory(1, "cuda:0")
            current_loaded_models.append(Loaded(patcher))
        patcher.loaded = min(patcher.size, room)
    if memory_required < 0:
        raise MemoryError("not so much")
    return "loaded"


def free_memory(memory_required: int, device: str, keep_loaded: Any = ()) -> List[Loaded]:
    gone, current_loaded_models[:] = list(current_loaded_models), []
    for entry in gone:
        if entry.model is not None:
            entry.model.loaded = 0
    return gone


def unload_all_models() -> None:
    management.free_memory(1 << 60, "cuda:0")


def sample_dpmpp_2m(*_: Any) -> None:
    pass


class KSampler:
    def __init__(self) -> None:
        self.sampler_function = functools.partial(sample_dpmpp_2m)
        self.sampler_function.__name__ = "sample_dpmpp_2m"  # type: ignore[attr-defined]


class CFGGuider:
    cfg = 3.5

    def sample(self, noise: Any, latent_image: Any, sampler: Any, sigmas: Any, seed: Any = None) -> str:
        if seed == "boom":
            raise ValueError("boom")
        return "latent"


def sample_custom(model: Any, noise: Any, cfg: float, sampler: Any, sigmas: Any, latent_image: Any) -> str:
    return samplers.CFGGuider().sample(noise, latent_image, sampler, sigmas)


def sample(model: Any, noise: Any, steps: int, cfg: float, sampler_name: str, scheduler: str, latent_image: Any,
           denoise: Optional[float] = 1.0, sigmas: Any = None) -> str:
    return sample_module.sample_custom(model, noise, cfg, KSampler(), Tensor(steps + 1), latent_image)


def load_lora_for_models(model: Any, clip: Any, lora: Any, strength_model: float, strength_clip: float) -> Tuple[Any, Any]:
    return model, clip


def load_controlnet(ckpt_path: str, model: Any = None) -> Any:
    return types.SimpleNamespace(control_model=ControlNet())


def load_torch_file(ckpt: Any, safe_load: bool = False, device: Any = None) -> dict:
    return {}


def module(name: str, **content: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    made.__dict__.update(content)
    sys.modules[name] = made
    return made


management = module("comfy.model_management", load_models_gpu=load_models_gpu, free_memory=free_memory,
                    unload_all_models=unload_all_models, current_loaded_models=current_loaded_models)
sample_module = module("comfy.sample", sample=sample, sample_custom=sample_custom)
samplers = module("comfy.samplers", CFGGuider=CFGGuider)
sd = module("comfy.sd", load_lora_for_models=load_lora_for_models)
controlnet = module("comfy.controlnet", load_controlnet=load_controlnet)
utils = module("comfy.utils", load_torch_file=load_torch_file)


class Calls(Case):
    def setUp(self) -> None:
        super().setUp()
        current_loaded_models.clear()
        _comfymon.attach()
        self.addCleanup(_comfymon.detach)

    def told(self, *names: str) -> List[Span]:
        return [s for s in self.ring().spans() if not names or s.name in names]

    def test_sampling_is_one_span_however_deep_its_functions_go(self) -> None:
        latent = Tensor(2, 16, 128, 96)
        self.assertEqual(sample_module.sample(None, None, 20, 7, "euler", scheduler="beta", latent_image=latent,
                                              denoise=None), "latent")
        span = only(self.told())
        self.assertEqual((span.name, span.resource, span.meta["sampler.name"]), ("comfyui.sample", "euler", "euler"))
        self.assertEqual((span.meta["sampler.scheduler"], span.meta["latent.shape"]), ("beta", "2x16x128x96"))
        self.assertEqual(span.metrics, {"sampler.steps": 20, "sampler.cfg": 7})

    def test_a_span_of_the_user_between_does_not_make_it_two(self) -> None:
        inner = sample_module.sample_custom
        self.addCleanup(setattr, sample_module, "sample_custom", inner)
        sample_module.sample_custom = _comfymon.trace("mine")(inner)
        sample_module.sample(None, None, 4, 1.0, "euler", "normal", Tensor(1, 4, 8, 8))
        self.assertEqual([s.name for s in self.told()], ["mine", "comfyui.sample"])

    def test_a_sampler_object_tells_its_function_and_sigmas_the_steps(self) -> None:
        sample_module.sample_custom(None, None, 1.5, KSampler(), Tensor(9), latent_image=Tensor(1, 4, 8, 8))
        samplers.CFGGuider().sample(None, Tensor(1, 4, 8, 8), sampler=KSampler(), sigmas=Tensor(5))
        custom, guider = self.told("comfyui.sample")
        self.assertEqual((custom.resource, custom.metrics), ("dpmpp_2m", {"sampler.steps": 8, "sampler.cfg": 1.5}))
        self.assertEqual((guider.resource, guider.metrics), ("dpmpp_2m", {"sampler.steps": 4, "sampler.cfg": 3.5}))

    def test_an_exception_passes_and_marks_the_span(self) -> None:
        with self.assertRaises(ValueError) as caught:
            samplers.CFGGuider().sample(None, None, KSampler(), Tensor(2), "boom")
        self.assertEqual(caught.exception.args, ("boom",))
        self.assertEqual(only(self.told()).meta["error.type"], "builtins.ValueError")

    def test_a_load_that_moves_nothing_is_no_span(self) -> None:
        patcher = Patcher(Flux(), 1000)
        self.assertEqual([management.load_models_gpu([patcher]) for _ in range(3)], ["loaded"] * 3)
        span = only(self.told())
        self.assertEqual((span.name, span.resource, span.meta["model.dtype"]), ("comfyui.model.load", "Flux", "bfloat16"))
        self.assertEqual((span.meta["model.device"], span.meta["model.partial"]), ("cuda:0", "false"))

    def test_a_load_in_part_and_the_rest_later_are_two(self) -> None:
        patcher = Patcher(Flux(), 1000)
        management.load_models_gpu({patcher}, room=600)
        management.load_models_gpu([patcher])
        told = [(s.meta["model.partial"], s.metrics["model.loaded_bytes"], s.metrics["model.bytes"]) for s in self.told()]
        self.assertEqual(told, [("true", 600, 1000), ("false", 1000, 1000)])

    def test_a_model_that_makes_room_for_another_says_so(self) -> None:
        first, second = Patcher(Flux(), 1000), Patcher(ControlNet(), 10)
        management.load_models_gpu([first])
        management.load_models_gpu([second])
        load, unload = self.told("comfyui.model.load")[1], only(self.told("comfyui.model.unload"))
        self.assertEqual((unload.resource, unload.meta["model.class"], unload.metrics["model.bytes"]), ("load", "Flux", 1000))
        self.assertEqual((unload.parent_id, load.resource), (load.span_id, "ControlNet"))

    def test_models_that_died_meanwhile_are_passed_over(self) -> None:
        patcher = Patcher(Flux(), 1000)
        management.load_models_gpu([patcher])
        del patcher
        self.assertIsNone(current_loaded_models[0].model, "the probe keeps no model alive")
        management.unload_all_models()
        self.assertEqual([s.name for s in self.told()], ["comfyui.model.load"])

    def test_whoever_unloads_everything_while_handling_an_exception_has_no_memory(self) -> None:
        patchers = [Patcher(Flux(), 10), Patcher(Flux(), 10), Patcher(Flux(), 10)]
        out_of_memory = type("OutOfMemoryError", (RuntimeError,), {})
        cases = ((RuntimeError("CUDA error"), management.unload_all_models),
                 (out_of_memory(), lambda: management.free_memory(1, "")),
                 (RuntimeError("else"), lambda: management.free_memory(1, "")))
        for patcher, (error, unload) in zip(patchers, cases):
            management.load_models_gpu([patcher])
            with _comfymon.trace("node"):
                try:
                    raise error
                except RuntimeError:
                    unload()
        self.assertEqual([s.resource for s in self.told("comfyui.model.unload")], ["oom", "oom", "memory"])

    def test_a_generator_of_models_is_not_used_up(self) -> None:
        patchers = [Patcher(Flux(), 10), Patcher(ControlNet(), 5)]
        management.load_models_gpu(patcher for patcher in patchers)
        self.assertEqual([p.loaded for p in patchers], [0, 5], "the second took the place of the first")

    def test_a_failed_load_is_told_with_its_error(self) -> None:
        with self.assertRaises(MemoryError):
            management.load_models_gpu([Patcher(Flux(), 10)], -1)
        self.assertTrue(only(self.told("comfyui.model.load")).error)

    def test_what_a_loader_returned_names_the_model(self) -> None:
        sd.load_lora_for_models(Patcher(Flux(), 1), None, {}, 1.0, strength_clip=0.0)
        controlnet.load_controlnet("/models/secret place/canny.safetensors")
        lora, control = self.told()
        self.assertEqual((lora.resource, lora.meta["model.class"], lora.meta["model.dtype"]), ("LoRA", "Flux", "bfloat16"))
        self.assertEqual((control.resource, control.meta["file.name"]), ("ControlNet", "canny.safetensors"))

    def test_a_file_is_told_by_its_base_name_and_kind(self) -> None:
        for given, kind, name in (("/a/b/c.CKPT", "pickle", "c.CKPT"), (Path("/a/x.gguf"), "gguf", "x.gguf"),
                                  ("noend", "other", "noend"), (b"/a/bytes.sft", "safetensors", None), (7, "", None)):
            with self.subTest(given=given):
                self.assertEqual(utils.load_torch_file(given, device="cpu"), {})
                span = self.told()[-1]
                self.assertEqual((span.resource, span.meta.get("file.name"), span.meta["model.device"]), (kind, name, "cpu"))
                self.assertNotIn("file.bytes", span.metrics, "there is no such file")
        self.assertNotIn(b"/a/b", Path(self.folder).joinpath(next(iter(Path(self.folder).glob("ring-*.cm")))).read_bytes())

    def test_nothing_fails_inside(self) -> None:
        sample_module.sample(None, None, 1, 1.0, "euler", "normal", object())
        management.load_models_gpu([])
        self.assertEqual({h["attr"]: h["failures"] for h in _comfymon.hooks() if h["failures"]}, {})


if __name__ == "__main__":
    unittest.main()
