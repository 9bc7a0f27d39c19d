"""What a host does with hooked things, rightly or wrongly: nothing of it may differ from life without us."""

from __future__ import annotations

import functools
import sys
import types
import unittest
from typing import Any

from base import Case, _comfymon


def adds(first: int, second: int = 1) -> int:
    return first + second


class Tells:
    def __call__(self, *given: Any) -> tuple[Any, ...]:
        return given


class Host(Case):
    def setUp(self) -> None:
        super().setUp()
        self.name = f"host_{self._testMethodName}"
        self.module = types.ModuleType(self.name)
        sys.modules[self.name] = self.module
        self.addCleanup(sys.modules.pop, self.name)
        self.addCleanup(_comfymon.detach)

    def attach(self, *attrs: str) -> dict[str, str]:
        _comfymon.attach([{"module": self.name, "attr": attr, "name": attr} for attr in attrs])
        return {h["attr"]: h["state"] for h in _comfymon.hooks() if h["module"] == self.name}

    def test_what_a_class_does_not_bind_stays_unbound(self) -> None:
        class Node:
            partial = functools.partial(adds, 7)
            builtin = len
            instance = Tells()
            bound = "a-b".split

        self.module.Node = Node  # type: ignore[attr-defined]

        def ask() -> list[object]:
            node = Node()
            return [node.partial(2), Node.partial(3), node.builtin([1, 2]), node.instance(4), node.bound("-")]

        before = ask()
        names = ["Node.builtin", "Node.instance", "Node.bound"]
        states = dict.fromkeys(names, "attached")
        # From 3.13 on a partial announces that it will bind some day: it is left alone.
        states["Node.partial"] = "unknown" if hasattr(functools.partial, "__get__") else "attached"
        self.assertEqual(self.attach("Node.partial", *names), states)
        self.assertEqual(ask(), before)
        seen = [s.name for s in self.ring().spans() if s.name != "Node.partial"]
        self.assertEqual(seen, names)

    def test_what_binds_in_a_way_of_its_own_is_left_alone(self) -> None:
        class Binds(Tells):
            def __get__(self, node: object, cls: type) -> object:
                return functools.partial(self, "bound")

        class Node:
            method = Binds()

        self.module.Node = Node  # type: ignore[attr-defined]
        self.assertEqual(self.attach("Node.method"), {"Node.method": "unknown"})
        self.assertEqual(Node().method(1), ("bound", 1))

    def test_a_method_of_a_base_reached_by_super_is_one_call(self) -> None:
        class Base:
            def run(self, value: int) -> int:
                return value + 1

        class Derived(Base):
            def run(self, value: int) -> int:
                return super().run(value) * 2

        self.module.Base = Base  # type: ignore[attr-defined]
        self.attach("Base.run")
        self.assertEqual(Derived().run(1), 4)
        self.assertEqual(len(self.ring().spans()), 1)


if __name__ == "__main__":
    unittest.main()
