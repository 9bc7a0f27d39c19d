"""Directories of one installation: the checkout itself or --base-directory."""
from __future__ import annotations

import os

from comfy.cli_args import args

base_path = os.path.abspath(args.base_directory or os.path.dirname(os.path.abspath(__file__)))
models_dir = os.path.join(base_path, "models")
_library = os.path.join(os.path.dirname(os.path.abspath(__file__)), "custom_nodes")

folder_names_and_paths: dict[str, tuple[list[str], set[str]]] = {
    "checkpoints": ([os.path.join(models_dir, "checkpoints")], {".safetensors", ".ckpt"}),
    "vae": ([os.path.join(models_dir, "vae")], {".safetensors"}),
    "loras": ([os.path.join(models_dir, "loras")], {".safetensors"}),
    "custom_nodes": ([os.path.join(base_path, "custom_nodes")], set()),
}
_named = folder_names_and_paths["custom_nodes"][0]
for _extra in [_library, *args.custom_nodes_dir]:
    if os.path.abspath(_extra) not in [os.path.abspath(path) for path in _named]:
        _named.append(os.path.abspath(_extra))

output_directory = os.path.abspath(args.output_directory or os.path.join(base_path, "output"))
temp_directory = os.path.join(base_path, "temp")
input_directory = os.path.join(base_path, "input")
user_directory = os.path.join(base_path, "user")


def get_output_directory() -> str:
    return output_directory


def get_temp_directory() -> str:
    return temp_directory


def get_input_directory() -> str:
    return input_directory


def get_user_directory() -> str:
    return user_directory


def get_folder_paths(folder_name: str) -> list[str]:
    return folder_names_and_paths[folder_name][0][:]


def get_filename_list(folder_name: str) -> list[str]:
    paths, extensions = folder_names_and_paths[folder_name]
    found = set()
    for path in paths:
        if os.path.isdir(path):
            found.update(name for name in os.listdir(path)
                         if os.path.splitext(name)[1] in extensions)
    return sorted(found)


def get_full_path(folder_name: str, filename: str) -> str | None:
    for path in get_folder_paths(folder_name):
        candidate = os.path.join(path, filename)
        if os.path.isfile(candidate):
            return candidate
    return None


def get_full_path_or_raise(folder_name: str, filename: str) -> str:
    path = get_full_path(folder_name, filename)
    if path is None:
        raise FileNotFoundError(f"no {folder_name} file named {filename}")
    return path
