"""A machine to install on: systemd as process 1 of namespaces of its own, over a copy-on-write view of this one.

    why = missing()                 # "" where this machine allows it, else the reason
    with Box(files) as box:         # files: path -> text or a folder to copy
        box.run("systemctl", "start", "x")

What it writes is on a tmpfs and goes with it. The network is this machine's, used on loopback only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import List, Optional

SCRIPT = Path(__file__).with_name("box.sh")


class BoxError(Exception):
    """It did not boot."""


class Box:
    def __init__(self) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="cm-box-"))
        self.up = self.dir / "up"  # what lies over /, until it is started
        self.up.mkdir(mode=0o755)
        self.process: Optional[subprocess.Popen[bytes]] = None
        self.init = 0

    def start(self, timeout: float = 30.0) -> None:
        with open(self.dir / "log", "wb") as log:
            self.process = subprocess.Popen([str(SCRIPT), str(self.dir)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)
        end = time.monotonic() + timeout
        while time.monotonic() < end and self.process.poll() is None:
            if self._booted():
                return
            time.sleep(0.1)
        raise BoxError((self.dir / "log").read_text(errors="replace")[-2000:].strip() or "no systemd within its time")

    def _booted(self) -> bool:
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        if not children:
            return False
        self.init = int(children[0])
        try:
            if Path(f"/proc/{self.init}/comm").read_text() != "systemd\n":
                return False
        except OSError:
            return False
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded")

    def enter(self, *words: str) -> List[str]:
        """The command line that runs these words in the box."""
        return ["nsenter", "--target", str(self.init), "--mount", "--pid", "--ipc", "--uts", "--cgroup", *words]

    def run(self, *words: str, check: bool = True, timeout: float = 60.0) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(self.enter(*words), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
                              check=False, env={"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, cwd="/")
        if check and done.returncode != 0:
            raise BoxError(f"{' '.join(words)}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self._remove_groups(f"box-{self.process.pid}")
        shutil.rmtree(self.dir, ignore_errors=True)

    @staticmethod
    def _remove_groups(name: str) -> None:
        """The kernel needs a moment to bury the box's processes."""
        end = time.monotonic() + 5
        left = [path for path in [Path("/sys/fs/cgroup") / name, *Path("/sys/fs/cgroup").glob(f"*/{name}")] if path.exists()]
        while left and time.monotonic() < end:
            for top in left:
                for folder, _, _ in os.walk(top, topdown=False):
                    try:
                        os.rmdir(folder)
                    except OSError:
                        pass
            left = [path for path in left if path.exists()]
            time.sleep(0.05)


def missing() -> str:
    """Why there can be no box here; "" when there can."""
    if os.geteuid() != 0:
        return "a machine with its own systemd needs root"
    absent = [name for name in ("unshare", "nsenter", "systemctl", "pivot_root") if shutil.which(name) is None]
    if absent or not Path("/lib/systemd/systemd").exists():
        return f"no {absent[0] if absent else 'systemd'}"
    box = Box()
    try:
        box.start()
    except (BoxError, OSError) as e:
        return f"systemd does not boot in namespaces here: {e}"
    finally:
        box.close()
    return ""
