"""As in containers: namespaces of their own for ComfyUI and the agent, made by unshare(1).

Each scenario runs again as `containers_test.py --inside NAME` within its namespaces; what it prints
and how it ends is the verdict. Skipped, and said so, where namespaces are not allowed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any, Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration" / "node"))
from comfyui_test import BOTH, settled, test_graph  # noqa: E402
from node import NODE, Place, alive, wait_until  # noqa: E402
from client import ComfyUI, workflow  # noqa: E402
from support import cell  # noqa: E402
from support.harness import Agent, HarnessError  # noqa: E402

WHY = cell.missing()
ANY_UID = 1234567
DEFAULTS = ("COMFYMON_RUN_DIR", "COMFYMON_DATA_DIR", "HOME")


def check(holds: bool, what: str) -> None:
    if not holds:
        raise HarnessError(what)


def killed_in_mid_job(comfy: ComfyUI) -> str:
    prompt = comfy.submit(workflow("hang"))
    comfy.wait_running(prompt)
    time.sleep(0.3)
    comfy.send_signal(signal.SIGKILL)
    comfy.wait_exit()
    return prompt


def unfinished(place: Place, prompt: str) -> List[Dict[str, Any]]:
    """The job's span of that prompt, once it is told that it did not end."""
    return [span for t in place.traces("--state", "unfinished") for span in place.spans(t["trace_id"])
            if span["meta"].get("prompt") == prompt and span["meta"].get("comfymon.unfinished") == "true"]


def works(place: Place, comfy: ComfyUI, spans: int = 300) -> None:
    comfy.run(test_graph("TestSpans", spans))
    settled(place, spans)
    prompt = killed_in_mid_job(comfy)
    wait_until(lambda: len(unfinished(place, prompt)) == 1, 15, "the job that the kill ended")
    check(place.status()["signals"]["trace"]["identity"], "the identity does not hold")


# ---- inside ---------------------------------------------------------------------------------


def one_container() -> None:
    """ComfyUI and its agent in one set of namespaces, 64 MB of shared memory, no variable set."""
    with Place(unset=("COMFYMON_RUN_DIR",)) as place, place.comfy(BOTH) as comfy:
        place.wait_agent()
        check("is on in /dev/shm/comfymon-0, collector: started" in comfy.log(), comfy.log())
        sizes = [p.stat().st_size for p in Path("/dev/shm/comfymon-0").glob("ring-*.cm")]
        check(sizes == [8 << 20], f"rings of {sizes}, not an eighth of 64 MB")
        works(place, comfy)


def read_only_root() -> None:
    """Nothing can be written but shared memory and a volume."""
    try:
        Path("/var/tmp/comfymon-probe").touch()
    except OSError:
        pass
    else:
        raise HarnessError("the root can be written")
    with Place(unset=("COMFYMON_RUN_DIR",), where=os.environ["VOLUME"]) as place:
        with place.comfy(BOTH, base=str(place.dirs.base / "comfy")) as comfy:
            place.wait_agent()
            works(place, comfy)


def nowhere_to_keep_data() -> None:
    """As above, but the buffer's folder cannot be made: jobs run, the ring waits, the reason is told."""
    with Place(unset=("COMFYMON_RUN_DIR", "COMFYMON_DATA_DIR"), where=os.environ["VOLUME"]) as place:
        with place.comfy(BOTH, base=str(place.dirs.base / "comfy")) as comfy:
            done = comfy.run(test_graph("TestSpans", 50))
            check(done["status"]["status_str"] == "success", str(done))
            log = Path("/dev/shm/comfymon-0/agent.log")
            wait_until(lambda: log.exists() and "data_dir_refused" in log.read_text(), 10, "the reason in the agent's log")
            check(not place.status(), "an agent answers")
            doctor = place.verb("doctor")
            check(doctor.returncode == 1 and "the last one ended: data_dir_refused" in doctor.stdout, doctor.stdout)


def any_uid() -> None:
    """An arbitrary uid: no home, no name, as some platforms start every container."""
    drop = ["setpriv", f"--reuid={ANY_UID}", f"--regid={ANY_UID}", "--clear-groups", "--inh-caps=-all"]
    with Place(unset=DEFAULTS) as place:
        os.chown(place.dirs.base, ANY_UID, ANY_UID)
        base = place.dirs.base / "comfy"
        base.mkdir()
        os.chown(base, ANY_UID, ANY_UID)
        data = Path(f"/var/tmp/comfymon-{ANY_UID}")
        shutil.rmtree(data, ignore_errors=True)
        place.wrapper = drop
        with place.comfy(BOTH, base=str(base), wrapper=drop) as comfy:
            pid = wait_until(lambda: place.status().get("pid"), 15, "an agent that answers")
            check(f"is on in /dev/shm/comfymon-{ANY_UID}, collector: started" in comfy.log(), comfy.log())
            check(os.stat(f"/proc/{pid}").st_uid == ANY_UID, "the agent runs as another user")
            works(place, comfy)
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not alive(pid), 15, "the agent's end")
        check(data.is_dir() and data.stat().st_mode & 0o777 == 0o700, f"{data} is not the buffer's folder")
        shutil.rmtree(data)


def host_alone() -> None:
    """ComfyUI in a container that has no agent: only the run directory is shared."""
    with Place(unset=("COMFYMON_RUN_DIR",)) as place:
        env = {"COMFYMON_RUN_DIR": os.environ["SHARED"], "COMFYMON_AUTOSTART": "0"}
        with place.comfy(BOTH, env=env) as comfy:
            comfy.run(test_graph("TestSpans", 300))
            print("HOST", os.readlink("/proc/self/ns/pid"), comfy.pid, killed_in_mid_job(comfy), flush=True)


INSIDE = {f.__name__: f for f in (one_container, read_only_root, nowhere_to_keep_data, any_uid, host_alone)}


# ---- outside --------------------------------------------------------------------------------


def script(name: str, prepare: str = "", **env: str) -> str:
    words = [f"{key}={shlex.quote(value)}" for key, value in env.items()]
    return f"{prepare}\nexec env {' '.join(words)} {shlex.quote(sys.executable)} {shlex.quote(__file__)} --inside {name}\n"


@unittest.skipIf(WHY, WHY)
class Containers(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="cm-cell-", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def inside(self, name: str, prepare: str = "", **env: str) -> str:
        done = cell.run(script(name, prepare, **env), timeout=90)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_both_in_one_container(self) -> None:
        self.inside("one_container")

    def test_a_root_that_is_read_only(self) -> None:
        prepare = f"mount -t tmpfs tmpfs {self.folder}\nmount -o remount,bind,ro /"
        self.inside("read_only_root", prepare, VOLUME=self.folder)

    def test_nowhere_to_keep_data(self) -> None:
        prepare = f"mount -t tmpfs tmpfs {self.folder}\nmount -o remount,bind,ro /"
        self.inside("nowhere_to_keep_data", prepare, VOLUME=self.folder)

    @unittest.skipUnless(os.geteuid() == 0, "only root can become an arbitrary user")
    def test_an_arbitrary_uid_without_home_or_name(self) -> None:
        readable = subprocess.run(["setpriv", f"--reuid={ANY_UID}", "--clear-groups", "test", "-r", str(NODE / "comfymon")],
                                  check=False)
        if readable.returncode != 0:
            self.skipTest(f"another user cannot read {NODE}")
        self.inside("any_uid")

    def test_two_containers_that_share_the_run_directory_and_nothing_else(self) -> None:
        agent = Agent(env={"COMFYMON_DESTINATIONS": "none"}, wrapper=cell.command('exec "$0" "$@"'))
        self.addCleanup(agent.close)
        agent.start()
        with Place(unset=("COMFYMON_RUN_DIR", "COMFYMON_DATA_DIR")) as place:
            place.env.update(COMFYMON_RUN_DIR=str(agent.dirs.run), COMFYMON_DATA_DIR=str(agent.dirs.data))
            told = self.inside("host_alone", SHARED=str(agent.dirs.run))
            _, namespace, pid, prompt = told.split()[-4:]
            inner = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()[0]
            self.assertNotEqual(os.readlink(f"/proc/{inner}/ns/pid"), namespace)
            wait_until(lambda: len(unfinished(place, prompt)) == 1, 15, "the job that died in the other container")
            status = settled(place, 300)
            self.assertEqual([str(p["pid"]) for p in status["probes"]], [pid])
            self.assertTrue(status["signals"]["trace"]["identity"])
            wait_until(lambda: not list(agent.dirs.run.glob("ring-*")), 10, "the dead ring's end")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        INSIDE[sys.argv[2]]()
    else:
        unittest.main()
