"""Runs a test of a build with sanitizers: what any of its programs reports fails the test, whoever swallowed its output.

    sanitizer.py address,undefined|thread COMMAND...

Each process writes what it finds to a file of its own in a folder that is looked into at the end. Nothing is
suppressed. The sanitizer's name is in $COMFYMON_SANITIZER, for tests whose limits do not hold under it. Leaks are
sought in every program but Python (config/cmake/launcher.cmake says why not).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict

FOUND = 99


def options(reports: Path) -> Dict[str, str]:
    log = f"log_path={reports}/report"
    return {
        # SIGILL is how undefined behaviour shows itself (config/cmake/flags.cmake).
        "ASAN_OPTIONS": f"{log}:handle_sigill=1:detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1"
                        ":allocator_may_return_null=1:verify_asan_link_order=0",   # a test may preload something before it
        "TSAN_OPTIONS": f"{log}:second_deadlock_stack=1",
    }


def main(sanitizer: str, command: list[str]) -> int:
    reports = Path(tempfile.mkdtemp(prefix="cm-reports-", dir="/tmp"))
    reports.chmod(0o1777)   # programs of other users too
    status = subprocess.run(command, env={**os.environ, **options(reports), "COMFYMON_SANITIZER": sanitizer}, check=False).returncode
    found = sorted(reports.iterdir())
    for path in found:
        print(f"\n{path.name}:\n{path.read_text(errors='replace')}", flush=True)
    shutil.rmtree(reports)
    if found:
        print(f"{len(found)} reports of the sanitizer", flush=True)
        return FOUND
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
