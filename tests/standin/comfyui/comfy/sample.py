"""Entry points to sampling, as the sampler nodes call them."""
from __future__ import annotations

from typing import Any

import torch

import comfy.samplers


def prepare_noise(latent_image: Any, seed: int, noise_inds: Any = None) -> Any:
    return torch.zeros(tuple(latent_image.shape))


def sample(model: Any, noise: Any, steps: int, cfg: float, sampler_name: str, scheduler: str,
           positive: Any, negative: Any, latent_image: Any, denoise: float = 1.0,
           disable_noise: bool = False, start_step: Any = None, last_step: Any = None,
           force_full_denoise: bool = False, noise_mask: Any = None, sigmas: Any = None,
           callback: Any = None, disable_pbar: bool = False, seed: Any = None) -> Any:
    sampler = comfy.samplers.KSampler(model, steps, model.load_device, sampler_name, scheduler,
                                      denoise)
    return sampler.sample(noise, positive, negative, cfg, latent_image=latent_image,
                          callback=callback, disable_pbar=disable_pbar, seed=seed)


def sample_custom(model: Any, noise: Any, cfg: float, sampler: Any, sigmas: Any, positive: Any,
                  negative: Any, latent_image: Any, noise_mask: Any = None, callback: Any = None,
                  disable_pbar: bool = False, seed: Any = None) -> Any:
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider.sample(noise, latent_image, sampler, sigmas, noise_mask, callback, disable_pbar,
                         seed)
