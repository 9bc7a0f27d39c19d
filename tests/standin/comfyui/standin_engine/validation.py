"""Checks a submitted graph before it is queued; the answers become HTTP 400."""
from __future__ import annotations

from typing import Any, Optional

import nodes
from comfy_execution.graph_utils import is_link

Problem = dict


def problem(kind: str, message: str, details: str = "", **extra: Any) -> Problem:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


def check_prompt(prompt: dict[str, Any], wanted: Optional[list[str]]
                 ) -> tuple[bool, Optional[Problem], list[str], dict[str, Any]]:
    outputs: set[str] = set()
    for node_id, node in prompt.items():
        class_type = node.get("class_type") if isinstance(node, dict) else None
        if class_type is None:
            return False, problem("invalid_prompt", "a node has no class_type",
                                  f"node {node_id}"), [], {}
        class_def = nodes.NODE_CLASS_MAPPINGS.get(class_type)
        if class_def is None:
            return False, problem("invalid_prompt", f"node class {class_type} does not exist",
                                  f"node {node_id}"), [], {}
        if getattr(class_def, "OUTPUT_NODE", False) and (wanted is None or node_id in wanted):
            outputs.add(node_id)
    if not outputs:
        return False, problem("prompt_no_outputs", "the prompt has no outputs"), [], {}

    checked: dict[str, list[Problem]] = {}
    good = [node_id for node_id in outputs if _output_is_good(prompt, node_id, checked)]
    node_errors = {
        node_id: {"errors": errors, "class_type": prompt[node_id]["class_type"],
                  "dependent_outputs": [out for out in outputs if out not in good]}
        for node_id, errors in checked.items() if errors}
    if not good:
        text = "; ".join(error["message"] for entry in node_errors.values()
                         for error in entry["errors"])
        return False, problem("prompt_outputs_failed_validation",
                              "no output of the prompt passed validation", text), [], node_errors
    return True, None, good, node_errors


def _output_is_good(prompt: dict[str, Any], output: str, checked: dict[str, list[Problem]]) -> bool:
    """Visits all ancestors depth first without recursion, so deep chains are fine."""
    good = True
    path: dict[str, None] = {}
    stack: list[tuple[str, bool]] = [(output, False)]
    while stack:
        node_id, leaving = stack.pop()
        if leaving:
            path.pop(node_id, None)
            continue
        if node_id in path:
            checked.setdefault(node_id, []).append(
                problem("dependency_cycle", "the graph has a cycle", f"node {node_id}"))
            return False
        if node_id not in checked:
            checked[node_id] = _check_node(prompt, node_id)
            path[node_id] = None
            stack.append((node_id, True))
            stack.extend((value[0], False) for value in prompt[node_id]["inputs"].values()
                         if is_link(value) and value[0] in prompt)
        good = good and not checked[node_id]
    return good


def _check_node(prompt: dict[str, Any], node_id: str) -> list[Problem]:
    node = prompt[node_id]
    class_def = nodes.NODE_CLASS_MAPPINGS.get(node["class_type"])
    declared = class_def.INPUT_TYPES()
    errors: list[Problem] = []
    for category in ("required", "optional"):
        for name, spec in declared.get(category, {}).items():
            if name not in node["inputs"]:
                if category == "required":
                    errors.append(problem("required_input_missing", "a required input is missing",
                                          name, input_name=name))
                continue
            errors.extend(_check_input(prompt, node, name, spec))
    return errors


def _check_input(prompt: dict[str, Any], node: dict[str, Any], name: str, spec: Any
                 ) -> list[Problem]:
    value = node["inputs"][name]
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    if isinstance(value, list) and not isinstance(kind, list):
        if not is_link(value) or value[0] not in prompt:
            return [problem("bad_linked_input", "a link must be [node id, slot]", name,
                            input_name=name)]
        source = nodes.NODE_CLASS_MAPPINGS[prompt[value[0]]["class_type"]]
        given = source.RETURN_TYPES[value[1]]
        if given != kind and "*" not in (given, kind):
            return [problem("return_type_mismatch", "the linked output has another type",
                            f"{name}: {given} is not {kind}", input_name=name)]
        return []
    try:
        if kind == "INT":
            value = node["inputs"][name] = int(value)
        elif kind == "FLOAT":
            value = node["inputs"][name] = float(value)
        elif kind == "STRING":
            value = node["inputs"][name] = str(value)
    except (TypeError, ValueError) as error:
        return [problem("invalid_input_type", "the value cannot be converted",
                        f"{name}: {error}", input_name=name)]
    if "min" in options and value < options["min"]:
        return [problem("value_smaller_than_min", f"the value is below {options['min']}", name,
                        input_name=name)]
    if "max" in options and value > options["max"]:
        return [problem("value_bigger_than_max", f"the value is above {options['max']}", name,
                        input_name=name)]
    if isinstance(kind, list) and value not in kind:
        return [problem("value_not_in_list", "the value is not one of the choices", name,
                        input_name=name)]
    return []
