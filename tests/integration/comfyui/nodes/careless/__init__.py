"""Wraps what comfymon's hooks of models and requests wrap, in the careless ways of published nodes.

Copied under names that load before and after everybody else. Each way loses something: names, signature, or that it is a
function at all; none passes on what it does not know.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable

import aiohttp.web_protocol
import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.utils

NODE_CLASS_MAPPINGS: dict = {}


class Called:
    """No function: an object that can be called, and is no method either until it says so."""

    def __init__(self, original: Callable[..., Any]) -> None:
        self.original = original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.original(*args, **kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)


def fixed(original: Callable[..., Any]) -> Callable[..., Any]:
    """Exactly the parameters of today."""
    signature = inspect.signature(original)

    def replaced(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return original(*bound.args, **bound.kwargs)
    return replaced


def bare(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: original(*args, **kwargs)


for _owner, _name, _way in (
        (comfy.utils, "load_torch_file", Called), (comfy.sd, "load_checkpoint_guess_config", fixed),
        (comfy.sd.VAE, "__init__", bare), (comfy.sd.VAE, "decode", Called), (comfy.sd.VAE, "decode_tiled_", bare),
        (comfy.sd.CLIP, "encode_from_tokens", fixed), (comfy.sample, "sample", Called),
        (comfy.samplers.CFGGuider, "sample", bare), (comfy.model_management, "free_memory", bare),
        (comfy.model_management, "unload_all_models", fixed), (aiohttp.web_protocol.RequestHandler, "_handle_request", bare)):
    if hasattr(_owner, _name):
        setattr(_owner, _name, _way(getattr(_owner, _name)))
