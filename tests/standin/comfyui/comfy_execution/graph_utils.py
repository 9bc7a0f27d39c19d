"""What a node needs to answer with a sub-graph or to block its output."""
from __future__ import annotations

from typing import Any, Optional


def is_link(value: Any) -> bool:
    return (isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
            and isinstance(value[1], (int, float)))


class ExecutionBlocker:
    """An output that stops whoever receives it; with a message the client is told."""

    def __init__(self, message: Optional[str]) -> None:
        self.message = message


class GraphNode:
    def __init__(self, node_id: str, class_type: str, inputs: dict[str, Any]) -> None:
        self.id = node_id
        self.class_type = class_type
        self.inputs = inputs
        self.override_display_id: Optional[str] = None

    def out(self, index: int) -> list[Any]:
        return [self.id, index]

    def set_input(self, key: str, value: Any) -> None:
        self.inputs[key] = value

    def set_override_display_id(self, node_id: str) -> None:
        self.override_display_id = node_id


class GraphBuilder:
    """Names children <parent>.<call>.<graph>.<n>; the executor sets parent and call."""

    _root = ""
    _call = 0
    _graph = 0

    def __init__(self, prefix: Optional[str] = None) -> None:
        if prefix is None:
            prefix = f"{GraphBuilder._root}.{GraphBuilder._call}.{GraphBuilder._graph}."
            GraphBuilder._graph += 1
        self.prefix = prefix
        self.nodes: dict[str, GraphNode] = {}
        self._count = 0

    @classmethod
    def set_default_prefix(cls, prefix_root: str, call_index: int, graph_index: int = 0) -> None:
        cls._root, cls._call, cls._graph = prefix_root, call_index, graph_index

    def node(self, class_type: str, id: Optional[str] = None, **inputs: Any) -> GraphNode:
        self._count += 1
        node_id = self.prefix + (str(self._count) if id is None else id)
        made = GraphNode(node_id, class_type, dict(inputs))
        self.nodes[node_id] = made
        return made

    def finalize(self) -> dict[str, Any]:
        graph: dict[str, Any] = {}
        for node_id, node in self.nodes.items():
            graph[node_id] = {"class_type": node.class_type, "inputs": node.inputs}
            if node.override_display_id is not None:
                graph[node_id]["override_display_id"] = node.override_display_id
        return graph
