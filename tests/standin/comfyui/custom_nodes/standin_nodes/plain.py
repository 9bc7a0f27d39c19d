"""Nodes that compute nothing and take time or memory, or fail in an ordinary way."""
from __future__ import annotations

import threading
import time
from typing import Any

import torch

import comfy.model_management
import comfy.utils
import nodes

CATEGORY = "standin"
_kept: list[Any] = []


class StandinValue:
    """The trivial node of long chains and wide rows."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"default": 0, "min": 0, "max": 1 << 62})}}

    def run(self, value: int) -> tuple[int]:
        return (value + 1,)


class StandinOut:
    """Output node: shows its input as text."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", CATEGORY, True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"default": 0})}}

    def run(self, value: int) -> dict[str, Any]:
        return {"ui": {"text": [str(value)]}}


class StandinSleep:
    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"default": 0}),
                             "seconds": ("FLOAT", {"default": 0.1, "min": 0.0, "max": 3600.0})}}

    def run(self, value: int, seconds: float) -> tuple[int]:
        time.sleep(seconds)
        return (value,)


class StandinBusy:
    """Burns processor time in Python, in a function a profiler should name."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"default": 0}),
                             "seconds": ("FLOAT", {"default": 0.1, "min": 0.0, "max": 60.0})}}

    def run(self, value: int, seconds: float) -> tuple[int]:
        return (value + 0 * spin_for(seconds),)


def spin_for(seconds: float) -> int:
    end, turns = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        turns += 1
    return turns


class StandinAllocate:
    """Returns `mbytes` of tensor; with keep the memory also outlives the job."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"mbytes": ("INT", {"default": 8, "min": 1, "max": 65536}),
                             "keep": ("BOOLEAN", {"default": False})}}

    def run(self, mbytes: int, keep: bool) -> tuple[Any]:
        made = torch.zeros((mbytes, 512, 512, 1))
        if keep:
            _kept.append(made)
        return (made,)


class StandinMeasure:
    """From an image to its number of elements, so that allocations can end in StandinOut."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": ("IMAGE",)}}

    def run(self, image: Any) -> tuple[int]:
        return (image.numel(),)


class StandinRaise:
    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"default": 0}),
                             "message": ("STRING", {"default": "on purpose"}),
                             "repeat": ("INT", {"default": 1, "min": 1, "max": 1 << 24})}}

    def run(self, value: int, message: str, repeat: int) -> tuple[int]:
        raise ValueError(message * repeat)


class StandinGpuOom:
    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"default": 0})}}

    def run(self, value: int) -> tuple[int]:
        raise comfy.model_management.OOM_EXCEPTION("CUDA out of memory. Tried to allocate 2.00 GiB")


class StandinHostAlloc:
    """Asks for more memory than any host has: torch's CPU allocator refuses."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"default": 0})}}

    def run(self, value: int) -> tuple[int]:
        return (int(torch.empty((1 << 44,)).numel()),)


class StandinMachineError:
    """Fails as libraries do when memory or the device gives out, by the name of the case."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"default": 0}),
                             "case": (sorted(MACHINE_ERRORS), {"default": "memory_error"})}}

    def run(self, value: int, case: str) -> tuple[int]:
        kind, message = MACHINE_ERRORS[case]
        if case.startswith("wrapped"):
            raise ValueError("the sampler gave up") from kind(message)
        raise kind(message)


AcceleratorError = type("AcceleratorError", (RuntimeError,), {"__module__": "torch"})
MACHINE_ERRORS: dict[str, Any] = {
    "memory_error": (MemoryError, ""),
    "array_memory_error": (type("_ArrayMemoryError", (MemoryError,), {}), "Unable to allocate 7.5 GiB"),
    "no_map": (RuntimeError, "unable to mmap 8589934592 bytes from file <x>: Cannot allocate memory (12)"),
    "windows": (RuntimeError, "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not "
                              "enough memory: you tried to allocate 1099511627776 bytes."),
    "cuda_out": (RuntimeError, "CUDA error: out of memory"),
    "accelerator_out": (AcceleratorError, "CUDA error: out of memory"),
    "accelerator": (AcceleratorError, "CUDA error: an illegal memory access was encountered"),
    "illegal_access": (RuntimeError, "CUDA error: an illegal memory access was encountered\n"
                                     "CUDA kernel errors might be asynchronously reported at some other API call, so the "
                                     "stacktrace below might be incorrect."),
    "cuda_assert": (RuntimeError, "CUDA error: device-side assert triggered"),
    "hip": (RuntimeError, "HIP error: the operation cannot be performed in the present state"),
    "no_image": (RuntimeError, "CUDA error: no kernel image is available for execution on the device"),
    "argument": (AcceleratorError, "CUDA error: invalid configuration argument"),
    "cudnn": (RuntimeError, "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    "onnx": (RuntimeError, "CUDA failure 700: an illegal memory access was encountered ; GPU=0"),
    "wrapped_device": (RuntimeError, "CUDA error: unspecified launch failure"),
    "wrapped_memory": (comfy.model_management.OOM_EXCEPTION, "CUDA out of memory."),
    "boasting": (ValueError, "CUDA error: not really, DefaultCPUAllocator"),
}


class StandinSteps:
    """Steps with a progress bar: each step is a chance to be interrupted."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"default": 0}),
                             "steps": ("INT", {"default": 10, "min": 1, "max": 100000}),
                             "seconds": ("FLOAT", {"default": 0.01, "min": 0.0, "max": 10.0})}}

    def run(self, value: int, steps: int, seconds: float) -> tuple[int]:
        bar = comfy.utils.ProgressBar(steps)
        for _ in range(steps):
            time.sleep(seconds)
            bar.update(1)
        return (value,)


class StandinInterruptSelf:
    """Sets the interrupt flag as POST /interrupt would, then steps: ends at the first step."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"default": 0})}}

    def run(self, value: int) -> tuple[int]:
        nodes.interrupt_processing()
        comfy.utils.ProgressBar(2).update(1)
        return (value,)


class StandinThreads:
    """Starts threads that end with the node, to see that a monitor keeps them apart."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("INT",), "run", CATEGORY

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": ("INT", {"default": 0}),
                             "count": ("INT", {"default": 4, "min": 1, "max": 64})}}

    def run(self, value: int, count: int) -> tuple[int]:
        threads = [threading.Thread(target=spin_for, args=(0.02,)) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (value,)


PLAIN = {node.__name__: node for node in (
    StandinValue, StandinOut, StandinSleep, StandinBusy, StandinAllocate, StandinMeasure,
    StandinRaise, StandinGpuOom, StandinHostAlloc, StandinMachineError, StandinSteps,
    StandinInterruptSelf, StandinThreads)}
