"""What differs between the ComfyUI generations the stand-in can play.

One profile is chosen before anything else is imported, by `--profile NAME` or
STANDIN_PROFILE. Every other module asks PROFILE and nothing else, so that a
scenario runs unchanged on each of them.
"""
from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Profile:
    name: str
    version: str
    style: str                      # "recursive", "sync" or "async" executor
    execute_args: int = 10          # positional parameters of execution.execute
    validate_args: int = 3          # positional parameters of validate_prompt
    progress: bool = True           # ProgressRegistry and progress_state exist
    timestamps: bool = True         # messages carry a timestamp; execution_success exists
    six_tuple: bool = False         # queue items carry a sixth slot for secrets
    process_item: bool = False      # task_done takes process_item
    cache_entry: bool = False       # caches.outputs holds (ui, outputs) pairs
    async_caches: bool = False      # cache get and set are coroutines
    throttled: bool = False         # ProgressBar drops most steps
    uuid_ids: bool = False          # a supplied prompt_id must be a canonical UUID
    is_oom: bool = False            # model_management.is_oom exists
    asset_manager: bool = False     # passed to worker, executor and execute
    jobs_api: bool = False          # GET /api/jobs
    hook_breaker: bool = True
    future: bool = False            # every hookable call has an unknown keyword-only parameter
    lifecycle: bool = False         # the proposed official lifecycle handlers
    minimal: bool = False           # only queue, add_message and send_sync can be hooked


_P0364 = Profile("p0364", "0.3.64", "async")
_P0368 = replace(_P0364, name="p0368", version="0.3.68", execute_args=11, six_tuple=True,
                 process_item=True, cache_entry=True)
_P0100 = replace(_P0368, name="p0100", version="0.10.0", throttled=True, jobs_api=True)
_P038 = replace(_P0100, name="p038", version="0.38.1", execute_args=12, async_caches=True,
                uuid_ids=True, is_oom=True, asset_manager=True)

PROFILES = {p.name: p for p in (
    Profile("p2024a", "0.0.4", "recursive", execute_args=9, validate_args=1, progress=False,
            timestamps=False, hook_breaker=False),
    Profile("p010", "0.1.0", "sync", execute_args=9, validate_args=1, progress=False,
            hook_breaker=False),
    Profile("p0345", "0.3.45", "async", validate_args=2),
    _P0364,
    _P0368,
    _P0100,
    _P038,
    replace(_P0364, name="pfuture", version="9.0.0", future=True),
    replace(_P038, name="plifecycle", version="0.39.0", lifecycle=True),
    replace(_P0364, name="pminimal", version="0.3.64", minimal=True, progress=False,
            hook_breaker=False),
)}


def _chosen_name(argv: list[str]) -> str:
    for index, word in enumerate(argv):
        if word == "--profile" and index + 1 < len(argv):
            return argv[index + 1]
        if word.startswith("--profile="):
            return word.split("=", 1)[1]
    return os.environ.get("STANDIN_PROFILE", "p0364")


def choose(argv: list[str]) -> Profile:
    name = _chosen_name(argv)
    if name not in PROFILES:
        raise SystemExit(f"unknown profile {name!r}; known: {', '.join(sorted(PROFILES))}")
    return PROFILES[name]


PROFILE = choose(sys.argv)


class _Token:
    """The value the future host passes along; a wrapper that loses it is caught."""


TOKEN = _Token()
CONTEXT: dict[str, Any] = {"host_context": TOKEN} if PROFILE.future else {}


def check_context(value: Any) -> None:
    if value is not TOKEN:
        raise RuntimeError("host_context did not arrive: a wrapper lost an argument")


# Set by main.py when somebody imports torch before the host itself does.
early_torch_imports: list[str] = []
