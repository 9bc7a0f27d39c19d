"""Prompts that wait, kept as files for resubmission: which, when, what is in them, and what never is."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import threading
import time
import unittest
from pathlib import Path
from typing import Any, Dict, List, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
from comfyhost import HERE, PROFILES, Host, wait_for, workflow  # noqa: E402

ON = {"COMFYMON_RESUBMIT": "1", "COMFYMON_LIFE": "1-1-00c0ffee"}
WAIT = "comfyui.queue.wait"
CANARY = "xyzzy-canary-0123456789"
SIGNED = str(HERE / "nodes" / "signed")


def folder(comfy: Host) -> Path:
    return Path(comfy.run_folder.name) / "bodies"


def files(comfy: Host) -> List[Path]:
    return sorted(folder(comfy).iterdir()) if folder(comfy).is_dir() else []


def read(path: Path) -> Tuple[Dict[str, str], Any]:
    """The line's fields, and the prompt (None: there is none)."""
    line, _, body = path.read_bytes().partition(b"\n")
    words = line.decode().split(" ")
    if words[:2] != ["comfymon-body", "1"]:
        raise AssertionError(line)
    fields = dict(word.split("=", 1) for word in words[2:])
    if len(body) != int(fields["bytes"]):
        raise AssertionError("not whole")
    return fields, json.loads(body) if body else None


def block(comfy: Host) -> str:
    """A job that runs until it is interrupted, so that others wait."""
    prompt_id = comfy.submit(workflow("interrupted"))
    comfy.wait_running(prompt_id)
    return prompt_id


class Bodies(unittest.TestCase):
    def test_only_who_asks_for_it_and_has_a_supervisor_gets_files(self) -> None:
        for env in ({}, {"COMFYMON_RESUBMIT": "1"}, {"COMFYMON_LIFE": "1-1-0"}, {**ON, "COMFYMON_RESUBMIT": "0"}):
            with self.subTest(env=env), Host(env=env) as comfy:
                block(comfy)
                comfy.submit(workflow("tiny"))
                self.assertFalse(folder(comfy).exists())

    def test_a_file_is_there_as_long_as_its_job_waits_in_every_generation(self) -> None:
        for profile in PROFILES:
            with self.subTest(profile=profile), Host(profile=profile, env=ON) as comfy:
                running = block(comfy)
                self.assertEqual(files(comfy), [])
                first, second, third = (comfy.submit(workflow("tiny"), extra_data={"extra_pnginfo": {"workflow": {"n": i}}},
                                                     client_id="somebody") for i in range(3))
                by_id = {path.name[:36]: path for path in files(comfy)}
                self.assertEqual(set(by_id), {first, second, third})
                self.assertEqual(stat.S_IMODE(folder(comfy).stat().st_mode), 0o700)
                self.assertEqual({stat.S_IMODE(path.stat().st_mode) for path in by_id.values()}, {0o600})
                waits = {s.meta["prompt.id"]: s for s in comfy.open_slots() if s.name == WAIT}
                self.assertEqual({key: s.meta["job.body"] for key, s in waits.items()},
                                 {key: path.name for key, path in by_id.items()})
                fields, request = read(by_id[second])
                self.assertEqual((fields["secret"], float(fields["number"])), ("0", 2))
                self.assertEqual(request["prompt"], workflow("tiny"))
                self.assertEqual((request["prompt_id"], request["extra_data"]["client_id"]), (second, "somebody"))
                self.assertEqual(request["extra_data"]["extra_pnginfo"], {"workflow": {"n": 1}})
                comfy.delete(second)
                last = comfy.submit(workflow("tiny"))  # where deleting is inherited, it is seen now
                wait_for(lambda: {path.name[:36] for path in files(comfy)} == {first, third, last})
                while running not in comfy.history(running):
                    comfy.interrupt()
                    time.sleep(0.05)
                comfy.wait(last)
                self.assertEqual(files(comfy), [])

    def test_what_was_kept_is_taken_again(self) -> None:
        for profile in PROFILES:
            with self.subTest(profile=profile), Host(profile=profile, env=ON) as comfy:
                block(comfy)
                graph = workflow("twins")
                kept = comfy.submit(graph)
                request = read(files(comfy)[0])[1]
                comfy.stop(signal.SIGKILL)
                self.assertEqual(len(files(comfy)), 1)
                files(comfy)[0].unlink()
                comfy.start()
                self.assertEqual(comfy.request("POST", "/prompt", request)["prompt_id"], kept)
                self.assertEqual(comfy.wait(kept)["status"]["status_str"], "success")
                self.assertEqual(files(comfy), [])

    def test_no_secret_is_written_and_who_needs_one_is_known(self) -> None:
        """Whatever is called a key or a token, where it stands; a text that is called otherwise is none."""
        def graph(**inputs: Any) -> Dict[str, Any]:
            made = workflow("tiny")
            made["1"]["inputs"].update(inputs)
            return made

        token, key = {"auth_token_comfy_org": CANARY}, {"api_key_comfy_org": CANARY}

        def also(class_type: str) -> Dict[str, Any]:
            return {**graph(), "9": {"class_type": class_type, "inputs": {}}}

        secret = [(also("SignedToken"), token), (also("SignedKey"), {**token, **key}), (graph(api_key=CANARY), {}), (graph(options=[{"Access-Token": CANARY}]), {}),
                  (graph(api_keys=["", CANARY]), {}), (graph(password={"__value__": [CANARY]}), {}), (graph(), {"credentials": {"user": [CANARY]}}),
                  (graph(), {"extra_pnginfo": {"workflow": {"nodes": [{"widgets_values": {"Password": CANARY}}]}}})]
        # Who is signed in sends a token with every prompt.
        plain = [(graph(max_tokens=5, text="my password is long"), {}), (graph(secret=7, api_key=""), {"api_key_comfy_org": None}),
                 ({**graph(api_key=["8", 0], secrets=[7, None, ["8", 0]]), "8": {"class_type": "StandinValue", "inputs": {"value": 3}}}, {}),
                 (graph(), {**token, **key}), (also("SignedKey"), token), (also("SignedToken"), {**key, "auth_token_comfy_org": ""})]
        for profile in ("p2024a", "p0364", "p0368", "p038"):
            with self.subTest(profile=profile), Host(profile=profile, env=ON, node_dirs=[SIGNED]) as comfy:
                block(comfy)
                for prompt, extra in secret + plain:
                    comfy.submit(prompt, extra_data=dict(extra))
                found = [read(path) for path in sorted(files(comfy), key=lambda p: float(read(p)[0]["number"]))]
                self.assertEqual([fields["secret"] for fields, _ in found], ["1"] * len(secret) + ["0"] * len(plain))
                self.assertEqual([request is None for _, request in found], [True] * len(secret) + [False] * len(plain))
                for path in files(comfy):
                    self.assertNotIn(CANARY.encode(), path.read_bytes())
                self.assertNotIn(CANARY.encode(), comfy.raw())

    def test_where_it_cannot_be_known_a_secret_is_needed(self) -> None:
        with Host(env=ON, node_dirs=[SIGNED]) as comfy:
            block(comfy)
            comfy.submit({**workflow("tiny"), "9": {"class_type": "Unknown", "inputs": {}}},
                         extra_data={"auth_token_comfy_org": CANARY})
            self.assertEqual([read(path)[0]["secret"] for path in files(comfy)], ["1"])

    def test_what_is_too_large_is_left(self) -> None:
        with Host(env=ON) as comfy:
            block(comfy)
            for size, kept in ((15 << 20, 1), (17 << 20, 1)):
                comfy.submit(workflow("tiny"), extra_data={"extra_pnginfo": "x" * size})
                self.assertEqual(len(files(comfy)), kept)

    def test_what_is_no_json_is_queued_all_the_same(self) -> None:
        with Host(env={**ON, "ASIDE": "1", "ASIDE_EXTRA": "object"}, node_dirs=[str(HERE / "nodes" / "aside")]) as comfy:
            comfy.wait_spans("comfyui.workflow.execute", 1)
            self.assertEqual(files(comfy), [])

    def test_a_folder_that_others_can_read_is_not_used(self) -> None:
        with Host(env=ON) as comfy:
            folder(comfy).mkdir(mode=0o755)
            folder(comfy).chmod(0o755)
            block(comfy)
            comfy.submit(workflow("tiny"))
            self.assertEqual(files(comfy), [])

    def test_jobs_put_by_many_at_once_leave_nothing(self) -> None:
        with Host(env=ON) as comfy:
            def submit() -> None:
                for i in range(30):
                    prompt_id = comfy.submit(workflow("tiny"))
                    if i % 5 == 0:
                        comfy.delete(prompt_id)

            clients = [threading.Thread(target=submit) for _ in range(4)]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            last = comfy.submit(workflow("tiny"))
            comfy.wait(last)
            wait_for(lambda: files(comfy) == [])
            self.assertEqual(os.listdir(folder(comfy)), [])


if __name__ == "__main__":
    unittest.main()
