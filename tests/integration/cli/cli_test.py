"""The program as its users meet it: verbs, exit codes, the JSON that outsiders rely on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Dict, List

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from support.fake_datadog import FakeDatadog  # noqa: E402
from support.harness import ROOT, Agent, binary, passed_env, wait_until  # noqa: E402
from support.writer import Writer  # noqa: E402

OK, PROBLEM, USAGE, NO_AGENT, FAILED = 0, 1, 2, 3, 4


def spans(writer: Writer, trace_id: int, count: int = 3, error: int = 0) -> List[Dict[str, Any]]:
    made = [{"trace_id": trace_id, "span_id": trace_id * 100 + i, "parent_id": 0 if i == 0 else trace_id * 100,
             "service": "shop", "name": "comfyui.workflow.execute" if i == 0 else "comfyui.node.execute",
             "resource": f"Resource{i}", "type": "worker", "start": writer.now(), "duration": 2_000_000 * (count - i),
             "error": error if i == 0 else 0, "meta": {"error.message": "it broke"} if error and i == 0 else {},
             "metrics": {"node.steps": 4.5}} for i in range(count)]
    return made[1:] + made[:1]


def run(*args: str, env: Dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(binary()), *args], env=env, text=True, capture_output=True, timeout=30, check=False)


class WithAgent(unittest.TestCase):
    def setUp(self) -> None:
        self.dd = FakeDatadog()
        self.agent = Agent(self.dd.url)
        self.agent.start()
        self.writer = Writer(self.agent.socket_path)
        self.addCleanup(self.dd.close)
        self.addCleanup(self.agent.close)
        self.addCleanup(self.writer.close)

    def send(self) -> None:
        self.writer.finish(spans(self.writer, 11))
        self.writer.finish(spans(self.writer, 12, count=2, error=1))
        self.writer.flush(10)
        self.agent.drain(10, received=5)

    def test_the_last_is_the_first_of_the_list_and_a_job_is_known_by_its_workflow(self) -> None:
        self.send()
        newest = json.loads(self.agent.cli("traces", "--json").stdout.splitlines()[0])
        self.assertEqual(newest["workflow"], "Resource0")
        self.assertEqual(json.loads(self.agent.cli("trace", "last", "--json").stdout)["trace_id"], newest["trace_id"])
        self.assertIn("Resource0", self.agent.cli("traces").stdout)
        self.assertEqual(self.agent.cli("job", "last").stderr, "comfymon: no jobs\n")

    def test_status_has_the_promised_keys(self) -> None:
        self.send()
        status = self.agent.status()
        for key in ("version", "pid", "uptime_s", "state", "signals", "destinations", "probes", "store"):
            self.assertIn(key, status)
        self.assertEqual(status["state"], "ok")
        self.assertEqual(status["pid"], self.agent.pid)
        trace = status["signals"]["trace"]
        self.assertEqual((trace["received"], trace["sent"], trace["identity"]), (5, 5, True))
        for key in ("sampled_out", "queued", "in_flight", "dropped", "rejected"):
            self.assertIn(key, trace)
        self.assertEqual({"name", "state", "last_status", "last_error", "oldest_queued_s"} - set(status["destinations"][0]), set())
        self.assertEqual({"pid", "alive", "spans", "drops"} - set(status["probes"][0]), set())
        self.assertEqual({"bytes", "cap_bytes"} - set(status["store"]), set())

    def test_traces_lists_and_filters(self) -> None:
        self.send()
        lines = [json.loads(line) for line in self.agent.cli("traces", "--json").stdout.splitlines()]
        self.assertEqual(len(lines), 2)
        self.assertEqual(set(lines[0]), {"trace_id", "root", "resource", "workflow", "start_ns", "duration_ns", "spans", "error",
                                         "state", "unfinished"})
        self.assertEqual({line["state"] for line in lines}, {"sent"})
        failed = self.agent.cli("traces", "--json", "--state", "error").stdout.splitlines()
        self.assertEqual([json.loads(line)["trace_id"] for line in failed], [f"{12:032x}"])
        self.assertEqual(len(self.agent.cli("traces", "--json", "--text", "it broke").stdout.splitlines()), 1)
        self.assertEqual(len(self.agent.cli("traces", "--json", "--min-duration", "5ms").stdout.splitlines()), 1)
        self.assertEqual(self.agent.cli("traces", "--json", "--text", "nothing like it").stdout, "")
        self.assertIn("no traces", self.agent.cli("traces", "--state", "rejected").stdout)
        self.assertEqual(self.agent.cli("traces", "--since", "yesterday").returncode, USAGE)

    def test_trace_draws_a_tree_and_marks_the_error(self) -> None:
        self.send()
        one = json.loads(self.agent.cli("trace", f"{11:032x}", "--json").stdout)
        self.assertEqual(len(one["spans"]), 3)
        self.assertEqual({"span_id", "parent_id", "service", "name", "resource", "type", "start_ns", "duration_ns",
                          "error", "meta", "metrics"} - set(one["spans"][0]), set())
        text = self.agent.cli("trace", f"{12:032x}").stdout
        self.assertIn("└─ comfyui.node.execute Resource1", text)
        self.assertIn("it broke", text)
        self.assertNotIn("\033", text)
        self.assertIn("\033[31m", self.agent.cli("trace", f"{12:032x}", "--color", "always").stdout)
        self.assertEqual(self.agent.cli("trace", f"{99:032x}").returncode, PROBLEM)
        self.assertEqual(self.agent.cli("trace", "xyz").returncode, USAGE)

    def test_the_buffer_answers_alike_when_no_agent_runs(self) -> None:
        self.send()
        with_agent = self.agent.cli("traces", "--json").stdout
        self.writer.close()
        self.agent.stop()
        self.assertEqual(self.agent.cli("traces", "--json").stdout, with_agent)
        status = json.loads(self.agent.cli("status", "--json").stdout)
        self.assertEqual((status["pid"], status["signals"]["trace"]["sent"]), (0, 5))
        self.assertEqual(self.agent.cli("verify").returncode, OK)
        verified = json.loads(self.agent.cli("verify", "--json").stdout)
        self.assertEqual((verified["bad"], verified["jobs"], verified["orphans"], verified["jobs_db"]["differ"]), (0, 0, 0, 0))
        exported = self.agent.cli("export")
        self.assertEqual(len([json.loads(line) for line in exported.stdout.splitlines()]), 5)
        self.assertEqual(self.agent.cli("purge", "--yes").returncode, OK)
        self.assertEqual(self.agent.cli("traces").returncode, NO_AGENT)

    def test_verify_and_export_work_beside_a_running_agent(self) -> None:
        self.dd.refuse()
        made = 300
        for trace in range(1, made + 1):
            one = spans(self.writer, trace)
            for span in one:
                span["meta"] = {"error.message": os.urandom(2000).hex()}
            self.writer.finish(one)
        ended = 20
        self.writer.finish([{**spans(self.writer, made + job)[0], "name": "comfyui.workflow.execute",
                             "meta": {"prompt.id": f"{job:032x}", "workflow.status": "success"}} for job in range(1, ended + 1)])
        self.writer.flush(10)
        wait_until(lambda: self.agent.status()["store"]["chunk_rows"] > 0, 10, "chunks in the buffer")
        queued = self.agent.status()["signals"]["trace"]["queued"]
        exported = self.agent.cli("export")
        lines = [json.loads(line) for line in exported.stdout.splitlines()]
        self.assertEqual((exported.returncode, len(lines)), (OK, 3 * made + ended), exported.stderr)
        self.assertGreater(len(exported.stdout), 2 << 20)     # more than a slice
        self.assertEqual(len({(line["trace_id"], line["span_id"]) for line in lines}), 3 * made + ended)
        out = Path(self.agent.dirs.base) / "export.jsonl"
        self.assertEqual(self.agent.cli("export", "--out", str(out)).returncode, OK)
        self.assertEqual(out.read_text(), exported.stdout)
        checked = self.agent.cli("verify", "--json")
        report = json.loads(checked.stdout)
        self.assertEqual((checked.returncode, report["bad"], report["identity"], report["recount"]), (OK, 0, True, True))
        self.assertGreater(report["rows"], 0)
        self.assertEqual((report["jobs"], report["jobs_db"]), (ended, {"state": "read", "equal": ended, "behind": 0, "differ": 0}))
        self.assertEqual(self.agent.status()["signals"]["trace"]["queued"], queued)    # nothing was taken from it
        self.dd.reopen()
        self.agent.drain(30, received=3 * made + ended)

    def test_an_export_that_finds_nobody_leaves_no_file(self) -> None:
        self.agent.stop()
        self.agent.cli("purge", "--yes")
        out = Path(self.agent.dirs.base) / "export.jsonl"
        self.assertEqual(self.agent.cli("export", "--out", str(out)).returncode, NO_AGENT)
        self.assertFalse(out.exists())

    def test_a_second_agent_is_told_who_runs(self) -> None:
        second = self.agent.cli("agent")
        self.assertNotEqual(second.returncode, OK)
        self.assertIn(f"pid {self.agent.pid}", second.stderr)
        self.assertEqual(self.agent.cli("agent", "--autostarted").returncode, OK)
        self.assertEqual(self.agent.cli("purge", "--yes").returncode, 4)

    def test_without_an_agent_the_buffer_is_shown_as_it_was_left(self) -> None:
        self.send()
        with_agent = self.agent.status()["store"]
        self.writer.close()
        self.agent.stop()
        store = json.loads(self.agent.cli("status", "--json").stdout)["store"]
        self.assertEqual(store["cap_bytes"], with_agent["cap_bytes"])
        self.assertFalse(store["volatile"])

    def test_doctor_names_the_station_that_is_broken(self) -> None:
        self.send()
        self.assertIn("nothing is wrong", self.agent.cli("doctor").stdout)
        self.dd.refuse()
        self.writer.finish(spans(self.writer, 13))
        self.writer.flush(10)
        wait_until(lambda: self.agent.status()["destinations"][0]["state"] == "offline", 10, "the state offline")
        said = self.agent.cli("doctor", "--json")
        self.assertEqual(said.returncode, PROBLEM)
        report = json.loads(said.stdout)
        self.assertFalse(report["well"])
        self.assertEqual([s["station"] for s in report["stations"] if s["finding"] == "WRONG"], ["datadog"])
        self.writer.close()
        self.agent.stop()
        self.assertIn("no agent listens", self.agent.cli("doctor").stdout)


class Alone(unittest.TestCase):
    def setUp(self) -> None:
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)
        self.env = {**passed_env(), "COMFYMON_RUN_DIR": self.dir.name + "/run",
                    "COMFYMON_DATA_DIR": self.dir.name + "/data"}

    def test_usage_errors_name_what_was_wrong(self) -> None:
        for args, text in ((("frob",), "unknown verb: frob"), ((), "which verb?"), (("status", "--frob"), "unknown option"),
                           (("trace",), "needs an argument"), (("status", "extra"), "unexpected argument"),
                           (("traces", "--limit", "0"), "whole number"), (("jobs", "-n", "3"), "unknown option: -n"),
                           (("run", "python", "main.py"), "run -- python"), (("trace",), "see comfymon help trace"), (("status", "--color", "pink"), "--color: expected"),
                           (("status", "--set", "frob=1"), "unknown key"), (("status", "--json=1"), "takes no value")):
            with self.subTest(args):
                done = run(*args, env=self.env)
                self.assertEqual((done.returncode, done.stdout), (USAGE, ""))
                self.assertIn(text, done.stderr)

    def test_check_shows_values_with_their_origin(self) -> None:
        config = Path(self.dir.name) / "c.json"
        config.write_text('{"store": {"cap": "2G"}} // comment')
        shown = json.loads(run("check", "--json", "--config", str(config), "--set", "env=x",
                               env={**self.env, "DD_SERVICE": "s"}).stdout)
        self.assertEqual(shown["service"], {"value": "s", "origin": "environment DD_SERVICE"})
        self.assertEqual(shown["env"], {"value": "x", "origin": "command line"})
        self.assertEqual(shown["store.cap"]["value"], "2 GiB")
        self.assertIn("c.json:1:", shown["store.cap"]["origin"])
        config.write_text('{"store":\n {"cop": "2G"}}')
        done = run("check", "--config", str(config), env=self.env)
        self.assertEqual(done.returncode, USAGE)
        self.assertIn("c.json:2:3: unknown key \"store.cop\"", done.stderr)
        self.assertEqual(run("check", env={**self.env, "COMFYMON_DESTINATIONS": "ftp"}).returncode, USAGE)

    def test_check_shows_no_secret(self) -> None:
        env = {**self.env, "COMFYMON_WEBHOOK_URL": "https://user:word@hooks.example:8443/T0/key?token=key",
               "COMFYMON_WEBHOOK_SECRET": "open sesame"}
        for args in (("check",), ("check", "--json")):
            said = run(*args, env=env)
            self.assertEqual(said.returncode, OK)
            for secret in ("open sesame", "word", "key"):
                self.assertNotIn(secret, said.stdout + said.stderr)
            self.assertIn("https://***@hooks.example:8443/***", said.stdout)
        bad = run("check", env={**env, "COMFYMON_WEBHOOK_URL": "hooks.example/T0/key"})
        self.assertEqual(bad.returncode, USAGE)
        self.assertNotIn("T0", bad.stderr)

    def test_the_committed_default_and_schema_are_what_the_program_prints(self) -> None:
        for option, name in (("--print-default", "comfymon.json"), ("--print-schema", "comfymon.schema.json")):
            self.assertEqual(run("check", option, env=self.env).stdout, (ROOT / "config" / name).read_text(), name)

    def test_install_links_or_copies_and_uninstall_takes_only_its_own(self) -> None:
        comfy, node = Path(self.dir.name) / "ComfyUI", Path(self.dir.name) / "node"
        (comfy / "custom_nodes").mkdir(parents=True)
        (node / "lib").mkdir(parents=True)
        (node / "prestartup_script.py").write_text("1\n")
        (node / "lib" / "x.so").write_text("2\n")
        target = comfy / "custom_nodes" / "comfymon"
        where = ("--comfyui", str(comfy))
        self.assertEqual(run("install", *where, "--node", str(node), env=self.env).returncode, OK)
        self.assertTrue(target.is_symlink())
        self.assertEqual(run("install", *where, "--node", str(node), "--copy", env=self.env).returncode, OK)
        self.assertFalse(target.is_symlink())
        self.assertEqual((target / "lib" / "x.so").read_text(), "2\n")
        self.assertEqual(run("uninstall", *where, env=self.env).returncode, OK)
        self.assertFalse(target.exists())
        self.assertEqual(run("uninstall", *where, env=self.env).returncode, OK)
        self.assertTrue((node / "lib" / "x.so").exists())
        target.mkdir()
        (target / "somebody.py").write_text("3\n")
        self.assertEqual(run("install", *where, "--node", str(node), env=self.env).returncode, PROBLEM)
        self.assertEqual(run("uninstall", *where, env=self.env).returncode, PROBLEM)
        self.assertTrue((target / "somebody.py").exists())
        self.assertEqual(run("install", "--comfyui", self.dir.name, "--node", str(node), env=self.env).returncode, PROBLEM)

    def test_without_agent_and_buffer_there_is_nothing_to_ask(self) -> None:
        for verb in ("status", "traces", "verify", "export"):
            self.assertEqual(run(verb, env=self.env).returncode, NO_AGENT, verb)

    def test_run_starts_nothing_whose_agent_would_refuse_its_destinations(self) -> None:
        marker = Path(self.dir.name) / "ran"
        for more, code in (((), USAGE), (("--no-agent",), OK)):
            done = run("run", "--restart", "never", *more, "--", "touch", str(marker), env={**self.env, "COMFYMON_DESTINATIONS": "ftp"})
            self.assertEqual((done.returncode, marker.exists()), (code, code == OK))
            self.assertEqual("expected datadog" in done.stderr, code == USAGE)

    def test_a_purge_that_nobody_confirms_deletes_nothing_and_says_so(self) -> None:
        Path(self.env["COMFYMON_DATA_DIR"]).mkdir(mode=0o700)
        (Path(self.env["COMFYMON_DATA_DIR"]) / "buffer.db").write_text("")
        done = run("purge", env=self.env)
        self.assertEqual(done.returncode, PROBLEM)
        self.assertIn("nothing was deleted", done.stderr)
        self.assertTrue((Path(self.env["COMFYMON_DATA_DIR"]) / "buffer.db").exists())

    def test_deaths_that_cannot_be_read_are_not_taken_for_none(self) -> None:
        done = run("deaths", env=self.env)
        self.assertEqual((done.returncode, done.stdout), (OK, f"no deaths in {self.env['COMFYMON_DATA_DIR']}/deaths\n"))
        Path(self.env["COMFYMON_DATA_DIR"]).mkdir()
        (Path(self.env["COMFYMON_DATA_DIR"]) / "deaths").write_text("")
        for verb in (("deaths",), ("death", "last")):
            done = run(*verb, env=self.env)
            self.assertEqual((done.returncode, done.stdout), (FAILED, ""))
            self.assertIn("deaths: Not a directory", done.stderr)

    def test_doctor_says_why_a_node_is_not_loaded(self) -> None:
        where = ("doctor", "--comfyui", self.dir.name)
        self.assertIn("--comfyui takes the folder", " ".join(run(*where, env=self.env).stdout.split()))
        nodes = Path(self.dir.name) / "custom_nodes"
        nodes.mkdir()
        self.assertIn("not installed", run(*where, env=self.env).stdout)
        for off in (nodes / "comfymon.disabled", nodes / ".disabled" / "comfymon"):
            off.mkdir(parents=True)
            self.assertIn(f"switched off: it is in {off}", run(*where, env=self.env).stdout)
            off.rmdir()

    def test_doctor_says_what_a_run_directory_is_that_nobody_can_use(self) -> None:
        place = Path(self.env["COMFYMON_RUN_DIR"])
        place.symlink_to(self.dir.name)
        self.assertIn("is a link, not a folder", run("doctor", env=self.env).stdout)
        place.unlink()
        for mode, text in ((0o755, "is open to other users (mode 755)"), (0o711, "0 probe rings"), (0o700, "0 probe rings")):
            place.mkdir()
            place.chmod(mode)
            self.assertIn(text, run("doctor", env=self.env).stdout)
            place.rmdir()


if __name__ == "__main__":
    unittest.main()
