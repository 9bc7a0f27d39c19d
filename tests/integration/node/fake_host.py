"""Loads a node folder as ComfyUI does, under any Python and without ComfyUI; told by JSON lines.

    python3 fake_host.py NODE_FOLDER [SPANS [STOP_MS]]

Prints {"stage": ...} after each stage on standard output; log lines go to standard error, as
ComfyUI's do. At the end SPANS spans are made and given STOP_MS (300) to be handed over.
"""
import asyncio
import importlib.util
import json
import logging
import os
import resource
import sys
import threading
import time


def tell(stage, **facts):
    print(json.dumps(dict(facts, stage=stage)), flush=True)


def rss_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def execute(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as for nodes; of a prestartup script ComfyUI keeps no such name
    if path.endswith("prestartup_script.py"):
        del sys.modules[name]
    spec.loader.exec_module(module)
    return module


def prestartup(folder):
    environment, modules, rss = dict(os.environ), set(sys.modules), rss_bytes()
    begin = time.perf_counter()
    execute(os.path.join(folder, "prestartup_script"), os.path.join(folder, "prestartup_script.py"))
    tell("prestartup", ms=(time.perf_counter() - begin) * 1e3, rss_bytes=rss_bytes() - rss,
         imported=sorted(set(sys.modules) - modules), environment_changed=environment != dict(os.environ),
         tasks=len(os.listdir("/proc/self/task")), python_threads=threading.active_count())


async def node(folder):
    module = execute(folder.replace(".", "_x_"), os.path.join(folder, "__init__.py"))
    tell("init", mappings=module.NODE_CLASS_MAPPINGS, on=sys.modules.get("_comfymon") is not None)


def use_spans():
    """As another node would: block, decorator, tags, an error."""
    import comfymon

    @comfymon.trace("fake.function", service="fake")
    def function(value):
        with comfymon.trace("fake.block", "resource", type="custom") as span:
            span.set_tag("a", "b")
            span.set_metric("c", 1)
            return value, comfymon.current() is not None and comfymon.current_ids() is not None

    returned, current = function(7)
    span = comfymon.trace("fake.span").start()
    span.set_error(ValueError("bad"))
    span.finish()
    raised = ""
    try:
        with span:
            raise KeyError("gone")
    except KeyError as error:
        raised = type(error).__name__
    tell("used", on=comfymon.is_on() and comfymon.status()["on"], current=current, returned=returned, raised=raised)


def main():
    logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stderr)
    folder = sys.argv[1]
    prestartup(folder)
    asyncio.run(node(folder))
    if os.environ.get("FAKE_USES_SPANS"):
        use_spans()
    for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 0):
        import comfymon
        with comfymon.trace("fake.host", resource="Fake"):
            pass
    probe = sys.modules["_comfymon"]
    if probe is not None:
        tell("end", **probe.status())
        probe.stop(int(sys.argv[3]) if len(sys.argv) > 3 else 300)


main()
