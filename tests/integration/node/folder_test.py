"""The node folder as it is given away: what is in it, and which hosts it runs on."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Iterator, List, Set, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
from node import NODE, ROOT, pythons  # noqa: E402

GLIBC_MAX = (2, 34)
LIBC = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libresolv.so.2",
        "ld-linux-x86-64.so.2"}
LOADED = {"libcurl.so.4"}  # by dlopen


def objects() -> List[Path]:
    return [p for p in sorted(NODE.rglob("*")) if p.is_file() and p.read_bytes()[:4] == b"\x7fELF"]


def readelf(path: Path, *options: str) -> str:
    return subprocess.run(["readelf", "-W", *options, str(path)], text=True, capture_output=True, check=True).stdout


def needed(path: Path) -> Set[str]:
    return set(re.findall(r"\(NEEDED\)\s+Shared library: \[(.*?)\]", readelf(path, "-d")))


def glibc(path: Path) -> Iterator[Tuple[int, ...]]:
    for version in re.findall(r"Name: GLIBC_([0-9.]+)", readelf(path, "-V")):
        yield tuple(int(part) for part in version.split("."))


class Folder(unittest.TestCase):
    def test_holds_exactly_what_it_should(self) -> None:
        names = {p.name for p in NODE.iterdir() if p.name != "__pycache__" and not p.name.startswith("_comfymon.")}
        self.assertEqual(names, {"prestartup_script.py", "__init__.py", "idle.py", "pyproject.toml", "LICENSE", "comfymon", "lib",
                                 "licenses"})
        self.assertEqual(len(list(NODE.glob("_comfymon.*.so"))), len(pythons()))
        self.assertEqual([p for p in NODE.rglob("*") if p.is_symlink()], [])

    def test_needs_libc_alone_from_the_host(self) -> None:
        carried = {p.name for p in (NODE / "lib").iterdir()}
        wanted = set(LOADED)
        for path in objects():
            wanted |= needed(path)
        self.assertEqual(wanted - carried - LIBC, set())
        self.assertEqual(carried - wanted, set(), "carried for nothing")
        self.assertIn("[$ORIGIN/lib]", readelf(NODE / "comfymon", "-d"))

    def test_extensions_need_nothing_but_libc(self) -> None:
        for path in NODE.glob("_comfymon.*.so"):
            self.assertEqual(needed(path) - LIBC, set(), path.name)

    def test_no_symbol_is_younger_than_the_promised_glibc(self) -> None:
        for path in objects():
            newest = max(glibc(path))
            self.assertLessEqual(newest, GLIBC_MAX, f"{path.name} needs GLIBC_{newest}")
            self.assertNotIn("GLIBC_ABI_DT_RELR", readelf(path, "-V"), path.name)

    def test_every_library_comes_with_its_licence(self) -> None:
        licenses = {p.stem for p in (NODE / "licenses").glob("*.txt")}
        for library in (NODE / "lib").iterdir():
            stem = re.sub(r"[-.].*", "", library.name).lower()
            self.assertTrue(any(name.startswith((stem, stem.replace("lib", "libgss"), "libcom-err", "zlib"))
                                for name in licenses), library.name)
        for path in (NODE / "licenses").glob("*.txt"):
            for name in set(re.findall(r"/usr/share/common-licenses/([A-Za-z]+-?[0-9.]*[0-9])", path.read_text(errors="replace"))):
                self.assertTrue((NODE / "licenses" / "common" / f"{name}.txt").exists(), f"{path.name}: {name}")

    def test_the_registry_sees_the_version_of_the_build(self) -> None:
        version = re.search(r'^version = "(.*)"', (NODE / "pyproject.toml").read_text(), re.M)
        project = re.search(r"project\(comfymon VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text())
        assert version and project
        self.assertEqual(version.group(1), project.group(1))
        said = subprocess.run([str(NODE / "comfymon"), "--version"], text=True, capture_output=True, check=True).stdout
        self.assertEqual(said.strip(), f"comfymon {project.group(1)}")

    def test_its_python_opens_nothing_and_changes_no_environment(self) -> None:
        for name in ("prestartup_script.py", "__init__.py", "idle.py"):
            text = (NODE / name).read_text()
            self.assertLess(len(text.splitlines()), 90)
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                    self.assertEqual(names & {"socket", "subprocess", "ctypes", "torch", "base64", "shutil"}, set(), name)
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    self.assertNotIn(node.func.id, {"eval", "exec", "compile", "open", "__import__"}, name)
                elif isinstance(node, ast.Attribute) and node.attr in ("putenv", "system", "popen", "setdefault"):
                    self.fail(f"{name}:{node.lineno}: {node.attr}")
                elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
                    self.assertIsInstance(node.ctx, ast.Load, f"{name}:{node.lineno}")


if __name__ == "__main__":
    unittest.main()
