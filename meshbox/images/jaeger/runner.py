# SPDX-License-Identifier: Apache-2.0
"""How Jaeger's container is started: its configuration is read here, as a pod's Python knows no YAML."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labkit.ground import reading
from meshbox.images.context import ContainerContext, Launch

__all__ = ["base_path", "jaeger"]


def base_path(arguments: Sequence[str], environment: Mapping[str, str], root: Path) -> str:
    """Below which path Jaeger serves, "" for all: by its configuration (Jaeger 2), else `QUERY_BASE_PATH` (Jaeger 1).

    Args:
        arguments: The command's, without its name.
        environment: The container's.
        root: The folder that plays the container's "/".

    Raises:
        ReadingError: the configuration is no YAML.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config")
    file = parser.parse_known_args(list(arguments))[0].config
    said: Any = environment.get("QUERY_BASE_PATH")
    place = root / file.removeprefix("file:").lstrip("/") if file is not None else None
    if place is not None and place.is_file():
        said = reading.yaml_value(place.read_bytes())
        for key in ("extensions", "jaeger_query", "base_path"):
            said = said.get(key) if isinstance(said, dict) else None
    path = str(said or "").strip().strip("/")
    return f"/{path}" if path else ""


def jaeger(context: ContainerContext) -> Launch:
    """Jaeger in one process."""
    base = base_path(context.argv[1:], context.env, context.root)
    return Launch(entry="meshbox.images.jaeger.server:main", argv=context.argv, env={"LABKIT_BASE_PATH": base})
