"""Samplers: nothing is computed, but models are loaded and steps are counted and shown."""
from __future__ import annotations

import time
from typing import Any, Callable, Optional

import comfy.model_management

SAMPLER_NAMES = ["euler", "euler_ancestral", "dpmpp_2m", "ddim", "uni_pc"]
SCHEDULER_NAMES = ["simple", "normal", "karras", "exponential"]
STEP_SECONDS = 0.002


class CFGGuider:
    def __init__(self, model_patcher: Any) -> None:
        self.model_patcher = model_patcher
        self.cfg = 1.0
        self.conds: dict[str, Any] = {}

    def set_conds(self, positive: Any, negative: Any) -> None:
        self.conds = {"positive": positive, "negative": negative}

    def set_cfg(self, cfg: float) -> None:
        self.cfg = cfg

    def sample(self, noise: Any, latent_image: Any, sampler: Any, sigmas: Any,
               denoise_mask: Any = None, callback: Optional[Callable[..., None]] = None,
               disable_pbar: bool = False, seed: Optional[int] = None) -> Any:
        comfy.model_management.request_models([self.model_patcher], memory_required=1 << 16)
        steps = len(sigmas) - 1
        for step in range(steps):
            time.sleep(STEP_SECONDS)
            if callback is not None:
                callback(step, latent_image, latent_image, steps)
        return latent_image.clone()


class KSampler:
    SAMPLERS = SAMPLER_NAMES
    SCHEDULERS = SCHEDULER_NAMES

    def __init__(self, model: Any, steps: int, device: Any, sampler: Optional[str] = None,
                 scheduler: Optional[str] = None, denoise: Optional[float] = None,
                 model_options: Any = None) -> None:
        self.model, self.device = model, device
        self.sampler = sampler or SAMPLER_NAMES[0]
        self.scheduler = scheduler or SCHEDULER_NAMES[0]
        self.steps = max(1, int(steps * (1.0 if denoise is None else denoise)))

    def sample(self, noise: Any, positive: Any, negative: Any, cfg: float,
               latent_image: Any = None, callback: Any = None, disable_pbar: bool = False,
               seed: Optional[int] = None, **_: Any) -> Any:
        guider = CFGGuider(self.model)
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
        return guider.sample(noise, latent_image, self.sampler, [0.0] * (self.steps + 1), None,
                             callback, disable_pbar, seed)
