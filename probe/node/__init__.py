"""A custom node without nodes: puts comfymon's hooks on ComfyUI's functions, which are there now."""
from __future__ import annotations

import logging
import sys

NODE_CLASS_MAPPINGS: dict = {}
NODE_DISPLAY_NAME_MAPPINGS: dict = {}
__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

log = logging.getLogger("comfymon")


def attach() -> None:
    from . import prestartup_script  # noqa: F401  starts the probe where the host runs no such scripts
    probe = sys.modules["_comfymon"]
    if probe is None:
        return
    # What other nodes bring after us is attached with the first job that is taken from the queue.
    log.debug("comfymon: %d functions watched", probe.attach())


try:
    attach()
except Exception:
    log.warning("comfymon: not everything is watched", exc_info=True)
