"""A model and where its weights are."""
from __future__ import annotations

from typing import Any

import torch


class ModelPatcher:
    def __init__(self, model: Any, load_device: Any, offload_device: Any, size: int = 0) -> None:
        self.model = model
        self.load_device = load_device
        self.offload_device = offload_device
        self.size = size
        self._loaded = 0
        self._weights: Any = None

    def model_size(self) -> int:
        return self.size

    def loaded_size(self) -> int:
        return self._loaded

    def current_loaded_device(self) -> Any:
        return self.load_device if self._loaded else self.offload_device

    def model_dtype(self) -> Any:
        return torch.float16

    def partially_load(self, device_to: Any, extra_memory: int = 0) -> int:
        self._weights = torch.zeros((self.size,), dtype=torch.uint8, device=device_to)
        self._loaded = self.size
        return self._loaded

    def detach(self, unpatch_all: bool = True) -> None:
        self._weights = None
        self._loaded = 0

    def is_clone(self, other: Any) -> bool:
        return self.model is getattr(other, "model", None)

    def clone(self) -> "ModelPatcher":
        return ModelPatcher(self.model, self.load_device, self.offload_device, self.size)
