"""Evidence that lies: counters of somebody else's death, memory that is counted twice, limits of others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any, Dict, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from run_test import ALLOCATE, PYTHON, Supervised  # noqa: E402
from support.cgroup import Cgroup  # noqa: E402
from support.harness import ITS_OWN_MEMORY, sanitizer  # noqa: E402

HIDE = 'umount -l /sys/fs/cgroup/memory 2>/dev/null || umount -l /sys/fs/cgroup; exec "$@"'
HELD = "held = bytearray(b'x') * (150 << 20)\n"


@unittest.skipIf(Cgroup.missing(), Cgroup.missing())
class WhoseLimit(Supervised):
    def run_in(self, wrapper: Sequence[str], limit: str, *command: str) -> Dict[str, Any]:
        options = ("--no-agent", "--restart", "never", "--memory-limit", limit)
        subprocess.run([*wrapper, *self.command(options, command)], env=self.env, capture_output=True, timeout=60,
                       check=False)
        return self.box()

    def test_a_child_that_was_killed_for_memory_is_no_evidence_of_a_later_kill(self) -> None:
        """The victim has asked for it; 2.5 seconds later somebody kills the parent."""
        child = "open('/proc/self/oom_score_adj', 'w').write('1000')\nheld = bytearray(b'x') * (300 << 20)"
        script = (f"import os, signal, subprocess, sys, time\n"
                  f"assert subprocess.run([sys.executable, '-c', {child!r}]).returncode == -9\n"
                  f"time.sleep(2.5)\nos.kill(os.getpid(), signal.SIGKILL)")
        box = self.run_in((), "200M", PYTHON, "-c", script)
        self.assertEqual((box["verdict"], box["certainty"]), ("oom_cgroup", "likely"))
        self.assertRegex(box["evidence"][0], "rose by 1, [2-9] s before its end")

    def test_the_limit_of_a_group_around_it_is_not_its_own(self) -> None:
        with Cgroup(150 << 20) as around:
            box = self.run_in(around.wrapper, "600M", PYTHON, "-c", ALLOCATE)
        self.assertEqual(box["verdict"], "oom_cgroup")
        self.assertRegex(" ".join(box["evidence"]), "own.* limit was not reached|not its own: that was not reached")


@unittest.skipIf(sanitizer() != "", ITS_OWN_MEMORY)
class WithoutACgroup(Supervised):
    def setUp(self) -> None:
        super().setUp()
        if os.geteuid() != 0 or shutil.which("unshare") is None:
            self.skipTest("needs root and unshare to hide the cgroups")

    def watched(self, *command: str) -> "subprocess.CompletedProcess[bytes]":
        options = ("--no-agent", "--restart", "never", "--memory-limit", "200M")
        done = subprocess.run(["unshare", "--mount", "sh", "-c", HIDE, "sh", *self.command(options, command)],
                              env=self.env, capture_output=True, timeout=60, check=False)
        self.assertEqual(self.box()["method"], "watch")
        return done

    def test_pages_that_parent_and_children_share_count_once(self) -> None:
        script = HELD + ("import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        time.sleep(3)\n        os._exit(0)\n"
                         "for _ in range(3): os.wait()")
        done = self.watched(PYTHON, "-c", script)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_memory_that_has_gone_to_the_parent_counts_once(self) -> None:
        """A worker's result, copied, when the worker has gone."""
        script = ("import os, sys, time\nr, w = os.pipe()\npid = os.fork()\nif pid == 0:\n    held = bytearray(b'x') * (150 << 20)\n"
                  "    os.write(w, b'1')\n    time.sleep(1.6)\n    os._exit(0)\n"
                  "os.read(r, 1)\nos.wait()\nheld = bytearray(b'x') * (150 << 20)\ntime.sleep(1.5)")
        for _ in range(2):
            done = self.watched(PYTHON, "-c", script)
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_who_leaves_the_tree_counts_all_the_same(self) -> None:
        script = ("import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
                  "    held = bytearray(b'x') * (300 << 20)\n    time.sleep(20)\n    os._exit(0)\nos.wait()\ntime.sleep(20)")
        done = self.watched(PYTHON, "-c", script)
        self.assertEqual(done.returncode, 128 + 9, done.stderr)
        self.assertEqual(self.box()["verdict"], "limit_watch")

    def test_who_is_in_hundreds_of_groups_is_seen(self) -> None:
        groups = ",".join(str(4_000_000_000 + i) for i in range(500))
        done = self.watched("setpriv", f"--groups={groups}", PYTHON, "-c", ALLOCATE)
        self.assertEqual(done.returncode, 128 + 9, done.stderr)


if __name__ == "__main__":
    unittest.main()
