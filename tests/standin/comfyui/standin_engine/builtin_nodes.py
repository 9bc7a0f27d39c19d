"""The built-in node classes, named and wired as upstream's so that real workflows fit."""
from __future__ import annotations

import os
import random
import string
import struct
import zlib
from typing import Any

import torch

import comfy.sample
import comfy.samplers
import comfy.sd
import comfy.utils
import folder_paths

IMAGE_SIDE = ("INT", {"default": 512, "min": 1, "max": 16384})


class CheckpointLoaderSimple:
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL", "CLIP", "VAE"), "load_checkpoint", "loaders"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"ckpt_name": (folder_paths.get_filename_list("checkpoints"),)}}

    def load_checkpoint(self, ckpt_name: str) -> Any:
        path = folder_paths.get_full_path_or_raise("checkpoints", ckpt_name)
        return comfy.sd.load_checkpoint_guess_config(path, output_vae=True, output_clip=True)[:3]


class VAELoader:
    RETURN_TYPES, FUNCTION, CATEGORY = ("VAE",), "load_vae", "loaders"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"vae_name": (["pixel_space", "oom_vae"],)}}

    def load_vae(self, vae_name: str) -> Any:
        return (comfy.sd.VAE(oom=vae_name == "oom_vae"),)


class CLIPTextEncode:
    RETURN_TYPES, FUNCTION, CATEGORY = ("CONDITIONING",), "encode", "conditioning"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"text": ("STRING", {"multiline": True}), "clip": ("CLIP",)}}

    def encode(self, clip: Any, text: str) -> Any:
        return (clip.encode_from_tokens_scheduled(clip.tokenize(text)),)


class EmptyLatentImage:
    RETURN_TYPES, FUNCTION, CATEGORY = ("LATENT",), "generate", "latent"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"width": ("INT", {"default": 512, "min": 16, "max": 16384}),
                             "height": ("INT", {"default": 512, "min": 16, "max": 16384}),
                             "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096})}}

    def generate(self, width: int, height: int, batch_size: int = 1) -> Any:
        return ({"samples": torch.zeros((batch_size, 4, height // 8, width // 8))},)


def common_ksampler(model: Any, seed: int, steps: int, cfg: float, sampler_name: str,
                    scheduler: str, positive: Any, negative: Any, latent: dict[str, Any],
                    denoise: float = 1.0) -> Any:
    image = latent["samples"]
    bar = comfy.utils.ProgressBar(steps)

    def show(step: int, x0: Any, x: Any, total_steps: int) -> None:
        bar.update_absolute(step + 1, total_steps, None)

    samples = comfy.sample.sample(model, comfy.sample.prepare_noise(image, seed), steps, cfg,
                                  sampler_name, scheduler, positive, negative, image,
                                  denoise=denoise, callback=show, seed=seed)
    return ({**latent, "samples": samples},)


class KSampler:
    RETURN_TYPES, FUNCTION, CATEGORY = ("LATENT",), "sample", "sampling"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {
            "model": ("MODEL",),
            "seed": ("INT", {"default": 0, "min": 0, "max": 0xffffffffffffffff}),
            "steps": ("INT", {"default": 20, "min": 1, "max": 10000}),
            "cfg": ("FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0}),
            "sampler_name": (comfy.samplers.KSampler.SAMPLERS,),
            "scheduler": (comfy.samplers.KSampler.SCHEDULERS,),
            "positive": ("CONDITIONING",), "negative": ("CONDITIONING",),
            "latent_image": ("LATENT",),
            "denoise": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0})}}

    def sample(self, model: Any, seed: int, steps: int, cfg: float, sampler_name: str,
               scheduler: str, positive: Any, negative: Any, latent_image: Any,
               denoise: float = 1.0) -> Any:
        return common_ksampler(model, seed, steps, cfg, sampler_name, scheduler, positive,
                               negative, latent_image, denoise=denoise)


class VAEDecode:
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "decode", "latent"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"samples": ("LATENT",), "vae": ("VAE",)}}

    def decode(self, vae: Any, samples: Any) -> Any:
        return (vae.decode(samples["samples"]),)


class VAEEncode:
    RETURN_TYPES, FUNCTION, CATEGORY = ("LATENT",), "encode", "latent"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"pixels": ("IMAGE",), "vae": ("VAE",)}}

    def encode(self, vae: Any, pixels: Any) -> Any:
        return ({"samples": vae.encode(pixels)},)


class EmptyImage:
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "generate", "image"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"width": IMAGE_SIDE, "height": IMAGE_SIDE,
                             "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096}),
                             "color": ("INT", {"default": 0, "min": 0, "max": 0xffffff})}}

    def generate(self, width: int, height: int, batch_size: int = 1, color: int = 0) -> Any:
        return (torch.full((batch_size, height, width, 3), color),)


class ImageScaleBy:
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "upscale", "image"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"image": ("IMAGE",),
                             "upscale_method": (["nearest-exact", "bilinear", "area"],),
                             "scale_by": ("FLOAT", {"default": 1.0, "min": 0.01, "max": 8.0})}}

    def upscale(self, image: Any, upscale_method: str, scale_by: float) -> Any:
        batch, height, width, channels = image.shape
        height, width = round(height * scale_by), round(width * scale_by)
        if not height or not width:
            raise RuntimeError(f"sizes must be greater than 0, got H: {height} W: {width}")
        return (torch.zeros((batch, height, width, channels)),)


def _png(width: int, height: int) -> bytes:
    """A small black PNG: saving writes a real file without an image library."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(
            ">I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\0" + b"\0" * width) * height, 1)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0,
                                                               0, 0))
            + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


class SaveImage:
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "save_images", "image", True

    def __init__(self) -> None:
        self.directory = folder_paths.get_output_directory()
        self.kind = "output"
        self.suffix = ""

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"images": ("IMAGE",),
                             "filename_prefix": ("STRING", {"default": "ComfyUI"})},
                "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}}

    def save_images(self, images: Any, filename_prefix: str = "ComfyUI", prompt: Any = None,
                    extra_pnginfo: Any = None) -> Any:
        os.makedirs(self.directory, exist_ok=True)
        prefix = os.path.basename(filename_prefix) + self.suffix
        number = sum(name.startswith(prefix) for name in os.listdir(self.directory))
        saved = []
        for index in range(images.shape[0]):
            name = f"{prefix}_{number + index + 1:05}_.png"
            with open(os.path.join(self.directory, name), "wb") as file:
                file.write(_png(min(images.shape[2], 64), min(images.shape[1], 64)))
            saved.append({"filename": name, "subfolder": "", "type": self.kind})
        return {"ui": {"images": saved}}


class PreviewImage(SaveImage):
    def __init__(self) -> None:
        super().__init__()
        self.directory = folder_paths.get_temp_directory()
        self.kind = "temp"
        self.suffix = "_temp_" + "".join(random.choice(string.ascii_lowercase) for _ in range(5))

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"images": ("IMAGE",)},
                "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}}


NODE_CLASS_MAPPINGS: dict[str, Any] = {node.__name__: node for node in (
    CheckpointLoaderSimple, VAELoader, CLIPTextEncode, EmptyLatentImage, KSampler, VAEDecode,
    VAEEncode, EmptyImage, ImageScaleBy, SaveImage, PreviewImage)}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {"CheckpointLoaderSimple": "Load Checkpoint"}
