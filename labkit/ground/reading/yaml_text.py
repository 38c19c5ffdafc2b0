# SPDX-License-Identifier: Apache-2.0
"""YAML within bounds, understood as Kubernetes understands it."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Iterator
from typing import Any

from labkit.ground.reading.bounds import (
    MOST_BYTES,
    MOST_DEPTH,
    MOST_VALUES,
    ReadingError,
    content_of,
    short,
    text_of,
    too_deep,
    too_many,
)
from labkit.ground.reading.json_text import integer, number

__all__ = ["check_yaml", "yaml_documents", "yaml_value"]

_DIRECTIVE = re.compile(r"^\ufeff?%", re.MULTILINE)
_MOST_DIRECTIVES = 100
_TAG = "tag:yaml.org,2002:"
_TAGS = frozenset({"!", *(_TAG + name for name in ("str", "int", "float", "bool", "null", "seq", "map"))})
_INT = re.compile(r"[-+]?(?:0b[01_]*[01]|0o?[0-7_]*[0-7]|0x[0-9a-fA-F_]*[0-9a-fA-F]|0|[1-9][0-9_]*)")
_FINITE = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
_FLOAT = re.compile(rf"{_FINITE}|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def yaml_value(
    data: bytes | str, *, most_bytes: int = MOST_BYTES, most_depth: int = MOST_DEPTH, most_values: int = MOST_VALUES
) -> Any:
    """The value in a YAML text of one document, as JSON would show it; None for an empty one.

    Raises:
        ReadingError: it is no YAML, has several documents, or is beyond a bound.
    """
    documents = yaml_documents(data, most_bytes=most_bytes, most_depth=most_depth, most_values=most_values)
    if len(documents) > 1:
        raise ReadingError("a single document was expected, but there are several")
    return documents[0] if documents else None


def yaml_documents(
    data: bytes | str, *, most_bytes: int = MOST_BYTES, most_depth: int = MOST_DEPTH, most_values: int = MOST_VALUES
) -> list[Any]:
    """The documents in a YAML text, as JSON would show them; those that hold nothing are None.

    Args:
        data: The text, in UTF-8.
        most_bytes: Its longest length.
        most_depth: Deepest nesting, with every alias replaced by what it stands for.
        most_values: Most values in one document, likewise, and most documents.

    Raises:
        ReadingError: it is no YAML, or beyond a bound.
    """
    import yaml

    text = _surveyed(data, most_bytes, most_depth, most_values)
    with _said_plainly():
        return [_plain(document) for document in yaml.load_all(text, Loader=_loader())]


def check_yaml(
    data: bytes | str, *, most_bytes: int = MOST_BYTES, most_depth: int = MOST_DEPTH, most_values: int = MOST_VALUES
) -> None:
    """As `yaml_documents`, but builds nothing: four times as quick, and blind to values that do not fit their tags.

    Raises:
        ReadingError: it is no YAML, or beyond a bound.
    """
    _surveyed(data, most_bytes, most_depth, most_values)


@contextlib.contextmanager
def _said_plainly() -> Iterator[None]:
    import yaml

    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        where = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
        raise ReadingError(str(error.problem or error.context), *where) from None
    except yaml.YAMLError as error:
        raise ReadingError(str(getattr(error, "reason", "") or "it is not YAML")) from None


def _surveyed(data: bytes | str, most_bytes: int, most_depth: int, most_values: int) -> str:
    """The text, of which everything but the forms of single values is known to be sound."""
    import yaml

    text = text_of(content_of(data, most_bytes))
    # Each is compared with all before it, long before an event tells of it.
    if sum(1 for _ in _DIRECTIVE.finditer(text)) > _MOST_DIRECTIVES:
        raise ReadingError(f"it holds more than {_MOST_DIRECTIVES} directives")
    with _said_plainly():
        _survey(yaml.parse(text, Loader=_loader()), most_depth, most_values)
    return text


def _survey(events: Iterator[Any], most_depth: int, most_values: int) -> None:
    """Look at a stream of events, which no nesting can harm, before anything is built of it."""
    import yaml

    anchors: dict[str, tuple[int, int]] = {}
    opened: list[list[Any]] = []  # anchor, values seen before it, height of what it holds
    values = documents = 0
    for event in events:
        height = size = 0
        if isinstance(event, yaml.DocumentStartEvent):
            anchors, values, documents = {}, 0, documents + 1
            if documents > most_values:
                raise ReadingError(f"it holds more than {most_values} documents", *_place(event))
            continue
        if isinstance(event, yaml.AliasEvent):
            size, height = _of_alias(event, anchors, opened)
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            size = 1
            if event.tag is not None and event.tag not in _TAGS:
                raise ReadingError(f"the tag {short(event.tag)} is not known", *_place(event))
            if isinstance(event, yaml.CollectionStartEvent):
                opened.append([event.anchor, values, 0])
            elif event.anchor:
                anchors[event.anchor] = 1, 0
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before, inner = opened.pop()
            height = inner + 1
            if anchor:
                anchors[anchor] = values - before, height
        values += size
        if values > most_values:
            # The first in go-yaml's words.
            aliased = ReadingError("document contains excessive aliasing", *_place(event))
            raise aliased if size > 1 else too_many(most_values)
        if len(opened) + height > most_depth:
            raise too_deep(most_depth)
        if opened:
            opened[-1][2] = max(opened[-1][2], height)


def _of_alias(event: Any, anchors: dict[str, tuple[int, int]], opened: list[list[Any]]) -> tuple[int, int]:
    if any(anchor == event.anchor for anchor, _, _ in opened):
        raise ReadingError(f"anchor {short(event.anchor)!r} value contains itself", *_place(event))
    if event.anchor not in anchors:
        raise ReadingError(f"unknown anchor {short(event.anchor)!r} referenced", *_place(event))
    return anchors[event.anchor]


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


@functools.cache
def _loader() -> Any:
    """A safe loader that knows the types of JSON only, written as Go's parser takes them."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 (its form)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            if not isinstance(node, yaml.MappingNode):
                return super().construct_mapping(node, deep=deep)
            self.flatten_mapping(node)
            # To Python 1 and True are the same key.
            booleans = [(n, key, value) for n, (key, value) in enumerate(node.value) if key.tag == f"{_TAG}bool"]
            for index, key, value in booleans:
                text = json.dumps(self.construct_object(key))
                node.value[index] = yaml.ScalarNode(f"{_TAG}str", text, key.start_mark, key.end_mark), value
            return super().construct_mapping(node, deep=deep)

    dropped = {f"{_TAG}{name}" for name in ("int", "float", "timestamp", "value")}
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items():
        Loader.yaml_implicit_resolvers[first] = [(tag, form) for tag, form in known if tag not in dropped]
    for kind, form in (("int", _INT), ("float", _FLOAT)):
        whole = re.compile(rf"(?:{form.pattern})\Z")
        Loader.add_implicit_resolver(f"{_TAG}{kind}", whole, list("-+.0123456789"))

    def said(node: Any, kind: str, known: Any) -> Any:
        try:
            return known(node.value)
        except (ValueError, KeyError, OverflowError) as error:
            words = getattr(error, "problem", f"cannot decode {short(node.value)!r} as {kind}")
            raise yaml.constructor.ConstructorError(None, None, words, node.start_mark) from None

    def boolean(text: str) -> Any:
        return yaml.SafeLoader.bool_values[text.lower()]

    Loader.add_constructor(f"{_TAG}int", lambda _, node: said(node, "an integer", _yaml_int))
    Loader.add_constructor(f"{_TAG}float", lambda _, node: said(node, "a number", _yaml_float))
    Loader.add_constructor(f"{_TAG}bool", lambda _, node: said(node, "a boolean", boolean))
    return Loader


def _yaml_int(text: str) -> int | float:
    digits = text.replace("_", "")
    if not _INT.fullmatch(text):
        raise ValueError(text)
    bare = digits.lstrip("+-")
    if not bare.startswith("0") or bare == "0":
        return integer(digits)
    base = {"x": 16, "b": 2, "o": 8}.get(bare[1], 8)
    value = int(bare[2:] if bare[1] in "xbo" else bare, base)
    if value.bit_length() > 1000:
        raise ReadingError(f"the number {short(text)} is out of range")
    value = -value if digits[0] == "-" else value
    return value if -(1 << 63) <= value < 1 << 63 else float(value)


def _yaml_float(text: str) -> int | float:
    if not _FLOAT.fullmatch(text):
        return _yaml_int(text)
    if text.lower().endswith(("inf", "nan")):
        raise ReadingError(f"json: unsupported value: {text}")
    value = number(text)
    return int(value) if value.is_integer() and abs(value) < 1 << 63 else value


def _plain(value: Any) -> Any:
    """A value of YAML as JSON shows it, with nothing shared between its parts."""
    if isinstance(value, dict):
        return {_key(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


def _key(name: Any) -> str:
    if isinstance(name, str):
        return name
    if isinstance(name, tuple):
        raise ReadingError("a list cannot be the key of a map")
    return json.dumps(name)
