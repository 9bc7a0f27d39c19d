"""A memory limit of the real kind: a cgroup of our own, version 1 or 2, where the machine lets us make one.

    with Cgroup(32 << 20) as group:
        subprocess.Popen(group.wrapper + ["program"])   # the program begins inside
        group.kills()                                   # how often the kernel had to kill there
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import List, Optional, Tuple

ROOT = Path("/sys/fs/cgroup")
ENTER = 'echo $$ >"$0"/cgroup.procs && exec "$@"'


def _place() -> Optional[Tuple[Path, int]]:
    """A folder in which groups with a memory limit can be made, and its version."""
    if os.access(ROOT / "memory" / "memory.limit_in_bytes", os.F_OK) and os.access(ROOT / "memory", os.W_OK):
        return ROOT / "memory", 1
    for folder in (ROOT, ROOT / "unified"):
        try:
            controllers = (folder / "cgroup.subtree_control").read_text().split()
        except OSError:
            continue
        if "memory" in controllers and os.access(folder, os.W_OK):
            return folder, 2
    return None


class Cgroup:
    def __init__(self, limit_bytes: int) -> None:
        place = _place()
        assert place is not None
        self.version = place[1]
        self.path = place[0] / f"comfymon-test-{os.getpid()}-{time.monotonic_ns()}"
        self.path.mkdir()
        try:
            self._write("memory.limit_in_bytes" if self.version == 1 else "memory.max", limit_bytes)
            if self.version == 2 and (self.path / "memory.swap.max").exists():
                self._write("memory.swap.max", 0)
        except OSError:
            self.path.rmdir()
            raise

    def _write(self, name: str, value: int) -> None:
        (self.path / name).write_text(f"{value}\n")

    @staticmethod
    def missing() -> str:
        """Why there can be none here; empty when there can."""
        if _place() is None:
            return "no writable memory cgroup on this machine"
        try:
            with Cgroup(64 << 20):
                return ""
        except OSError as error:
            return f"no memory cgroup can be made: {error}"

    def __enter__(self) -> "Cgroup":
        return self

    def __exit__(self, *_: object) -> None:
        for _ in range(100):
            try:
                self.path.rmdir()
                return
            except OSError:
                for pid in (self.path / "cgroup.procs").read_text().split():
                    os.kill(int(pid), 9)
                time.sleep(0.05)

    @property
    def wrapper(self) -> List[str]:
        return ["sh", "-c", ENTER, str(self.path)]

    def kills(self) -> int:
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        for line in (self.path / name).read_text().splitlines():
            key, value = line.split()
            if key == "oom_kill":
                return int(value)
        return 0
