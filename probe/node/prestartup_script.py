"""Starts comfymon's probe before ComfyUI imports torch, and the collector if none listens.

ComfyUI runs this file first and __init__.py much later, each under a name of its own choice, so
the extension has one fixed place: sys.modules["_comfymon"], None when the probe is off. What
touches files, sockets or processes is in the extension. Nothing here raises into ComfyUI; every
outcome is one line in its log. Nodes that `import comfymon` find it in any case: where no extension
was loaded, a stand-in whose spans do nothing.
"""
from __future__ import annotations

import logging
import os
import sys
import types
from importlib import machinery, util

HERE = os.path.dirname(os.path.abspath(__file__))
log = logging.getLogger("comfymon")


def switched_off(*variables: str) -> str:
    """The first of these variables that says no, as Datadog's tracers understand it."""
    for name in variables:
        if os.environ.get(name, "").lower() in ("0", "false", "no", "off"):
            return name
    return ""


def load():
    """The extension that was built for this very Python, loaded; ImportError says why it cannot be."""
    suffix = machinery.EXTENSION_SUFFIXES[0]
    path = os.path.join(HERE, "_comfymon" + suffix)
    if not os.path.exists(path):
        raise ImportError("it has no probe for this Python (%s); made for CPython 3.9 to 3.13 with "
                          "a GIL, on x86-64 Linux with glibc" % suffix.strip(".").rsplit(".", 1)[0])
    spec = util.spec_from_file_location("_comfymon", path)
    probe = util.module_from_spec(spec)
    spec.loader.exec_module(probe)
    return probe


def start():
    """The probe's module, started; None when it stays off. Says which, once."""
    off = switched_off("COMFYMON_ENABLED", "DD_TRACE_ENABLED")
    if off:
        log.info("comfymon is off: %s=%s", off, os.environ[off])
        return None
    try:
        probe = load()
    except ImportError as error:
        log.warning("comfymon is off: %s", error)
        return None
    if not probe.start():
        log.warning("comfymon is off: %s", probe.status()["reason"])
        return None
    no = switched_off("COMFYMON_AUTOSTART")
    left = "left to comfymon run" if os.environ.get("COMFYMON_LIFE") else "not started (%s)" % no
    collector = left if no else probe.autostart(os.path.join(HERE, "comfymon"))
    level = logging.INFO if no or collector in ("present", "started") else logging.WARNING
    log.log(level, "comfymon %s is on in %s, collector: %s", probe.__version__,
            probe.status()["run_dir"], collector)
    for warning in probe.warnings():
        log.warning("comfymon: %s", warning)
    if "ddtrace" in sys.modules:
        log.warning("comfymon: ddtrace is loaded too; each sends traces of its own, they are not joined")
    return probe


class IdleSpan:
    """A span of the stand-in: the block or the function runs, and nothing is recorded."""

    trace_id = span_id = parent_id = 0
    error = False

    def __init__(self, name):
        self.name = name

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return False

    def __call__(self, function):
        return function

    def start(self):
        return self

    def finish(self):
        pass

    def set_tag(self, key, value):
        pass

    def set_metric(self, key, number):
        pass

    def set_error(self, exception):
        pass


def stand_in():
    """What a node may use of the extension, where there is none."""
    module = types.ModuleType("comfymon", "comfymon is off: spans do nothing.")
    module.Span = IdleSpan
    module.trace = lambda name, resource=None, service=None, type=None: IdleSpan(name)
    module.current = module.current_ids = lambda: None
    module.is_on = lambda: False
    module.attach = lambda rows=None: 0
    module.detach = lambda: None
    module.hooks = module.warnings = list
    module.status = lambda: {"on": False, "reason": "no extension is loaded"}
    return module


if "_comfymon" not in sys.modules:
    sys.modules["_comfymon"] = None
    try:
        sys.modules["_comfymon"] = start()
    except Exception:
        log.warning("comfymon is off: it could not start", exc_info=True)
    sys.modules.setdefault("comfymon", stand_in())  # the extension has put itself there
