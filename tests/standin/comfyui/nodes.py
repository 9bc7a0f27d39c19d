"""The built-in node classes and the loader of custom nodes."""
from __future__ import annotations

import importlib.util
import logging
import os
import sys
import time
import traceback
from typing import Any

import comfy.model_management
import folder_paths
from comfy.cli_args import args
from standin_engine.builtin_nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from standin_profile import PROFILE

MAX_RESOLUTION = 16384
EXTENSION_WEB_DIRS: dict[str, str] = {}
LOADED_MODULE_DIRS: dict[str, str] = {}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]


def before_node_execution() -> None:
    comfy.model_management.throw_exception_if_processing_interrupted()


def interrupt_processing(value: bool = True) -> None:
    comfy.model_management.interrupt_current_processing(value)


def custom_node_paths() -> list[str]:
    """All node directories and files, by name over all places so that order is repeatable."""
    found = []
    for place in folder_paths.get_folder_paths("custom_nodes"):
        for name in os.listdir(place):
            path = os.path.join(place, name)
            if name == "__pycache__" or name.endswith(".disabled"):
                continue
            if os.path.isfile(path) and os.path.splitext(name)[1] != ".py":
                continue
            if args.disable_all_custom_nodes and name not in args.whitelist_custom_nodes:
                continue
            found.append(path)
    return sorted(found, key=lambda path: (os.path.basename(path), path))


async def load_custom_node(module_path: str, ignore: set[str] | None = None,
                           module_parent: str = "custom_nodes") -> bool:
    is_dir = os.path.isdir(module_path)
    name = module_path.replace(".", "_x_") if is_dir else os.path.splitext(module_path)[0]
    source = os.path.join(module_path, "__init__.py") if is_dir else module_path
    try:
        spec = importlib.util.spec_from_file_location(name, source)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        LOADED_MODULE_DIRS[os.path.basename(module_path)] = os.path.abspath(
            module_path if is_dir else os.path.dirname(module_path))
        web = getattr(module, "WEB_DIRECTORY", None)
        if web is not None and is_dir:
            EXTENSION_WEB_DIRS[os.path.basename(module_path)] = os.path.join(module_path, web)
        return await _take_nodes(module, module_path, ignore or set())
    except Exception as error:
        logging.warning("%s", traceback.format_exc())
        logging.warning("Cannot import %s module for custom nodes: %s", module_path, error)
        return False


async def _take_nodes(module: Any, module_path: str, ignore: set[str]) -> bool:
    if getattr(module, "NODE_CLASS_MAPPINGS", None) is not None:
        for class_type, class_def in module.NODE_CLASS_MAPPINGS.items():
            if class_type not in ignore:
                NODE_CLASS_MAPPINGS[class_type] = class_def
        NODE_DISPLAY_NAME_MAPPINGS.update(getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", {}))
        return True
    if hasattr(module, "comfy_entrypoint"):
        extension = module.comfy_entrypoint()
        if hasattr(extension, "__await__"):
            extension = await extension
        await extension.on_load()
        for class_def in await extension.get_node_list():
            NODE_CLASS_MAPPINGS[class_def.__name__] = class_def
        return True
    logging.warning("Skip %s module for custom nodes due to the lack of NODE_CLASS_MAPPINGS.",
                    module_path)
    return False


async def init_external_custom_nodes() -> None:
    taken = set(NODE_CLASS_MAPPINGS)
    times = []
    for path in custom_node_paths():
        begin = time.perf_counter()
        good = await load_custom_node(path, taken)
        times.append((time.perf_counter() - begin, path, good))
    if times:
        logging.info("\nImport times for custom nodes:")
        for seconds, path, good in sorted(times):
            logging.info("%6.1f seconds%s: %s", seconds, "" if good else " (IMPORT FAILED)", path)
        logging.info("")


if PROFILE.style == "async":
    async def init_extra_nodes(init_custom_nodes: bool = True,
                               init_api_nodes: bool = True) -> None:
        if init_custom_nodes:
            await init_external_custom_nodes()
else:
    def init_extra_nodes(init_custom_nodes: bool = True) -> None:
        """Before the async generations: no event loop runs while custom nodes load."""
        if init_custom_nodes:
            coroutine = init_external_custom_nodes()
            try:
                coroutine.send(None)
            except StopIteration:
                return
            raise RuntimeError("a custom node waited where no event loop runs")
