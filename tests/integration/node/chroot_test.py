"""The node folder where there is nothing else: a root of libc, one Python and the folder.

No variable is set: run directory, buffer and destination are the defaults. Needs namespaces (root,
or user namespaces); skipped, and said so, where they are not allowed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Dict, List, Set

sys.path.insert(0, str(Path(__file__).resolve().parent))
from node import FAKE_HOST, NODE, pythons  # noqa: E402
from support import cell  # noqa: E402

LIBC = re.compile(r"/(ld-linux-x86-64|lib(c|m|pthread|dl|rt|resolv))\.so")
SPANS = 30

# Runs inside: the host, then the program's own view of what arrived. The first process of the namespace.
DRIVER = f"""
import json, subprocess, sys, time
node = sys.argv[1]
host = subprocess.run([sys.executable, "/fake_host.py", node, "{SPANS}", "5000"], capture_output=True, text=True)
end = time.monotonic() + 20
status = {{}}
while time.monotonic() < end and status.get("signals", {{}}).get("trace", {{}}).get("received") != {SPANS}:
    done = subprocess.run([node + "/comfymon", "status", "--json"], capture_output=True, text=True)
    status = json.loads(done.stdout) if done.stdout else {{}}
    time.sleep(0.05)
maps = ""
if status.get("pid"):
    maps = open("/proc/%d/maps" % status["pid"]).read()
print(json.dumps({{"rc": host.returncode, "out": host.stdout, "err": host.stderr, "status": status, "maps": maps,
                  "verb": done.stderr}}))
"""


def ldd(program: str) -> Set[str]:
    out = subprocess.run(["ldd", program], text=True, capture_output=True, check=True).stdout
    return set(re.findall(r"(/\S+) \(0x", out))


def python_of(interpreter: str) -> Dict[str, str]:
    ask = "import json, os, sys, sysconfig; print(json.dumps({'program': os.path.realpath(sys.executable), " \
          "'stdlib': sysconfig.get_paths()['stdlib']}))"
    found: Dict[str, str] = json.loads(subprocess.run([interpreter, "-c", ask], text=True, capture_output=True,
                                                      check=True).stdout)
    return found


class Root:
    """A folder that becomes the root; only Python's standard library and the node are bound into it."""

    def __init__(self, interpreter: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="comfymon-root-"))
        self.python = python_of(interpreter)
        for name in ("dev/shm", "proc", "tmp", "var/lib", "custom_nodes/comfymon", "libhost"):
            (self.path / name).mkdir(parents=True)
        for name in ("dev/null", "dev/urandom"):
            (self.path / name).touch()
        (self.path / "fake_host.py").write_text(FAKE_HOST.read_text())
        (self.path / "driver.py").write_text(DRIVER)
        self.libraries: List[str] = []
        needs = ldd(self.python["program"])
        libc = {str(Path(p).parent / name) for p in needs if "libc.so.6" in p
                for name in ("libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libresolv.so.2")}
        for library in sorted(needs | libc):
            # What Python needs beyond libc lies apart: the folder may not live on it.
            target = library if LIBC.search(library) else "/libhost/" + os.path.basename(library)
            self._copy(library, target)
        self._copy(self.python["program"], self.python["program"])
        (self.path / self.python["stdlib"].lstrip("/")).mkdir(parents=True)
        # A stranger's library of the same name, as a host's LD_LIBRARY_PATH may have it.
        (self.path / "libhost" / "libcurl.so.4").write_text("not a library\n")

    def _copy(self, source: str, target: str) -> None:
        place = self.path / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(os.path.realpath(source), place)
        self.libraries.append(target)

    def script(self) -> str:
        root, stdlib = self.path, self.python["stdlib"]
        return f"""
mount --bind {stdlib} {root}{stdlib}
mount --bind {NODE} {root}/custom_nodes/comfymon
mount -o remount,bind,ro {root}/custom_nodes/comfymon
mount --bind /dev/null {root}/dev/null
mount --bind /dev/urandom {root}/dev/urandom
mount --rbind /dev/shm {root}/dev/shm
mount -t proc proc {root}/proc
exec env -i LD_LIBRARY_PATH=/libhost PYTHONDONTWRITEBYTECODE=1 {shutil.which("chroot")} {root} \
    {self.python["program"]} /driver.py /custom_nodes/comfymon
"""

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


WHY = cell.missing()


@unittest.skipIf(WHY, WHY)
class NothingElse(unittest.TestCase):
    def test_traces_with_libc_and_python_alone(self) -> None:
        for minor, interpreter in sorted(pythons().items())[-1:] + sorted(pythons().items())[:1]:
            with self.subTest(minor):
                root = Root(interpreter)
                self.addCleanup(root.remove)
                there = sorted(p for p in root.libraries if ".so" in p and not LIBC.search(p))
                done = cell.run(root.script(), timeout=60)
                self.assertEqual(done.returncode, 0, done.stderr)
                told = json.loads(done.stdout)
                self.assertEqual(told["rc"], 0, told["err"])
                self.assertIn("is on in /dev/shm/comfymon-0, collector: started", told["err"])
                self.assertEqual(told["status"]["signals"]["trace"]["received"], SPANS, told)
                self.assertTrue(told["status"]["signals"]["trace"]["identity"])
                used = {line.split()[-1] for line in told["maps"].splitlines() if ".so" in line}
                outside = {p for p in used if not p.startswith("/custom_nodes/comfymon/lib/")}
                self.assertEqual({p for p in outside if not LIBC.search(p)}, set())
                self.assertIn("/custom_nodes/comfymon/lib/libcurl.so.4", used)
                self.assertTrue(all(p.startswith("/libhost/") for p in there))


if __name__ == "__main__":
    unittest.main()
