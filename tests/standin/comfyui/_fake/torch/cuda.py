"""One make-believe device, present only with STANDIN_CUDA=1; counts bytes, touches nothing."""
from __future__ import annotations

import os
from typing import Any

_present = os.environ.get("STANDIN_CUDA") == "1"
_total = int(os.environ.get("STANDIN_CUDA_BYTES", str(8 << 30)))
_used = 0
_peak = 0
_ooms = 0


class OutOfMemoryError(RuntimeError):
    pass


# Newer generations report it under torch, older ones under torch.cuda.
OutOfMemoryError.__module__ = "torch"


def reserve(nbytes: int) -> None:
    global _used, _peak, _ooms
    if not _present:
        raise RuntimeError("no NVIDIA driver was found")
    if _used + nbytes > _total:
        _ooms += 1
        raise OutOfMemoryError(f"CUDA out of memory. Tried to allocate {nbytes} bytes.")
    _used += nbytes
    _peak = max(_peak, _used)


def release(nbytes: int) -> None:
    global _used
    _used -= nbytes


def is_available() -> bool:
    return _present


def is_initialized() -> bool:
    return _present


def device_count() -> int:
    return 1 if _present else 0


def current_device() -> int:
    return 0


def get_device_name(device: Any = None) -> str:
    return "Stand-in GPU"


class _Properties:
    name, total_memory, uuid = "Stand-in GPU", _total, os.environ.get("STANDIN_CUDA_UUID", "fa4e0000-0000-4000-8000-000000000001")


def get_device_properties(device: Any = None) -> Any:
    return _Properties()


def mem_get_info(device: Any = None) -> tuple:
    return _total - _used, _total


def memory_stats(device: Any = None) -> dict:
    return {"active_bytes.all.current": _used, "reserved_bytes.all.current": _used,
            "allocated_bytes.all.current": _used, "allocated_bytes.all.peak": _peak,
            "num_ooms": _ooms, "num_alloc_retries": 0}


def memory_allocated(device: Any = None) -> int:
    return _used


def memory_reserved(device: Any = None) -> int:
    return _used


def empty_cache() -> None:
    pass


def synchronize(device: Any = None) -> None:
    pass


def ipc_collect() -> None:
    pass
