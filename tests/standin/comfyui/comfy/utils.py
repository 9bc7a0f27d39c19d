"""Reading weights from files, and the progress bar with its global hook."""
from __future__ import annotations

import json
import logging
import os
import struct
import time
from typing import Any, Callable, Optional

import torch

from standin_profile import PROFILE

PROGRESS_BAR_ENABLED = True
PROGRESS_BAR_HOOK: Optional[Callable[..., None]] = None
THROTTLE_SECONDS = 0.1
THROTTLE_PERCENT = 0.5

_DTYPES = {"F16": torch.float16, "F32": torch.float32, "BF16": torch.bfloat16,
           "U8": torch.uint8, "I64": torch.int64}


def load_torch_file(ckpt: str, safe_load: bool = False, device: Any = None,
                    return_metadata: bool = False) -> Any:
    """Reads a safetensors file for real: header, then every byte of the data."""
    with open(ckpt, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        tensors = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            file.seek(8 + length + begin)
            if len(file.read(end - begin)) != end - begin:
                raise RuntimeError(f"{os.path.basename(ckpt)} is shorter than its header says")
            tensors[name] = torch.zeros(tuple(entry["shape"]), dtype=_DTYPES[entry["dtype"]])
    logging.debug("read %d tensors from %s", len(tensors), ckpt)
    return (tensors, metadata) if return_metadata else tensors


def calculate_parameters(state_dict: dict[str, Any], prefix: str = "") -> int:
    return sum(tensor.numel() for name, tensor in state_dict.items() if name.startswith(prefix))


def set_progress_bar_enabled(enabled: bool) -> None:
    global PROGRESS_BAR_ENABLED
    PROGRESS_BAR_ENABLED = enabled


def set_progress_bar_global_hook(function: Callable[..., None]) -> None:
    global PROGRESS_BAR_HOOK
    PROGRESS_BAR_HOOK = function


class ProgressBar:
    def __init__(self, total: float, node_id: Optional[str] = None) -> None:
        self.total = total
        self.current: float = 0
        self.hook = PROGRESS_BAR_HOOK
        self.node_id = node_id
        self._told_at = 0.0
        self._told_value = -1.0

    def update_absolute(self, value: float, total: Optional[float] = None,
                        preview: Any = None) -> None:
        if total is not None:
            self.total = total
        self.current = min(value, self.total)
        if self.hook is None or self._skip():
            return
        self._told_at, self._told_value = time.monotonic(), self.current
        if PROFILE.progress:
            self.hook(self.current, self.total, preview, node_id=self.node_id)
        else:
            self.hook(self.current, self.total, preview)

    def _skip(self) -> bool:
        """Newer generations tell the first and last step and little between."""
        if not PROFILE.throttled or self._told_value < 0 or self.current >= self.total:
            return False
        percent = (self.current - self._told_value) * 100.0 / max(self.total, 1)
        return time.monotonic() - self._told_at < THROTTLE_SECONDS or percent < THROTTLE_PERCENT

    def update(self, value: float) -> None:
        self.update_absolute(self.current + value)
