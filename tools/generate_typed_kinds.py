# SPDX-License-Identifier: Apache-2.0
"""Write meshbox/typed/: the objects that the sandbox reads most, as TypedDicts, so that mypy sees a misspelt field.

What every object has stands in labkit/ground/typed/, since Istio's objects (tools/generate_typed_istio.py) have it too.

The facts come from meshbox/api/data/kinds.json; run it again after `tools/generate_kind_tables.py`:

    python tools/generate_typed_kinds.py
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from meshbox.api.builtin.types import fields_of

ROOT = Path(__file__).parent.parent
SHARED = "labkit.ground.typed"
OWN = "meshbox.typed"

# What is made here has the licence that is named here.
LICENCE = "".join(line + "\n" for line in Path(__file__).read_text("utf-8").splitlines()[:1] if "SPDX" in line)

# Each module's objects; a type stands in the first module that reaches it.
MODULES = {
    "metadata": ("What every object has: names, labels, owners.", "V1ObjectMeta V1LabelSelector V1Condition"),
    "containers": ("Containers, their probes, hooks and environment.", "V1Container V1EphemeralContainer"),
    "volumes": ("Volumes and what they show.", "V1Volume"),
    "scheduling": ("Where pods may run.", "V1Affinity V1Toleration V1TopologySpreadConstraint"),
    "pod_states": ("What pods and their containers are about.", "V1PodStatus"),
    "pods": ("Pods and templates of pods.", "V1Pod V1PodTemplateSpec"),
    "workloads": ("What keeps pods.", "V1Deployment V1ReplicaSet V1StatefulSet V1DaemonSet"),
    "jobs": ("What runs pods to their end.", "V1Job V1CronJob"),
    "services": (
        "Services and what stands behind them, and what pods are configured with.",
        "V1Service V1Endpoints V1EndpointSlice V1ConfigMap V1Secret V1ServiceAccount V1Namespace",
    ),
}
SCALARS = {
    "string": "str",
    "int32": "int",
    "int64": "int",
    "bool": "bool",
    "float64": "float",
    "bytes": "str",
    "Time": "str",
    "MicroTime": "str",
    "Quantity": "str | int | float",
    "IntOrString": "int | str",
    "any": "object",
}


def class_name(model: str) -> str:
    """A type's name in Python: Kubernetes' own."""
    short = model.removeprefix("V1")
    return short if short[:1].isupper() else model


def written(go: str) -> tuple[str, str]:
    """A field's type in Python, and the type of these tables that it refers to, "" where there is none."""
    go = go.rstrip("!")
    if go.startswith("[]"):
        inner, used = written(go[2:])
        return f"list[{inner}]", used
    if go.startswith("{}"):
        inner, used = written(go[2:])
        return f"dict[str, {inner}]", used
    bare = go.partition(":")[0]
    return (SCALARS[bare], "") if bare in SCALARS else (class_name(bare), bare)


def reached(roots: list[str], known: dict[str, str]) -> list[str]:
    """The types that `roots` reach and no module before has, each after those it is made of."""
    found: list[str] = []

    def visit(model: str) -> None:
        if model in known or model in found:
            return
        for go in (fields_of(model) or {}).values():
            if used := written(go)[1]:
                visit(used)
        found.append(model)

    for root in roots:
        visit(root)
    return found


def imported(module: str, names: list[str]) -> str:
    """The line, or lines, that import `names`."""
    listed = ",\n    ".join(names)
    line = f"from {module} import {', '.join(names)}"
    return line if len(line) <= 120 else f"from {module} import (\n    {listed},\n)"


def package(module: str) -> str:
    """Where a module of `MODULES` lies."""
    return f"{SHARED if module == 'metadata' else OWN}.{module}"


def file_of(module: str) -> Path:
    """A module's file."""
    return ROOT / f"{module.replace('.', '/')}.py"


def module_text(title: str, tool: str, classes: list[str], imports: dict[str, set[str]]) -> str:
    """A module of types.

    Args:
        title: What its objects are.
        tool: Who writes it.
        classes: Their text.
        imports: Module → the names that come from there.
    """
    head = [f'{LICENCE}"""{title} Made by {tool}."""', "from __future__ import annotations"]
    lines = "\n".join(imported(one, sorted(imports[one], key=str.lower)) for one in sorted(imports))
    head.append("\n\n".join(["from typing import TypedDict", lines]).strip())
    return "\n\n".join(head) + "\n\n\n" + "\n\n\n".join(classes) + "\n"


def modules() -> dict[str, str]:
    """The text of each module, by its name."""
    known: dict[str, str] = {}
    texts: dict[str, str] = {}
    for module, (title, roots) in MODULES.items():
        own = reached(roots.split(), known)
        classes: list[str] = []
        imports: dict[str, set[str]] = {}
        for model in own:
            lines = [f"class {class_name(model)}(TypedDict, total=False):"]
            for name, go in sorted((fields_of(model) or {}).items()):
                python, used = written(go)
                lines.append(f"    {name}: {python}")
                if used in known:
                    imports.setdefault(package(known[used]), set()).add(class_name(used))
            classes.append("\n".join(lines))
        texts[package(module)] = module_text(title, "tools/generate_typed_kinds.py", classes, imports)
        known |= dict.fromkeys(own, module)
    return texts


def write(texts: Mapping[str, str]) -> None:
    """Write each module, and say how long it is."""
    for name, text in texts.items():
        file_of(name).write_text(text, encoding="utf-8")
        print(f"{name}: {text.count(chr(10))} lines")


if __name__ == "__main__":
    write(modules())
