"""Checkpoints, the text encoder and the image decoder with its tiled second try."""
from __future__ import annotations

import logging
import os
from typing import Any

import torch

import comfy.model_management as model_management
import comfy.utils
from comfy.model_patcher import ModelPatcher


class UNetModel(torch.nn.Module):
    pass


class TextModel(torch.nn.Module):
    pass


class AutoencoderKL(torch.nn.Module):
    pass


def _patcher(model: Any, size: int) -> ModelPatcher:
    return ModelPatcher(model, model_management.get_torch_device(),
                        model_management.unet_offload_device(), size)


class CLIP:
    def __init__(self, target: Any = None, size: int = 1 << 20) -> None:
        self.cond_stage_model = TextModel()
        self.patcher = _patcher(self.cond_stage_model, size)

    def tokenize(self, text: str, return_word_ids: bool = False, **_: Any) -> dict[str, Any]:
        return {"l": [[(hash(word) % 49408, 1.0) for word in text.split()]]}

    def load_model(self) -> ModelPatcher:
        model_management.request_models([self.patcher])
        return self.patcher

    def encode_from_tokens(self, tokens: Any, return_pooled: Any = False,
                           return_dict: bool = False) -> Any:
        self.load_model()
        cond, pooled = torch.zeros((1, 77, 768)), torch.zeros((1, 768))
        if return_dict:
            return {"cond": cond, "pooled_output": pooled}
        return (cond, pooled) if return_pooled else cond

    def encode_from_tokens_scheduled(self, tokens: Any, unprojected: bool = False,
                                     add_dict: Any = None, show_pbar: bool = True) -> list[Any]:
        answer = self.encode_from_tokens(tokens, return_pooled=True, return_dict=True)
        return [[answer.pop("cond"), {**answer, **(add_dict or {})}]]


class VAE:
    def __init__(self, sd: Any = None, device: Any = None, config: Any = None, dtype: Any = None,
                 metadata: Any = None, oom: bool = False) -> None:
        self.first_stage_model = AutoencoderKL()
        self.patcher = _patcher(self.first_stage_model, 1 << 20)
        self.device = device or model_management.get_torch_device()
        self.vae_dtype = dtype or torch.float32
        self.downscale = 8
        self._oom = oom

    def _fit(self, what: str) -> None:
        model_management.request_models([self.patcher], memory_required=1 << 16)
        if self._oom:
            raise model_management.OOM_EXCEPTION(f"CUDA out of memory while the VAE {what}s")

    def decode(self, samples_in: Any, vae_options: Any = None) -> Any:
        try:
            self._fit("decode")
            return self._image(samples_in)
        except model_management.OOM_EXCEPTION:
            logging.warning("Ran out of memory in regular VAE decoding, trying tiles instead")
        return self.decode_tiled_(samples_in)

    def encode(self, pixel_samples: Any) -> Any:
        try:
            self._fit("encode")
            return self._latent(pixel_samples)
        except model_management.OOM_EXCEPTION:
            logging.warning("Ran out of memory in regular VAE encoding, trying tiles instead")
        return self.encode_tiled_(pixel_samples)

    def decode_tiled_(self, samples: Any, tile_x: int = 64, tile_y: int = 64,
                      overlap: int = 16) -> Any:
        self._steps(4)
        return self._image(samples)

    def decode_tiled_3d(self, samples: Any, tile_t: int = 999, tile_x: int = 32,
                        tile_y: int = 32, overlap: Any = (1, 8, 8)) -> Any:
        return self.decode_tiled_(samples)

    def decode_tiled(self, samples: Any, tile_x: Any = None, tile_y: Any = None,
                     overlap: Any = None, tile_t: Any = None, overlap_t: Any = None) -> Any:
        model_management.request_models([self.patcher], memory_required=1 << 14)
        return self.decode_tiled_(samples)

    def encode_tiled_(self, pixel_samples: Any, tile_x: int = 512, tile_y: int = 512,
                      overlap: int = 64) -> Any:
        self._steps(4)
        return self._latent(pixel_samples)

    def encode_tiled(self, pixel_samples: Any, tile_x: Any = None, tile_y: Any = None,
                     overlap: Any = None, tile_t: Any = None, overlap_t: Any = None) -> Any:
        model_management.request_models([self.patcher], memory_required=1 << 14)
        return self.encode_tiled_(pixel_samples)

    def _steps(self, count: int) -> None:
        bar = comfy.utils.ProgressBar(count)
        for _ in range(count):
            bar.update(1)

    def _image(self, samples: Any) -> Any:
        batch, _, height, width = samples.shape
        return torch.zeros((batch, height * self.downscale, width * self.downscale, 3))

    def _latent(self, pixels: Any) -> Any:
        batch, height, width, _ = pixels.shape
        return torch.zeros((batch, 4, height // self.downscale, width // self.downscale))


def load_checkpoint_guess_config(ckpt_path: str, output_vae: bool = True, output_clip: bool = True,
                                 output_clipvision: bool = False, embedding_directory: Any = None,
                                 output_model: bool = True, model_options: Any = None,
                                 te_model_options: Any = None) -> tuple[Any, ...]:
    state_dict = comfy.utils.load_torch_file(ckpt_path)
    size = sum(tensor.nbytes for tensor in state_dict.values())
    logging.info("checkpoint %s: %d parameters", os.path.basename(ckpt_path),
                 comfy.utils.calculate_parameters(state_dict))
    return (_patcher(UNetModel(), size), CLIP() if output_clip else None,
            VAE(state_dict) if output_vae else None, None)


def load_diffusion_model(unet_path: str, model_options: Any = None) -> ModelPatcher:
    state_dict = comfy.utils.load_torch_file(unet_path)
    return _patcher(UNetModel(), sum(tensor.nbytes for tensor in state_dict.values()))


def load_lora_for_models(model: Any, clip: Any, lora: Any, strength_model: float,
                         strength_clip: float) -> tuple[Any, Any]:
    return model.clone(), clip
