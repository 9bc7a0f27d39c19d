"""Starts the stand-in in upstream's order: what a custom node sees at each stage depends on it.

Prestartup scripts run before torch can be imported; custom nodes load inside a running loop,
before routes, the progress hook and the worker thread exist.
"""
from __future__ import annotations

import faulthandler
import logging
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ["DO_NOT_TRACK"] = "1"

import standin_profile  # noqa: E402
from standin_profile import CONTEXT, PROFILE  # noqa: E402
from comfy.cli_args import args  # noqa: E402
import folder_paths  # noqa: E402

logging.basicConfig(level=args.verbose, format="%(message)s", stream=sys.stderr)


class _NoTorchYet:
    """Refuses torch and notes who asked, until the host itself has imported it."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in ("torch", "execution", "server", "nodes"):
            caller = sys._getframe(1)
            while caller is not None and "importlib" in caller.f_code.co_filename:
                caller = caller.f_back
            place = caller.f_code.co_filename if caller is not None else "?"
            if name == "torch":
                standin_profile.early_torch_imports.append(place)
            logging.warning("WARNING: %s was asked for too early, by %s", name, place)
            raise ImportError(f"{name} cannot be imported before start-up has reached it")


def execute_prestartup_script() -> None:
    """All nodes' scripts; runs on the main thread with no loop and no torch."""
    import importlib.util
    import time

    times = []
    for place in folder_paths.get_folder_paths("custom_nodes"):
        for name in os.listdir(place):
            times.append((name, os.path.join(place, name, "prestartup_script.py")))
    gate = _NoTorchYet()
    sys.meta_path.insert(0, gate)  # type: ignore[arg-type]
    try:
        for name, script in sorted(times):
            if not os.path.isfile(script) or name.endswith(".disabled"):
                continue
            if args.disable_all_custom_nodes and name not in args.whitelist_custom_nodes:
                continue
            begin = time.perf_counter()
            try:
                spec = importlib.util.spec_from_file_location(os.path.splitext(script)[0], script)
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
            except Exception as error:
                logging.error("Failed to execute startup-script: %s / %s", script, error)
            logging.info("Prestartup of %s: %.1f seconds", name, time.perf_counter() - begin)
    finally:
        sys.meta_path.remove(gate)  # type: ignore[arg-type]


if __name__ == "__main__":
    if PROFILE.six_tuple:
        faulthandler.enable()
    execute_prestartup_script()

if "torch" in sys.modules:
    logging.warning("WARNING: torch was imported before start-up reached it")
    standin_profile.early_torch_imports.append("sys.modules")
sys.path.append(os.path.join(HERE, "_fake"))

import asyncio  # noqa: E402
import gc  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

import comfy.utils  # noqa: E402
import execution  # noqa: E402
import server  # noqa: E402
import nodes  # noqa: E402
import comfy.model_management  # noqa: E402
from comfyui_version import __version__  # noqa: E402
from comfy_execution.progress import get_progress_state  # noqa: E402
from comfy_execution.utils import get_executing_context  # noqa: E402
from standin_engine.queue import publish_end  # noqa: E402
import hook_breaker_ac10a0  # noqa: E402

GC_INTERVAL_S = 10.0


def _work(q: Any, server_instance: Any, asset_manager: Any) -> None:
    """Takes prompts for ever. What escapes the executor ends this thread, as upstream."""
    if PROFILE.asset_manager:
        executor = execution.PromptExecutor(server_instance, cache_type=False, cache_args={},
                                            asset_manager=asset_manager)
    else:
        executor = execution.PromptExecutor(server_instance)
    last_gc, need_gc = 0.0, False
    while True:
        timeout = max(GC_INTERVAL_S - (time.perf_counter() - last_gc), 0.0) if need_gc else 1000.0
        queue_item = q.get(timeout=timeout, **CONTEXT)
        if queue_item is not None:
            item, item_id = queue_item
            _run_one(q, server_instance, executor, item, item_id)
            need_gc = True
        flags = q.get_flags()
        free_memory = flags.get("free_memory", False)
        if flags.get("unload_models", free_memory):
            comfy.model_management.unload_all_models(**CONTEXT)
            need_gc, last_gc = True, 0.0
        if free_memory:
            executor.reset()
            need_gc, last_gc = True, 0.0
        if need_gc and time.perf_counter() - last_gc > GC_INTERVAL_S:
            gc.collect()
            comfy.model_management.soft_empty_cache()
            last_gc, need_gc = time.perf_counter(), False
            if PROFILE.hook_breaker:
                hook_breaker_ac10a0.restore_functions()


def _run_one(q: Any, server_instance: Any, executor: Any, item: Any, item_id: int) -> None:
    begin = time.perf_counter()
    prompt_id = item[1]
    server_instance.last_prompt_id = prompt_id
    extra_data = {**item[3], **item[5]} if PROFILE.six_tuple else item[3]
    executor.execute(item[2], prompt_id, extra_data, item[4], **CONTEXT)
    status = execution.PromptQueue.ExecutionStatus(
        status_str="success" if executor.success else "error", completed=executor.success,
        messages=executor.status_messages)
    if PROFILE.style == "recursive":
        q.task_done(item_id, executor.outputs_ui, status=status)
    elif PROFILE.process_item:
        q.task_done(item_id, executor.history_result, status=status,
                    process_item=lambda done: done[:5])
    else:
        q.task_done(item_id, executor.history_result, status=status, **CONTEXT)
    publish_end(prompt_id, status)
    if server_instance.client_id is not None:
        server_instance.send_sync("executing", {"node": None, "prompt_id": prompt_id},
                                  server_instance.client_id, **CONTEXT)
    logging.info("Prompt executed in %.2f seconds", time.perf_counter() - begin)


if PROFILE.asset_manager:
    def prompt_worker(q, server_instance, asset_manager):
        _work(q, server_instance, asset_manager)
else:
    def prompt_worker(q, server_instance):
        _work(q, server_instance, None)


def hijack_progress(server_instance: Any) -> None:
    """Installs the global progress hook: interrupt check, registry, websocket message."""
    def hook(value, total, preview_image, prompt_id=None, node_id=None):
        context = get_executing_context()
        if context is not None:
            prompt_id = prompt_id or context.prompt_id
            node_id = node_id or context.node_id
        comfy.model_management.throw_exception_if_processing_interrupted()
        prompt_id = prompt_id or server_instance.last_prompt_id
        node_id = node_id or server_instance.last_node_id
        if PROFILE.progress:
            get_progress_state().update_progress(node_id, value, total, preview_image, **CONTEXT)
        server_instance.send_sync("progress", {"value": value, "max": total,
                                               "prompt_id": prompt_id, "node": node_id},
                                  server_instance.client_id, **CONTEXT)

    comfy.utils.set_progress_bar_global_hook(hook)


async def run(server_instance: Any, address: str, port: int) -> None:
    await asyncio.gather(server_instance.start(address, port), server_instance.publish_loop())


def start_comfyui() -> tuple[asyncio.AbstractEventLoop, Any]:
    os.makedirs(folder_paths.get_temp_directory(), exist_ok=True)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    prompt_server = server.PromptServer(loop)
    if PROFILE.style != "async":
        execution.PromptQueue(prompt_server)
    if PROFILE.hook_breaker:
        hook_breaker_ac10a0.save_functions()
    if PROFILE.style == "async":
        loop.run_until_complete(nodes.init_extra_nodes(init_custom_nodes=True))
    else:
        nodes.init_extra_nodes(init_custom_nodes=True)
    if PROFILE.hook_breaker:
        hook_breaker_ac10a0.restore_functions()
    prompt_server.add_routes()
    hijack_progress(prompt_server)
    worker_args: tuple[Any, ...] = (prompt_server.prompt_queue, prompt_server)
    if PROFILE.asset_manager:
        worker_args += (None,)
    threading.Thread(target=prompt_worker, daemon=True, args=worker_args).start()
    return loop, prompt_server


if __name__ == "__main__":
    logging.info("Stand-in for ComfyUI version: %s (%s)", __version__, PROFILE.name)
    event_loop, prompt_server = start_comfyui()
    if args.quick_test_for_ci:
        raise SystemExit(0)
    try:
        event_loop.run_until_complete(run(prompt_server, args.listen, args.port))
    except KeyboardInterrupt:
        logging.info("\nStopped server")
