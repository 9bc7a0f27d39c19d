"""Nodes that ask for the token of who is signed in, as those that call a service do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict, Tuple


class SignedToken:
    FUNCTION, CATEGORY, RETURN_TYPES, OUTPUT_NODE = "run", "test", (), True

    @classmethod
    def INPUT_TYPES(cls) -> Dict[str, Any]:
        return {"required": {}, "hidden": {"token": "AUTH_TOKEN_COMFY_ORG", "node_id": "UNIQUE_ID"}}

    def run(self, **_: Any) -> Tuple[()]:
        return ()


class SignedKey(SignedToken):
    """The form that the newer kind of nodes has."""

    @classmethod
    def INPUT_TYPES(cls) -> Dict[str, Any]:
        return {"required": {}, "hidden": {"api_key_comfy_org": ("API_KEY_COMFY_ORG",)}}


class Unknown(SignedToken):
    """Whether it asks for one cannot be known by who looks while it is queued."""

    @classmethod
    def INPUT_TYPES(cls) -> Dict[str, Any]:
        if Path(sys._getframe(1).f_code.co_filename).name == "server.py":
            raise RuntimeError("its inputs are not known now")
        return {"required": {}}


NODE_CLASS_MAPPINGS: Dict[str, Any] = {"SignedToken": SignedToken, "SignedKey": SignedKey, "Unknown": Unknown}
