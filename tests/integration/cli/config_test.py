"""Every option with bad values from everywhere, and an agent that cannot have its directories.

The options are those of the printed schema, so that a new one is tested as soon as it exists.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from support.fake_datadog import FakeDatadog  # noqa: E402
from support.harness import Agent, Dirs, binary, clean_env  # noqa: E402

USAGE, FAILED = 2, 4
HOSTILE = [b"99999999999999999999999999", b"-1", b"-99999999999999999999", b"nan", b"inf", b"1e400", b"0x10", b"\x01\x02",
           b"\xff\xfe\x80", b"\xc3\x28", b"a" * 100_000, b"%n%s%n%s", b" ", b"\n", b"[" * 5000, b"{}", b"null", b"1;2", b"../" * 50]


def options(schema: Dict[str, Any], prefix: str = "") -> Iterator[Tuple[str, Dict[str, Any]]]:
    for name, entry in schema["properties"].items():
        if entry["type"] == "object":
            yield from options(entry, f"{prefix}{name}.")
        else:
            yield prefix + name, entry


def validate(schema: Dict[str, Any], value: Any, at: str = "") -> List[str]:
    """The part of JSON Schema that ours uses; what is wrong."""
    kinds = {"object": dict, "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
    wanted = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(isinstance(value, kinds[kind]) for kind in wanted):
        return [f"{at}: {value!r} is none of {wanted}"]
    wrong = []
    if "enum" in schema and value not in schema["enum"]:
        wrong.append(f"{at}: {value!r} is not in {schema['enum']}")
    if isinstance(value, (int, float)) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        wrong.append(f"{at}: {value} is out of range")
    if isinstance(value, dict):
        for name, item in value.items():
            known = schema["properties"].get(name)
            wrong += validate(known, item, f"{at}.{name}") if known else [f"{at}.{name} is unknown"]
    return wrong


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.dirs = Dirs()
        self.addCleanup(self.dirs.remove)
        self.env = clean_env(self.dirs, None, {})

    def check(self, *args: str, env: Dict[bytes, bytes] = {}) -> "subprocess.CompletedProcess[bytes]":  # noqa: B006
        merged = {k.encode(): v.encode() for k, v in self.env.items()}
        merged.update(env)
        return subprocess.run([str(binary()), "check", *args], env=merged, capture_output=True, timeout=20, check=False,
                              cwd=self.dirs.base)

    def schema(self) -> Dict[str, Any]:
        parsed: Dict[str, Any] = json.loads(self.check("--print-schema").stdout)
        return parsed

    def file(self, text: str) -> str:
        path = self.dirs.base / "c.json"
        path.write_text(text)
        return str(path)


class Options(Case):
    def variables(self) -> Dict[str, str]:
        """Option to variable, from the default file's comments."""
        found, section = {}, ""
        name = ""
        for line in self.check("--print-default").stdout.decode().splitlines():
            opened = re.match(r'\s*"(\w+)": \{', line)
            comment = re.match(r"\s*// .*; (\w+)\)$", line)
            entry = re.match(r'\s*"(\w+)": ', line)
            if opened:
                section = opened.group(1) + "."
            elif re.match(r"\s*\}", line):
                section = ""
            elif comment:
                name = comment.group(1)
            elif entry and name:
                found[section + entry.group(1)] = name
                name = ""
        return found

    def test_the_default_file_fits_the_schema(self) -> None:
        text = self.check("--print-default").stdout.decode()
        plain = "\n".join(line for line in text.splitlines() if not line.strip().startswith("//"))
        self.assertEqual(validate(self.schema(), json.loads(plain)), [])
        self.assertEqual(validate(self.schema(), {"log": {"level": "loud"}, "x": 1}).__len__(), 2)  # it can fail
        self.assertEqual(self.check("--config", self.file(text)).returncode, 0)

    def test_a_value_of_the_wrong_kind_names_file_line_column_and_key(self) -> None:
        every = list(options(self.schema()))
        self.assertGreater(len(every), 30)
        for key, entry in every:
            *section, name = key.split(".")
            for bad in ("{}", "[1]") + (('"\\u0000x"', '"no such value"') if "integer" in entry["type"] else ()):
                text = f'{{\n  "{name}":   {bad}\n}}' if not section else f'{{"{section[0]}": {{\n  "{name}":   {bad}\n}}}}'
                done = self.check("--config", self.file(text))
                self.assertEqual(done.returncode, USAGE, (key, bad, done.stdout[-200:]))
                self.assertRegex(done.stderr.decode(), r"c\.json:2:\d+: ", (key, bad))

    def test_an_unknown_key_names_line_and_column(self) -> None:
        for text, where in (('{\n\n   "nope": 1}', "3:4"), ('{"store":\n {"capp": "1G"}}', "2:3"), ('{"store": 5}', "1:2")):
            done = self.check("--config", self.file(text))
            self.assertEqual(done.returncode, USAGE, text)
            self.assertIn(f"c.json:{where}: ", done.stderr.decode(), text)

    def test_hostile_values_in_every_variable_are_refused_or_taken_whole(self) -> None:
        variables = self.variables()
        self.assertGreater(len(variables), 30)
        refused = 0
        for key, variable in variables.items():
            for value in HOSTILE:
                value = value.replace(b"\0", b"")
                done = self.check("--json", env={variable.encode(): value})
                self.assertIn(done.returncode, (0, USAGE), (variable, value[:40], done.stderr[-300:]))
                if done.returncode == USAGE:
                    refused += 1
                    self.assertRegex(done.stderr, b"^comfymon: .+", (variable, value[:40]))
                    self.assertLess(len(done.stderr), 1000, (variable, value[:40]))
                else:
                    shown = json.loads(done.stdout)[key]  # valid UTF-8, valid JSON
                    self.assertIn(shown["origin"], (f"environment {variable}", "default"))
                    self.assertNotRegex(shown["value"], r"[\x00-\x1f\x7f]", (variable, value[:40]))
        self.assertGreater(refused, 150)

    def test_words_and_ids_that_do_not_exist_are_refused_before_the_agent_runs(self) -> None:
        for variable, bad in (("COMFYMON_LOG_LEVEL", "loud"), ("COMFYMON_STORE", "tape"), ("COMFYMON_ALLOW_UIDS", "1,x"),
                              ("COMFYMON_ALLOW_UIDS", "4294967295"), ("COMFYMON_RESTART", "maybe")):
            done = self.check(env={variable.encode(): bad.encode()})
            self.assertEqual(done.returncode, USAGE, variable)
            self.assertIn(variable, done.stderr.decode())
        self.assertEqual(self.check(env={b"COMFYMON_ALLOW_UIDS": b"0,1000"}).returncode, 0)

    def test_each_value_says_where_it_came_from(self) -> None:
        path = self.file('{"store": {"cap": "2G"}, "service": "file",\n "env": "file"}')
        done = self.check("--json", "--config", path, "--set", "env=line", env={b"DD_SERVICE": b"variable"})
        shown = json.loads(done.stdout)
        self.assertEqual(shown["env"], {"value": "line", "origin": "command line"})
        self.assertEqual(shown["service"], {"value": "variable", "origin": "environment DD_SERVICE"})
        self.assertEqual(shown["store.cap"], {"value": "2 GiB", "origin": f"file {path}:1:12"})
        self.assertEqual(shown["version"]["origin"], "default")

    def test_a_password_in_an_address_is_not_shown(self) -> None:
        for args in ((), ("--json",)):
            done = self.check(*args, env={b"DD_TRACE_AGENT_URL": b"http://user:hunter2@host:8126",
                                          b"COMFYMON_DESTINATIONS": b"datadog,b=https://u:hunter2@b:1"})
            self.assertEqual(done.returncode, 0)
            self.assertNotIn(b"hunter2", done.stdout + done.stderr)
            self.assertIn(b"://***@host:8126", done.stdout)


class Start(Case):
    """An agent that cannot have what it needs says so and ends with a documented code."""

    def start(self, *wrapper: str, **env: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*wrapper, str(binary()), "agent"], env={**self.env, **env}, capture_output=True, text=True,
                              timeout=20, check=False, stdin=subprocess.DEVNULL)

    def refused(self, done: "subprocess.CompletedProcess[str]", *words: str) -> None:
        self.assertEqual(done.returncode, FAILED, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_the_second_names_pid_and_socket_of_the_first(self) -> None:
        with FakeDatadog() as dd, Agent(dd.url) as first:
            done = subprocess.run([str(binary()), "agent"], env=first.env, capture_output=True, text=True, timeout=20,
                                  check=False)
            self.refused(done, f"pid {first.pid}", str(first.socket_path))

    def test_a_data_directory_that_others_may_write_to(self) -> None:
        self.dirs.data.chmod(0o777)
        self.refused(self.start(), str(self.dirs.data), "permission")

    def test_a_symbolic_link_in_place_of_a_directory_or_the_buffer(self) -> None:
        self.dirs.data.rmdir()
        with tempfile.TemporaryDirectory() as elsewhere:
            self.dirs.data.symlink_to(elsewhere)
            self.refused(self.start(), str(self.dirs.data))
            self.dirs.data.unlink()
            self.dirs.data.mkdir(0o700)
            target = Path(elsewhere) / "target"
            target.write_bytes(b"precious")
            for name in ("buffer.db", "lock"):
                (self.dirs.data / "lock").unlink(missing_ok=True)
                (self.dirs.data / name).symlink_to(target)
                self.refused(self.start())
                (self.dirs.data / name).unlink()
                self.assertEqual(target.read_bytes(), b"precious")

    @unittest.skipIf(os.geteuid() != 0, "needs root to give a directory away")
    def test_a_data_directory_of_somebody_else(self) -> None:
        os.chown(self.dirs.data, 12345, 12345)
        self.refused(self.start(), str(self.dirs.data), "permission")

    @unittest.skipIf(os.geteuid() != 0, "needs root to mount")
    def test_a_data_directory_on_a_read_only_or_full_file_system(self) -> None:
        mount = "mount -t tmpfs -o size=256k,mode=0700 tmpfs {0} && {1} && exec {2} agent"
        for make in ("mount -o remount,ro {0}", "head -c 300000 /dev/zero >{0}/x; true"):
            script = mount.format(self.dirs.data, make.format(self.dirs.data), binary())
            done = subprocess.run(["unshare", "-m", "sh", "-c", script], env=self.env, capture_output=True, text=True,
                                  timeout=20, check=False)
            if "unshare" in done.stderr or "mount:" in done.stderr:
                self.skipTest(done.stderr.strip())
            self.refused(done, str(self.dirs.data))

    def test_a_held_lock_of_a_verb_is_waited_for(self) -> None:
        with open(self.dirs.data / "lock", "w", encoding="ascii") as lock:
            os.chmod(lock.fileno(), 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = self.start()
            self.refused(done, "another agent runs")

    def test_the_store_in_memory_is_degraded_and_says_volatile(self) -> None:
        with FakeDatadog() as dd, Agent(dd.url, {"COMFYMON_STORE": "ram"}) as agent:
            status = agent.status()
            self.assertEqual(status["state"], "degraded")
            self.assertIn("volatile", json.dumps(status))
            self.assertFalse((agent.dirs.data / "buffer.db").exists())

    def test_files_are_for_the_owner_alone(self) -> None:
        with FakeDatadog() as dd, Agent(dd.url) as agent:
            agent.status()
            for folder in (agent.dirs.data, agent.dirs.run):
                for path in folder.rglob("*"):
                    self.assertEqual(path.stat().st_mode & 0o077, 0, path)


if __name__ == "__main__":
    unittest.main()
