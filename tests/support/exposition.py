"""Prometheus' text format 0.0.4, read strictly and without anybody's library.

    page = parse(text)                       # ValueError names the line
    page.value("comfymon_agent_up", agent_version="1.0.0")

A metric has one HELP and one TYPE, both before its samples; its samples stand together; no sample comes twice.
"""

from __future__ import annotations

import re
from typing import Dict, FrozenSet, NamedTuple, Tuple

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|\})')
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?([eE][+-]?\d+)?|Inf)|NaN")
ESCAPES = {'\\"': '"', "\\\\": "\\", "\\n": "\n"}

Key = Tuple[str, FrozenSet[Tuple[str, str]]]


class Page(NamedTuple):
    types: Dict[str, str]
    helps: Dict[str, str]
    samples: Dict[Key, float]

    def value(self, name: str, **labels: str) -> float:
        return self.samples[name, frozenset(labels.items())]

    def labels(self, name: str) -> "list[Dict[str, str]]":
        return [dict(pairs) for known, pairs in self.samples if known == name]


def parse(text: str) -> Page:
    page = Page({}, {}, {})
    done, last = set(), ""
    if not text.endswith("\n"):
        raise ValueError("the last line has no end")
    for number, line in enumerate(text[:-1].split("\n"), 1):
        try:
            if line.startswith("# "):
                name = _head(line, page)
            else:
                name = _sample(line, page)
            if name in done:
                raise ValueError(f"{name} begins again")
        except ValueError as error:
            raise ValueError(f"line {number}: {error}: {line!r}") from None
        if name != last and last:
            done.add(last)
        last = name
    return page


def _head(line: str, page: Page) -> str:
    word, name, rest = line[2:].split(" ", 2)
    kept = {"HELP": page.helps, "TYPE": page.types}.get(word)
    if kept is None or not NAME.fullmatch(name) or name in kept:
        raise ValueError("no head, or a second one")
    if word == "TYPE" and rest not in ("gauge", "counter"):
        raise ValueError("an unknown type")
    if any(known == name for known, _ in page.samples):
        raise ValueError("a head behind its samples")
    kept[name] = rest
    return name


def _sample(line: str, page: Page) -> str:
    match = NAME.match(line)
    if match is None:
        raise ValueError("no name")
    name, at, labels = match.group(), match.end(), []
    if line[at:at + 1] == "{":
        at += 1
        while True:
            pair = LABEL.match(line, at)
            if pair is None:
                raise ValueError("no label")
            labels.append((pair[1], re.sub(r"\\.", lambda m: ESCAPES[m.group()], pair[2])))
            at = pair.end()
            if pair[3] == "}":
                break
    if line[at:at + 1] != " " or not NUMBER.fullmatch(line[at + 1:]):
        raise ValueError("no number")
    key = (name, frozenset(labels))
    if name not in page.types or name not in page.helps:
        raise ValueError("a sample without its head")
    if len({label for label, _ in labels}) != len(labels) or key in page.samples:
        raise ValueError("twice")
    page.samples[key] = float(line[at + 1:])
    return name
