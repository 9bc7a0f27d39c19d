"""Which models are loaded where, how much is free, and whether the job was interrupted."""
from __future__ import annotations

import logging
import threading
from typing import Any

import torch

from comfy.cli_args import args
from standin_profile import CONTEXT, PROFILE, check_context

DISABLE_SMART_MEMORY = args.disable_smart_memory
OOM_EXCEPTION = torch.cuda.OutOfMemoryError
HOST_BYTES = 8 << 30

current_loaded_models: list["LoadedModel"] = []

_interrupt_lock = threading.Lock()
_interrupted = False


class InterruptProcessingException(Exception):
    pass


def interrupt_current_processing(value: bool = True) -> None:
    global _interrupted
    with _interrupt_lock:
        _interrupted = value


def processing_interrupted() -> bool:
    with _interrupt_lock:
        return _interrupted


def throw_exception_if_processing_interrupted() -> None:
    global _interrupted
    with _interrupt_lock:
        if _interrupted:
            _interrupted = False
            raise InterruptProcessingException()


def get_torch_device() -> torch.device:
    if torch.cuda.is_available() and not args.cpu:
        return torch.device("cuda", 0)
    return torch.device("cpu")


def unet_offload_device() -> torch.device:
    return torch.device("cpu")


def get_torch_device_name(device: Any) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def get_total_memory(dev: Any = None, torch_total_too: bool = False) -> Any:
    dev = dev or get_torch_device()
    total = torch.cuda.mem_get_info(dev)[1] if dev.type == "cuda" else HOST_BYTES
    return (total, total) if torch_total_too else total


def get_free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
    dev = dev or get_torch_device()
    free = torch.cuda.mem_get_info(dev)[0] if dev.type == "cuda" else \
        HOST_BYTES - sum(loaded.model_loaded_memory() for loaded in current_loaded_models)
    return (free, 0) if torch_free_too else free


def minimum_inference_memory() -> int:
    return 1 << 28


def cast_to(weight: Any, dtype: Any = None, device: Any = None, **_: Any) -> Any:
    return weight.to(device) if device is not None else weight


class LoadedModel:
    def __init__(self, model: Any) -> None:
        self.model = model
        self.device = model.load_device
        self.currently_used = True

    def model_memory(self) -> int:
        return self.model.model_size()

    def model_loaded_memory(self) -> int:
        return self.model.loaded_size()

    def model_offloaded_memory(self) -> int:
        return self.model_memory() - self.model_loaded_memory()

    def model_memory_required(self, device: Any) -> int:
        return self.model_offloaded_memory() if device == self.model.current_loaded_device() \
            else self.model_memory()

    def model_load(self, lowvram_model_memory: int = 0, force_patch_weights: bool = False) -> Any:
        self.model.partially_load(self.device, lowvram_model_memory or self.model_memory())
        return self.model.model

    def model_unload(self, memory_to_free: Any = None, unpatch_weights: bool = True) -> bool:
        self.model.detach()
        return True

    def is_dead(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoadedModel) and self.model is other.model


def _free(memory_required: int, device: Any, keep_loaded: Any) -> list[LoadedModel]:
    unloaded = []
    for loaded in list(current_loaded_models):
        if get_free_memory(device) >= memory_required:
            break
        if loaded not in keep_loaded and loaded.device == device:
            loaded.model_unload()
            current_loaded_models.remove(loaded)
            unloaded.append(loaded)
    return unloaded


def _load(models: Any, memory_required: int) -> None:
    device = get_torch_device()
    wanted = [LoadedModel(model) for model in models]
    missing = [loaded for loaded in wanted if loaded not in current_loaded_models]
    if not missing:
        return
    need = memory_required + sum(loaded.model_memory() for loaded in missing)
    free_memory(need, device, keep_loaded=wanted, **CONTEXT) if "free_memory" in globals() \
        else _free(need, device, wanted)
    for loaded in missing:
        logging.info("Requested to load %s", type(loaded.model.model).__name__)
        loaded.model_load()
        current_loaded_models.insert(0, loaded)


if PROFILE.future:
    def free_memory(memory_required, device, keep_loaded=[], *, host_context):
        check_context(host_context)
        return _free(memory_required, device, keep_loaded)

    def load_models_gpu(models, memory_required=0, force_patch_weights=False,
                        minimum_memory_required=None, force_full_load=False, *, host_context):
        check_context(host_context)
        _load(models, memory_required)

    def unload_all_models(*, host_context):
        check_context(host_context)
        free_memory(1e30, get_torch_device(), host_context=host_context)
elif PROFILE.style == "recursive":
    def free_memory(memory_required, device, keep_loaded=[]):
        return _free(memory_required, device, keep_loaded)

    def load_models_gpu(models, memory_required=0):
        _load(models, memory_required)
elif PROFILE.asset_manager:
    def free_memory(memory_required, device, keep_loaded=[], for_dynamic=False, pins_required=0,
                    ram_required=0):
        return _free(memory_required, device, keep_loaded)
else:
    def free_memory(memory_required, device, keep_loaded=[]):
        return _free(memory_required, device, keep_loaded)

if not PROFILE.future:
    if PROFILE.style != "recursive":
        def load_models_gpu(models, memory_required=0, force_patch_weights=False,
                            minimum_memory_required=None, force_full_load=False):
            _load(models, memory_required)

    def unload_all_models():
        free_memory(1e30, get_torch_device()) if "free_memory" in globals() \
            else _free(1e30, get_torch_device(), [])


def request_models(models: Any, memory_required: int = 0) -> None:
    """What the rest of the host calls: load_models_gpu where that can be hooked."""
    if PROFILE.minimal:
        _load(models, memory_required)
    else:
        load_models_gpu(models, memory_required=memory_required, **CONTEXT)


if PROFILE.minimal:
    del load_models_gpu, free_memory


def load_model_gpu(model: Any) -> None:
    request_models([model])


def loaded_models(only_currently_used: bool = False) -> list[Any]:
    return [loaded.model for loaded in current_loaded_models]


def cleanup_models_gc() -> None:
    pass


def cleanup_models() -> None:
    pass


def soft_empty_cache(force: bool = False) -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


if PROFILE.is_oom:
    def is_oom(e: BaseException) -> bool:
        return isinstance(e, OOM_EXCEPTION)
