"""Namespaces of their own for a test, by unshare(1): what a container engine would make.

    why = cell.missing()                       # "" where this machine allows it, else the reason
    cell.run("mount ... ; exec ...", env)      # a shell script in new mount, pid and ipc namespaces

As root, or as a user where user namespaces are allowed. The script's first process is process 1
of its namespace: when it ends, the kernel kills whatever it left behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Dict, List, Optional

# A fresh /proc belongs to a new pid namespace; the tmpfs is what engines give: 64 MB.
PREPARE = """set -eu
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm
"""


def command(script: str) -> List[str]:
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--mount", "--pid", "--fork", "--ipc", "--kill-child", "sh", "-c", PREPARE + script]


def missing() -> str:
    """Why no namespaces can be made here; "" when they can."""
    if shutil.which("unshare") is None:
        return "no unshare(1)"
    tried = subprocess.run(command("true"), capture_output=True, text=True, timeout=20, check=False)
    return "" if tried.returncode == 0 else f"unshare: {tried.stderr.strip() or tried.returncode}"


def run(script: str, env: Optional[Dict[str, str]] = None, timeout: float = 60.0) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command(script), env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=timeout, check=False)
