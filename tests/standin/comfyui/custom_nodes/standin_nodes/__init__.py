"""Node library of the scenarios: each node provokes one case a monitor must get right.

Works in the stand-in and, linked into custom_nodes, in a real ComfyUI as well: it uses
only what both have.
"""
from __future__ import annotations

from typing import Any

from .deadly import DEADLY
from .plain import PLAIN
from .shapes import SHAPES

NODE_CLASS_MAPPINGS: dict[str, Any] = {**PLAIN, **SHAPES, **DEADLY}
