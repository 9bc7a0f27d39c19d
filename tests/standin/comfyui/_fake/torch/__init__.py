"""A torch without torch: tensors are real memory with a shape, and nothing computes.

Allocations are bytearrays, so that RSS moves; too large ones fail as on a CPU host,
and with STANDIN_CUDA=1 there is one device of STANDIN_CUDA_BYTES bytes.
"""
from __future__ import annotations

import math
from contextlib import contextmanager
from typing import Any, Iterator, Optional, Sequence, Union

from . import cuda

__version__ = "2.99.0+standin"
HOST_LIMIT_BYTES = 1 << 36

OutOfMemoryError = cuda.OutOfMemoryError


class dtype:
    def __init__(self, name: str, itemsize: int) -> None:
        self.name, self.itemsize = name, itemsize

    def __repr__(self) -> str:
        return f"torch.{self.name}"


float32 = float = dtype("float32", 4)
float16 = half = dtype("float16", 2)
bfloat16 = dtype("bfloat16", 2)
float64 = dtype("float64", 8)
int64 = long = dtype("int64", 8)
uint8 = dtype("uint8", 1)


class device:
    def __init__(self, name: Union[str, "device"], index: Optional[int] = None) -> None:
        if isinstance(name, device):
            name, index = name.type, name.index
        kind, _, number = name.partition(":")
        self.type = kind
        self.index = int(number) if number else index

    def __repr__(self) -> str:
        return f"device(type={self.type!r})" if self.index is None \
            else f"device(type={self.type!r}, index={self.index})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))


class Size(tuple):
    def numel(self) -> int:
        return math.prod(self)


class _Storage:
    """The bytes of one tensor; several views may share one."""

    def __init__(self, nbytes: int, where: device) -> None:
        self._nbytes, self._where = nbytes, where
        if where.type == "cuda":
            cuda.reserve(nbytes)
            self._bytes = bytearray(0)
        else:
            if nbytes > HOST_LIMIT_BYTES:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to "
                                   f"allocate {nbytes} bytes. Error code 12 (Cannot allocate "
                                   "memory)")
            self._bytes = bytearray(nbytes)

    def __del__(self) -> None:
        if getattr(self, "_bytes", None) is not None and self._where.type == "cuda":
            cuda.release(self._nbytes)

    def data_ptr(self) -> int:
        return id(self._bytes) if self._nbytes else 0

    def nbytes(self) -> int:
        return self._nbytes


class Tensor:
    def __init__(self, shape: Sequence[int], dtype: dtype = float32,
                 device: Any = "cpu", storage: Optional[_Storage] = None) -> None:
        self.shape = Size(shape)
        self.dtype = dtype
        self.device = _device(device)
        self._storage = storage or _Storage(self.numel() * dtype.itemsize, self.device)

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def nbytes(self) -> int:
        return self.numel() * self.dtype.itemsize

    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def is_cpu(self) -> bool:
        return self.device.type == "cpu"

    def dim(self) -> int:
        return len(self.shape)

    def size(self, index: Optional[int] = None) -> Any:
        return self.shape if index is None else self.shape[index]

    def element_size(self) -> int:
        return self.dtype.itemsize

    def untyped_storage(self) -> _Storage:
        return self._storage

    def data_ptr(self) -> int:
        return self._storage.data_ptr()

    def clone(self) -> "Tensor":
        return Tensor(self.shape, self.dtype, self.device)

    def cpu(self) -> "Tensor":
        return self.to("cpu")

    def to(self, target: Any, **_: Any) -> "Tensor":
        if isinstance(target, dtype):
            return Tensor(self.shape, target, self.device)
        moved = _device(target)
        return self if moved == self.device else Tensor(self.shape, self.dtype, moved)

    def view(self, *shape: int) -> "Tensor":
        return Tensor(shape, self.dtype, self.device, self._storage)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"tensor(shape={tuple(self.shape)}, dtype={self.dtype}, device={self.device})"


_Device = device


def _device(name: Any) -> device:
    return name if isinstance(name, _Device) else _Device("cpu" if name is None else name)


def zeros(*shape: Any, dtype: dtype = float32, device: Any = "cpu") -> Tensor:
    dims = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    return Tensor(dims, dtype, device)


empty = ones = rand = randn = zeros


def full(shape: Sequence[int], value: Any, dtype: dtype = float32, device: Any = "cpu") -> Tensor:
    return Tensor(shape, dtype, device)


def is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


@contextmanager
def inference_mode(mode: bool = True) -> Iterator[None]:
    yield


no_grad = inference_mode


class version:
    cuda = None
    hip = None


class nn:
    class Module:
        pass
