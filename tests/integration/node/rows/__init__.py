"""A custom node that uses comfymon's public functions: one long span around each job, one around each node."""
from __future__ import annotations

NODE_CLASS_MAPPINGS: dict = {}

try:
    import comfymon
except ImportError:  # not installed, or switched off
    pass
else:
    comfymon.attach([
        {"module": "execution", "attr": owner + ".execute", "name": "test.job", "long": True, "optional": True,
         "resource": "'job'", "tags": {"prompt": "prompt_id"}} for owner in ("PromptExecutor", "_Executor")
    ] + [
        {"module": "execution", "attr": "get_output_data", "name": "test.node", "long": True, "resource": "'node'"},
    ])
