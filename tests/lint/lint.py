"""Room checks: who includes whom, which words stay home, layout, sizes, format.

Run as a script; prints one line per finding and exits 1 when there is any.
`lint.py NAME` runs one check: layers, words, layout, symbols, format, sizes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("COMFYMON_BUILD", ROOT / "build" / "release"))
SKIPPED = 77
TOP = {"CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md", "agent", "probe", "schema", "config", "tests"}
SYSTEM = re.compile(r'^\s*#\s*include\s*<([^>]+)>', re.M)
OURS = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)
THIRD_PARTY = re.compile(r"^(nng/|sqlite3\.h|curl/|jansson\.h|microhttpd\.h|nettle/|msgpack|zstd|zlib|Python\.h|structmember\.h)")


def tracked(*patterns: str) -> list[Path]:
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", *patterns], cwd=ROOT, text=True,
                         capture_output=True, check=True).stdout
    return [ROOT / name for name in out.split("\n") if name and (ROOT / name).is_file()]


def table(name: str) -> list[str]:
    lines = (Path(__file__).parent / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[:2]) if parts[0] in ("agent", "probe") else parts[0]


def sources() -> list[Path]:
    return [p for p in tracked("*.c", "*.h") if p.relative_to(ROOT).parts[0] in ("agent", "probe", "schema")]


def check_layers() -> list[str]:
    allowed: dict[str, tuple[list[str], list[str]]] = {}
    for line in table("layers.txt"):
        room, rest = (part.strip() for part in line.split(" : ", 1))
        ours, third = rest.split("|")
        allowed[room] = (ours.split(), third.split())
    found = []
    for path in sources():
        room, text, name = room_of(path), path.read_text(), path.relative_to(ROOT)
        if room not in allowed:
            found.append(f"{name}: room {room} is not in layers.txt")
            continue
        ours, third = allowed[room]
        for include in OURS.findall(text):
            if not any(include.startswith(folder) for folder in ours):
                found.append(f"{name}: {room} may not include {include}")
        for include in SYSTEM.findall(text):
            if THIRD_PARTY.match(include) and not any(include.startswith(prefix) for prefix in third):
                found.append(f"{name}: {room} may not include <{include}>")
    return found


def check_words() -> list[str]:
    found = []
    rules = [line.split("\t") for line in table("words.txt")]
    for path in sources():
        code = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        code = re.sub(r'"(?:\\.|[^"\\])*"', '""', code)
        for pattern, rooms in rules:
            if room_of(path) not in rooms.split() and re.search(pattern, code):
                found.append(f"{path.relative_to(ROOT)}: {pattern} belongs to {rooms}")
    return found


def check_layout() -> list[str]:
    top = {p.relative_to(ROOT).parts[0] for p in tracked()}
    found = [f"{name}: not in the agreed top level" for name in sorted(top) if name not in TOP and not name.startswith(".")]
    for path in sources():
        text = path.read_text()
        if not text.startswith("/*"):
            found.append(f"{path.relative_to(ROOT)}: does not begin with a comment that says what it is")
        if path.suffix == ".h" and "#pragma once" not in text:
            found.append(f"{path.relative_to(ROOT)}: header without #pragma once")
    python = [p for p in tracked("*.py") if p.relative_to(ROOT).parts[0] in ("agent", "probe", "schema")]
    allowed = {"probe/node/prestartup_script.py", "probe/node/__init__.py", "probe/node/idle.py"}
    found += [f"{p.relative_to(ROOT)}: Python outside the node" for p in python if str(p.relative_to(ROOT)) not in allowed]
    return found


def check_sizes() -> list[str]:
    found = []
    for path in tracked("*.c", "*.h", "*.py"):
        lines = len(path.read_text(errors="replace").splitlines())
        limit = 800 if path.relative_to(ROOT).parts[0] == "tests" else 600
        if lines > limit:
            found.append(f"{path.relative_to(ROOT)}: {lines} lines, more than {limit}")
    if shutil.which("ctags") is None:
        return found
    names = [str(p) for p in sources() if p.suffix == ".c"]
    out = subprocess.run(["ctags", "-x", "--_xformat=%{line} %{end} %N %F", "--kinds-C=f", *names], text=True,
                         capture_output=True, check=False).stdout
    for line in out.splitlines():
        start, end, name, file = line.split(" ", 3)
        if end.isdigit() and int(end) - int(start) + 1 > 80:
            found.append(f"{os.path.relpath(file, ROOT)}: {name} has {int(end) - int(start) + 1} lines, more than 80")
    return found


def check_symbols() -> list[str]:
    """The probe's core needs libc and threads only: every undefined symbol is in libc.txt."""
    library = BUILD / "probe" / "core" / "libroom_probe_core.a"
    if not library.exists():
        return [f"{library}: not built"]
    allowed = set(table("libc.txt"))
    both = [str(library), str(BUILD / "schema" / "libroom_schema.a")]
    defined, undefined = set(), set()
    for line in subprocess.run(["nm", "-A", *both], text=True, capture_output=True, check=True).stdout.splitlines():
        fields = line.split(":", 2)[-1].split()
        if fields and fields[-2:-1] == ["U"]:
            undefined.add(fields[-1])
        elif len(fields) >= 2:
            defined.add(fields[-1])
    strangers = sorted(s for s in undefined - defined if s not in allowed and not s.startswith(("__asan", "__ubsan", "__tsan")))
    return [f"probe/core: needs {name}, which is not in tests/lint/libc.txt" for name in strangers]


def check_collisions() -> list[str]:
    """No name of ours is one that a library which the program loads exports: the linker would
    take ours for the library's, and callers of it would not notice."""
    program = BUILD / "bin" / "comfymon"
    if not program.exists():
        return [f"{program}: not built"]
    loaded = subprocess.run(["ldd", str(program)], text=True, capture_output=True, check=True).stdout
    theirs: dict[str, str] = {}
    for library in re.findall(r"=> (/\S+)", loaded):
        names = subprocess.run(["nm", "-D", "--defined-only", library], text=True, capture_output=True, check=False).stdout
        theirs.update({line.split()[-1].split("@")[0]: Path(library).name for line in names.splitlines() if line})
    found = []
    for room in sorted(BUILD.glob("agent/*/libroom_*.a")) + sorted(BUILD.glob("schema/libroom_*.a")):
        names = subprocess.run(["nm", "-g", "--defined-only", str(room)], text=True, capture_output=True, check=True).stdout
        ours = {line.split()[-1] for line in names.splitlines() if len(line.split()) == 3}
        found += [f"{room.name}: {name} is a name of {theirs[name]}" for name in sorted(ours & set(theirs))]
    return found


def check_options() -> list[str]:
    """Every option is used by some room: what a file may set must change something."""
    code = "".join(p.read_text() for p in sources() if p.suffix == ".c")
    table_text = (ROOT / "agent" / "config" / "options.def").read_text()
    return [f"agent/config/options.def: {name} is used nowhere"
            for name in re.findall(r"^OPTION\((\w+)", table_text, re.M) if not re.search(rf"\bOPT_{name}\b", code)]


def check_names() -> list[str]:
    """A dotted literal that begins like a span or tag of schema/names.def is one of them."""
    text = (ROOT / "schema" / "names.def").read_text()
    spans = set(re.findall(r'^SPAN\("([^"]+)"', text, re.M))
    tags = set(re.findall(r'^TAG\(\w+, "([^"]+)"', text, re.M))
    known = spans | tags | {name.split(".", 1)[1] for name in spans}  # hooks put the first part before it
    families = {name.split(".")[0] for name in known}
    exempt = [line.split("\t")[:2] for line in table("names.txt")]
    found = []
    for path in sources() + tracked("config/hooks/*.def"):
        name = str(path.relative_to(ROOT))
        code = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        code = re.sub(r"^\s*#\s*include.*$", "", code, flags=re.M)
        code = re.sub(r'HOOK\("[^"]*", "[^"]*"', "HOOK(", code)  # module and attribute are Python's
        for word in re.findall(r'"([a-z_]+(?:\.[a-z_]+)+)"', code):
            if word.split(".")[0] not in families or word in known or word.endswith((".json", ".py", ".sock")):
                continue
            if not any(name.startswith(room) and re.fullmatch(pattern, word) for pattern, room in exempt):
                found.append(f"{name}: {word} is not in schema/names.def")
    return found


def check_readme() -> list[str]:
    """Every room says what it promises; every variable that the code reads is in the first page's table."""
    page = (ROOT / "README.md").read_text()
    rooms = sorted({p.parent for p in sources()})
    found = [f"{room.relative_to(ROOT)}: no README.md" for room in rooms if not (room / "README.md").is_file()]
    only_noticed = {"DD_API_KEY", "DD_SITE", "DD_AGENT_PORT"}  # they say that somebody wants Datadog
    read = set()
    for path in sources() + tracked("agent/config/options.def", "probe/node/*.py"):
        if path.name == "fault.c":  # of builds for the fault tests
            continue
        read |= set(re.findall(r'"((?:DD|COMFYMON)_[A-Z_]+)"', path.read_text()))
    return found + [f"README.md: {name} is not in the table of variables" for name in sorted(read - only_noticed)
                    if f"`{name}`" not in page]


METRIC = re.compile(r'^(GAUGE|COUNT|TIME)\((\w+), (\w+), "([a-z]+)", "([a-z_]+)", "([a-z]*)", .*, "([^"]+)"\)$')


def metrics_table() -> list[str]:
    """agent/metrics/metrics.def as the rows of its README. The tags of a metric are those that over.c puts."""
    over = (ROOT / "agent" / "metrics" / "over.c").read_text()
    tags = {name: re.findall(r'\btag(?:_number|_attr)?\(item, (?:p, )?"(\w+)"', body)
            for name, body in re.findall(r"^over_(\w+)\(.*?^\{(.*?)^\}", over, re.M | re.S)}
    rows = []
    for line in (ROOT / "agent" / "metrics" / "metrics.def").read_text().splitlines():
        if (row := METRIC.match(line)) is not None:
            kind, _, each, stage, what, unit, text = row.groups()
            page = "_".join(filter(None, ("comfymon", stage, what, unit, "total" if kind != "GAUGE" else "")))
            rows.append(f"| `comfymon.{stage}.{what}` | `{page}` | {'gauge' if kind == 'GAUGE' else 'count'} "
                        f"| {' '.join(tags[each])} | {text} |")
    return rows


def check_metrics() -> list[str]:
    """Names are legal and each is there once; the room's README has this table and no other."""
    text = (ROOT / "agent" / "metrics" / "metrics.def").read_text()
    found = [f"agent/metrics/metrics.def: not a row: {line[:60]}" for line in text.splitlines()
             if re.match(r"[A-Z]+\(", line) and not METRIC.match(line)]
    rows = metrics_table()
    for column in (1, 2):
        names = [row.split(" | ")[column - 1] for row in rows]
        found += [f"agent/metrics/metrics.def: {name} is there twice" for name in sorted(set(names)) if names.count(name) > 1]
    page = [line for line in (ROOT / "agent" / "metrics" / "README.md").read_text().splitlines() if line.startswith("| `comfymon.")]
    found += [f"agent/metrics/README.md: lacks {row}" for row in rows if row not in page]
    found += [f"agent/metrics/README.md: not in metrics.def: {row}" for row in page if row not in rows]
    return found if rows or found else ["agent/metrics/metrics.def: no row"]


def check_paths() -> list[str]:
    """Nothing names a place of one machine."""
    found = []
    for path in tracked():
        name = path.relative_to(ROOT)
        data = path.read_bytes()
        if b"\0" in data or name.parts[:2] == ("tests", "fuzz") or path == Path(__file__).resolve():
            continue
        for match in re.finditer(r"(?<![\w.~$}])/(?:work|root|home/\w+|Users)/\S*", data.decode("utf-8", "replace")):
            found.append(f"{name}: {match.group(0)[:60]}")
    return found


def check_shell() -> list[str]:
    scripts = [p for p in tracked() if p.suffix == ".sh" or p.read_bytes()[:20].startswith((b"#!/bin/sh", b"#!/usr/bin/env bash"))]
    return report(["shellcheck", "--format=gcc", *map(str, scripts)])


def check_cppcheck() -> list[str]:
    return report(["cppcheck", "-q", "--std=c11", "--enable=warning,performance,portability", "--error-exitcode=1",
                   "--suppress=missingIncludeSystem", f"--suppressions-list={Path(__file__).parent / 'cppcheck.txt'}",
                   "--template={file}:{line}: {message} [{id}]", "-I.", "-D_GNU_SOURCE", '-DCOMFYMON_VERSION="0"',
                   f"--include={Path(__file__).parent / 'cppcheck.h'}", "agent", "schema", "probe/core"])


def check_format() -> list[str]:
    if shutil.which("clang-format") is None:
        return ["clang-format is not installed"]
    names = [str(p) for p in tracked("*.c", "*.h")]
    run = subprocess.run(["clang-format", "--dry-run", "-Werror", *names], text=True, capture_output=True, check=False)
    files = sorted({line.split(":", 1)[0] for line in run.stderr.splitlines() if "error:" in line})
    return [f"{os.path.relpath(name, ROOT)}: not formatted" for name in files]


class Skip(Exception):
    """A check whose tool is not installed."""


def report(command: list[str]) -> list[str]:
    """What the tool printed, by line."""
    if shutil.which(command[0]) is None:
        raise Skip(f"{command[0]} is not installed")
    run = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    return (run.stdout + run.stderr).splitlines() if run.returncode != 0 else []


CHECKS = {"layers": check_layers, "words": check_words, "layout": check_layout, "sizes": check_sizes,
          "symbols": check_symbols, "collisions": check_collisions, "options": check_options, "names": check_names, "readme": check_readme, "metrics": check_metrics, "paths": check_paths,
          "shell": check_shell, "cppcheck": check_cppcheck, "format": check_format}


def main() -> int:
    wanted = sys.argv[1:] or list(CHECKS)
    try:
        findings = [f"{name}: {line}" for name in wanted for line in CHECKS[name]()]
    except Skip as why:
        print(f"skipped: {why}")
        return SKIPPED
    print("\n".join(findings) if findings else f"clean: {', '.join(wanted)}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
