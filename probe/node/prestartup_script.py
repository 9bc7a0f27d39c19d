"""Starts comfymon's probe before ComfyUI imports torch, and the collector if none listens.

ComfyUI runs this file first and __init__.py much later, each under a name of its own choice, so
the extension has one fixed place: sys.modules["_comfymon"], None when the probe is off. What
touches files, sockets or processes is in the extension. Nothing here raises into ComfyUI; every
outcome is one line in its log. Nodes that `import comfymon` find something in any case: where no
extension was loaded, idle.py.
"""
from __future__ import annotations

import logging
import os
import sys
from importlib import machinery, util

HERE = os.path.dirname(os.path.abspath(__file__))
log = logging.getLogger("comfymon")


def switched_off(*variables: str) -> str:
    """The first of these variables that says no, as Datadog's tracers understand it."""
    for name in variables:
        if os.environ.get(name, "").lower() in ("0", "false", "no", "off"):
            return name
    return ""


def load(name, file):
    """A module of this folder, loaded; nobody can import it by its place."""
    spec = util.spec_from_file_location(name, os.path.join(HERE, file))
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def extension():
    """The one that was built for this very Python; ImportError says why it cannot be loaded."""
    suffix = machinery.EXTENSION_SUFFIXES[0]
    if not os.path.exists(os.path.join(HERE, "_comfymon" + suffix)):
        raise ImportError("it has no probe for this Python (%s); made for CPython 3.9 to 3.13 with "
                          "a GIL, on x86-64 Linux with glibc" % suffix.strip(".").rsplit(".", 1)[0])
    return load("_comfymon", "_comfymon" + suffix)


def start():
    """The probe's module, started; None when it stays off. Says which, once."""
    off = switched_off("COMFYMON_ENABLED", "DD_TRACE_ENABLED")
    if off:
        log.info("comfymon is off: %s=%s", off, os.environ[off])
        return None
    try:
        probe = extension()
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


if "_comfymon" not in sys.modules:
    sys.modules["_comfymon"] = None
    try:
        try:
            sys.modules["_comfymon"] = start()
        finally:
            if "comfymon" not in sys.modules:  # where the extension puts itself
                sys.modules["comfymon"] = load("comfymon", "idle.py")
    except Exception:
        log.warning("comfymon is off: it could not start", exc_info=True)
