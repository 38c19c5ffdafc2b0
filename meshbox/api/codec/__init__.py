# SPDX-License-Identifier: Apache-2.0
"""Protobuf bodies, which kubectl sends for the kinds it knows (`kubectl create namespace`), as JSON has them.

Read by tables of field numbers (`fields`); replies are JSON always. What a body holds is never stored without a part of
it: a number that no table knows is refused.
"""

from __future__ import annotations

from typing import Any

from labkit.ground import reading
from meshbox.api import refusals
from meshbox.api.codec.fields import Field, fields_of, is_message, message_of
from meshbox.api.codec.values import SCALARS, Raw, data_of, wire, zero
from meshbox.contracts import Obj

__all__ = ["decode"]

_MAGIC = b"k8s\x00"


def decode(body: bytes, warnings: list[str] | None = None) -> Obj:
    """The object in a protobuf body, as Go would write it as JSON, without its nulls.

    Args:
        body: What was sent.
        warnings: Filled with the numbers that no table knows and that held nothing: each client that is newer than the
            tables sends such zeros.

    Raises:
        ApiError: 400 where it is damaged or holds a field that no table knows, 415 where no table knows its kind.
    """
    if not body.startswith(_MAGIC):
        raise refusals.bad_request("the body of the request is not in Kubernetes' protobuf form")
    try:
        return _object(body[len(_MAGIC) :], [] if warnings is None else warnings)
    except reading.ReadingError as error:
        beyond = error.problem.startswith("it ")
        words = error.problem.removeprefix("it ") if beyond else "is damaged protobuf"
        raise refusals.bad_request(f"the body of the request {words}") from None
    except (ValueError, IndexError, AttributeError, TypeError, OverflowError, RecursionError):
        raise refusals.bad_request("the body of the request is damaged protobuf") from None


def _object(body: bytes, warnings: list[str]) -> Obj:
    envelope = _texts(body)
    named = _texts(envelope.get(1, b""))
    api_version, kind = named.get(1, b"").decode(), named.get(2, b"").decode()
    message = message_of(api_version, kind)
    # An encoding or a type of what is within: Go's clients say neither.
    if not message or envelope.get(3) or envelope.get(4):
        raise refusals.unsupported_media_type(("application/json", "application/yaml"))
    version = api_version.rpartition("/")[2]
    what = f'{kind} in version "{version}" cannot be handled as a {kind}'
    content = _Reader(what, warnings).message(envelope.get(2, b""), message)
    return {"apiVersion": api_version, "kind": kind, **content}


def _texts(data: bytes) -> dict[int, bytes]:
    """The fields of the envelope or of the kind's name in it: bytes all, and at most four."""
    found = {number: data_of(raw) for number, raw in wire(data)}
    if found and max(found) > 4:
        raise ValueError("not the envelope")
    return found


class _Reader:
    """Reads one body.

    Args:
        what: The beginning of a refusal.
        warnings: As for `decode`.
    """

    def __init__(self, what: str, warnings: list[str]) -> None:
        self._what = what
        self._warnings = warnings
        self._values = 0

    def message(self, data: bytes, name: str) -> Any:
        """A message as JSON has it."""
        fields = fields_of(name)
        found: dict[int, Any] = {}
        for number, raw in wire(data):
            # Two bytes are an empty object in a list.
            self._values += 1
            if self._values > reading.MOST_VALUES:
                raise reading.ReadingError(f"it holds more than {reading.MOST_VALUES} values")
            field = fields.get(number)
            if field is None:
                self._unknown(name, number, raw)
            elif field.mark.endswith("[]"):
                found.setdefault(number, []).extend(self._items(field, raw))
            elif field.mark.endswith("{}"):
                pair = dict(wire(data_of(raw)))
                value = pair.get(2, zero(field.type))
                found.setdefault(number, {})[data_of(pair.get(1, b"")).decode()] = self._value(field, value)
            elif is_message(field.type):
                # A message that comes in parts is one.
                found[number] = found.get(number, b"") + data_of(raw)
            else:
                found[number] = self._value(field, raw)
        return self._shown(fields, found)

    def _shown(self, fields: dict[int, Field], found: dict[int, Any]) -> Any:
        result: Obj = {}
        for number, value in sorted(found.items()):
            field = fields[number]
            if isinstance(value, bytes):
                value = self.message(value, field.type)
            if field.name == "":
                result.update(value)
            elif value is not None and (field.mark or value):
                result[field.name] = value
        if any(field.name == "=" for field in fields.values()):
            return result.get("=", [] if fields[1].mark.endswith("[]") else None)
        return result

    def _items(self, field: Field, raw: Raw) -> list[Any]:
        if isinstance(raw, bytes) and field.type in ("int32", "int64"):
            # Numbers may also come packed: one after the other, without tags.
            return [SCALARS[field.type](value) for _, value in wire(_tagged(raw))]
        return [self._value(field, raw)]

    def _value(self, field: Field, raw: Raw) -> Any:
        if field.type == "JSON" and (text := data_of(dict(wire(data_of(raw))).get(1, b""))).startswith(_MAGIC):
            return _object(text[len(_MAGIC) :], self._warnings)
        return self.message(data_of(raw), field.type) if is_message(field.type) else SCALARS[field.type](raw)

    def _unknown(self, message: str, number: int, raw: Raw) -> None:
        if raw:
            raise refusals.bad_request(
                f"{self._what}: message k8s.io.{message} has no field {number} that this server knows, and it would be "
                "lost: send the object as JSON or YAML"
            )
        self._warnings.append(f"unknown field {number} of k8s.io.{message}, which is 0, false or empty, was left out")


def _tagged(packed: bytes) -> bytes:
    """Packed numbers as fields of their own."""
    ends = [at + 1 for at, byte in enumerate(packed) if byte < 0x80]
    if not ends or ends[-1] != len(packed):
        raise ValueError("cut off")
    return b"".join(b"\x08" + packed[start:end] for start, end in zip([0, *ends], ends, strict=False))
