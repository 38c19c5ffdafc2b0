# SPDX-License-Identifier: Apache-2.0
"""A file of limits as text: what Go's YAML makes of it, with the lines and words by which it refuses what does not fit.

What the file says is read from the text's nodes: a value that is written 0123 or 1.10 is that text, where a text is
wanted.
"""

from __future__ import annotations

from typing import Any

from labkit.ground import reading

__all__ = ["ConfigError", "Document", "read"]

_TAG = "tag:yaml.org,2002:"
_KEYS = frozenset(
    ("domain", "descriptors", "key", "value", "rate_limit", "unit", "requests_per_unit", "unlimited", "name",
     "replaces", "shadow_mode", "detailed_metric")
)  # fmt: skip
_LEAVES = frozenset(f"{_TAG}{kind}" for kind in ("str", "int", "bool", "null"))
_MOST_UINT32 = (1 << 32) - 1
_SHOWN = 10


class ConfigError(ValueError):
    """A configuration that is refused; the message is the genuine program's, with the file's name before it."""


def read(name: str, text: str) -> Document:
    """The first document of a file.

    Args:
        name: What the file is called when something is wrong with it.
        text: What it holds.

    Raises:
        ConfigError: it is no YAML, or has a key that means nothing.
    """
    import yaml

    try:
        reading.check_yaml(text)
        node = next(iter(yaml.compose_all(text, Loader=yaml.SafeLoader)), None)
    except reading.ReadingError as error:
        raise ConfigError(f"{name}: error loading config file: yaml: {error}") from None
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "it is not YAML"
        raise ConfigError(f"{name}: error loading config file: yaml: {problem}") from None
    document = Document(name, node, [])
    if document.is_map():
        _check(document)
    elif node is not None and node.tag != f"{_TAG}null":
        document.misfit("map[interface {}]interface {}")
        document.finish()
    return document


def _check(document: Document) -> None:
    """Refuse keys that mean nothing, wherever they stand."""
    import yaml

    for key, value in document.members():
        if key.tag != f"{_TAG}str" or not isinstance(key.value, str):
            said = key.value if isinstance(key.value, str) else "map[]"
            raise document.error(f"config error, key is not of type string: {said}")
        if key.value not in _KEYS:
            raise document.error(f"config error, unknown key '{key.value}'")
        if isinstance(value, yaml.MappingNode):
            _check(document.at(value))
        elif isinstance(value, yaml.SequenceNode):
            for one in value.value:
                if not isinstance(one, yaml.MappingNode):
                    said = one.value if isinstance(one.value, str) else "[]"
                    raise document.error(f"config error, yaml file contains list of type other than map: {said}")
                _check(document.at(one))
        elif value.tag not in _LEAVES:
            raise document.error("error checking config")


class Document:
    """A node of a file, or none: what is not written is empty.

    Args:
        name: The file's.
        node: The node.
        misfits: What does not fit, of the whole file, to be told at once.
    """

    def __init__(self, name: str, node: Any, misfits: list[str]) -> None:
        self.name, self._node, self._misfits = name, node, misfits

    def at(self, node: Any) -> Document:
        """Another node of the same file."""
        return Document(self.name, node, self._misfits)

    def error(self, words: str) -> ConfigError:
        """What is wrong with the file."""
        return ConfigError(f"{self.name}: {words}")

    def misfit(self, wanted: str) -> None:
        """Note that this node is no `wanted`, a type of Go."""
        node = self._node
        value = ""
        if isinstance(node.value, str):
            value = f" `{node.value[:7]}...`" if len(node.value) > _SHOWN else f" `{node.value}`"
        kind = node.tag.replace(_TAG, "!!")
        self._misfits.append(f"line {node.start_mark.line + 1}: cannot unmarshal {kind}{value} into {wanted}")

    def finish(self) -> None:
        """Once all has been read.

        Raises:
            ConfigError: something did not fit.
        """
        if self._misfits:
            said = "\n  ".join(self._misfits)
            raise self.error(f"error loading config file: yaml: unmarshal errors:\n  {said}")

    def is_map(self) -> bool:
        """Whether it holds members."""
        return getattr(self._node, "id", "") == "mapping"

    def members(self) -> list[tuple[Any, Any]]:
        """The nodes of keys and values, with those that "<<" brings."""
        import yaml

        yaml.constructor.SafeConstructor().flatten_mapping(self._node)
        return list(self._node.value)

    def member(self, key: str) -> Document:
        """What the last of the members `key` holds."""
        found = [value for one, value in self.members() if one.value == key] if self.is_map() else []
        return self.at(found[-1] if found else None)

    @property
    def given(self) -> bool:
        """Whether anything is written."""
        return self._node is not None and self._node.tag != f"{_TAG}null"

    def text(self) -> str:
        """The text, as it is written."""
        return self._scalar("string", ("str", "int", "float", "bool", "timestamp"), lambda node: str(node.value)) or ""

    def number(self) -> int:
        """The whole number of 32 bits."""
        return self._scalar("uint32", ("int",), _uint32) or 0

    def flag(self) -> bool:
        """The boolean."""
        return bool(self._scalar("bool", ("bool",), lambda node: _built("bool", node)))

    def _scalar(self, wanted: str, kinds: tuple[str, ...], read: Any) -> Any:
        if not self.given:
            return None
        found = read(self._node) if self._node.tag in {f"{_TAG}{kind}" for kind in kinds} else None
        if found is None:
            self.misfit(wanted)
        return found

    def block(self, wanted: str) -> Document:
        """This node, if it holds members; else it is a misfit, and empty."""
        if self.given and not self.is_map():
            self.misfit(wanted)
            return self.at(None)
        return self

    def items(self, wanted: str) -> list[Document]:
        """What a list holds."""
        if not self.given:
            return []
        if getattr(self._node, "id", "") != "sequence":
            self.misfit(f"[]{wanted}")
            return []
        return [self.at(one) for one in self._node.value]


def _built(kind: str, node: Any) -> Any:
    import yaml

    try:
        return getattr(yaml.constructor.SafeConstructor(), f"construct_yaml_{kind}")(node)
    except (ValueError, KeyError):
        return None


def _uint32(node: Any) -> int | None:
    found = _built("int", node)
    return found if isinstance(found, int) and 0 <= found <= _MOST_UINT32 else None
