# SPDX-License-Identifier: Apache-2.0
"""Functions that Kubernetes adds to CEL: strings, lists, URLs, IP addresses, durations as Go reads them."""

from __future__ import annotations

import itertools
import re
import urllib.parse
from collections.abc import Callable
from typing import Any

from celpy import celtypes
from celpy.evaluation import CELEvalError, base_functions

from labkit.ground import duration
from meshbox.api.cel.comparing import COMPARISONS
from meshbox.api.cel.libraries import LIBRARIES
from meshbox.api.cel.optional import OPTIONALS, Optional, fail, strict
from meshbox.api.refusals import quoted

__all__ = ["FUNCTIONS", "unknown_functions"]


def _and(left: Any, right: Any) -> Any:
    return left if _is_error(left) and _is_error(right) else celtypes.logical_and(left, right)


def _or(left: Any, right: Any) -> Any:
    return left if _is_error(left) and _is_error(right) else celtypes.logical_or(left, right)


def _is_error(value: Any) -> bool:
    return isinstance(value, CELEvalError)


def _text(value: Any) -> Any:
    return celtypes.StringType(value)


def _whole(value: int) -> Any:
    return celtypes.IntType(value)


def _truth(value: bool) -> Any:
    return celtypes.BoolType(value)


def _duration(value: Any) -> Any:
    if isinstance(value, celtypes.DurationType):
        return value
    try:
        nanoseconds = duration.from_go(str(value))
    except ValueError:
        return fail("type conversion error from 'string' to 'google.protobuf.Duration'")
    seconds, rest = divmod(nanoseconds, 10**9)
    return celtypes.DurationType(seconds=seconds, nanos=rest)


def _timestamp(value: Any) -> Any:
    try:
        return celtypes.TimestampType(value)
    except (ValueError, OverflowError):
        return fail("type conversion error from 'string' to 'google.protobuf.Timestamp'")


def _int(value: Any) -> Any:
    if isinstance(value, celtypes.StringType):
        text = str(value)
        if not text.lstrip("+-").isascii() or not text.lstrip("+-").isdigit() or len(text) > 19:
            return fail("type conversion error from 'string' to 'int'")
    return celtypes.IntType(value)


def _url_parts(text: str) -> urllib.parse.SplitResult | None:
    """A URL that Go's `url.ParseRequestURI` takes: absolute, or a path from the root."""
    if any(sign <= " " or sign == "\x7f" for sign in text):
        return None
    try:
        parts = urllib.parse.urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    absolute = bool(parts.scheme) and text[: len(parts.scheme)].lower() == parts.scheme
    return parts if absolute or text.startswith("/") else None


def _url(value: Any) -> Any:
    if _url_parts(str(value)) is None:
        return fail(
            f"URL parse error during conversion from string: parse {quoted(str(value))}: invalid URI for request"
        )
    return _text(value)


def _parts(value: Any) -> urllib.parse.SplitResult:
    return urllib.parse.urlsplit(str(value))


def _query(value: Any) -> Any:
    found = urllib.parse.parse_qs(_parts(value).query, keep_blank_values=True)
    return celtypes.MapType(
        {_text(key): celtypes.ListType([_text(one) for one in each]) for key, each in found.items()}
    )


def _substring(value: Any, start: Any, end: Any = None) -> Any:
    text, last = str(value), len(str(value)) if end is None else int(end)
    first = int(start)
    if first < 0 or last > len(text) or last < first:
        return fail(f"invalid substring range. start: {first}, end: {last}")
    return _text(text[first:last])


def _index_of(value: Any, wanted: Any, start: Any = 0) -> Any:
    if isinstance(value, list):
        return _whole(next((index for index, one in enumerate(value) if one == wanted), -1))
    return _whole(str(value).find(str(wanted), int(start)))


def _last_index_of(value: Any, wanted: Any) -> Any:
    if isinstance(value, list):
        return _whole(max((index for index, one in enumerate(value) if one == wanted), default=-1))
    return _whole(str(value).rfind(str(wanted)))


def _char_at(value: Any, index: Any) -> Any:
    text = str(value)
    return _text(text[int(index) : int(index) + 1]) if 0 <= index <= len(text) else fail("index out of range")


def _replace(value: Any, old: Any, new: Any, most: Any = -1) -> Any:
    return _text(str(value).replace(str(old), str(new), int(most)))


def _split(value: Any, by: Any, most: Any = -1) -> Any:
    text, limit = str(value), int(most)
    if limit == 0:
        return celtypes.ListType([])
    parts = list(text) if not str(by) else text.split(str(by), limit - 1 if limit > 0 else -1)
    return celtypes.ListType([_text(one) for one in parts])


def _join(value: Any, by: Any = "") -> Any:
    return _text(str(by).join(str(one) for one in value))


def _find(value: Any, pattern: Any) -> Any:
    import re2  # type: ignore[import-untyped]

    found = re2.search(str(pattern), str(value))
    return _text(found.group(0) if found else "")


def _find_all(value: Any, pattern: Any, most: Any = -1) -> Any:
    import re2

    found = [_text(one.group(0)) for one in re2.finditer(str(pattern), str(value))]
    return celtypes.ListType(found if int(most) < 0 else found[: int(most)])


def _is_sorted(value: Any) -> Any:
    return _truth(all(one <= other for one, other in itertools.pairwise(value)))


def _sum(value: Any) -> Any:
    total: Any = celtypes.IntType(0)
    for index, one in enumerate(value):
        total = one if index == 0 else total + one
    return total


def _pick(choose: Callable[..., Any]) -> Callable[[Any], Any]:
    def run(value: Any) -> Any:
        return choose(value) if len(value) else fail(f"{choose.__name__} called on empty list")

    return run


def _strictly(name: str) -> Callable[..., Any]:
    """cel-python's operator, for which an error is no value of a wrong type, and whose text is one of CEL."""

    def run(*values: Any) -> Any:
        result = base_functions[name](*values)
        return _text(result) if type(result) is str else result

    return strict(run)


def _at(value: Any, index: Any) -> Any:
    if isinstance(value, list) and isinstance(index, int) and not 0 <= index < len(value):
        return fail(f"index out of bounds: {index}")
    if isinstance(value, dict) and index not in value:
        return fail(f"no such key: {index}")
    return value[index]


_VERB = re.compile(r"%(?:\.(?P<digits>\d+))?(?P<verb>.)", re.DOTALL)


def _shown(value: Any, *, inside: bool = False) -> str:
    """A value as `%s` prints it; texts within lists and maps have their quotes."""
    if isinstance(value, celtypes.BoolType):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(_shown(one, inside=True) for one in value)}]"
    if isinstance(value, dict):
        entries = (f"{_shown(key, inside=True)}:{_shown(one, inside=True)}" for key, one in value.items())
        return "{" + ", ".join(sorted(entries)) + "}"
    if inside and isinstance(value, str):
        return quoted(str(value))
    return f"{float(value):g}" if isinstance(value, celtypes.DoubleType) else str(value)


def _format(text: Any, values: Any) -> Any:
    given = iter(values)

    def written(match: re.Match[str]) -> str:
        verb = match["verb"]
        if verb == "%":
            return "%"
        value = next(given)
        if verb in "fe":
            return f"{float(value):.{match['digits'] or 6}{verb}}"
        if verb in "xX" and isinstance(value, str):
            code = value.encode().hex()
            return code.upper() if verb == "X" else code
        return _shown(value) if verb in "sd" else f"{int(value):{verb}}"

    try:
        return _text(_VERB.sub(written, str(text)))
    except StopIteration:
        return fail("index out of range")
    except ValueError as error:
        return fail(f"could not parse formatting clause: {error}")


def _flat(value: Any, depth: Any = 1) -> Any:
    found = itertools.chain.from_iterable(
        (_flat(one, depth - 1) if depth > 1 else one) if isinstance(one, list) else [one] for one in value
    )
    return celtypes.ListType(found)


def _distinct(value: Any) -> Any:
    kept: list[Any] = []
    for one in value:
        if not COMPARISONS["_in_"](one, celtypes.ListType(kept)):
            kept.append(one)
    return celtypes.ListType(kept)


def _slice(value: Any, start: Any, end: Any) -> Any:
    if not 0 <= start <= end <= len(value):
        return fail(f"cannot slice({start}, {end}), list is length {len(value)}")
    return celtypes.ListType(value[int(start) : int(end)])


def _reverse(value: Any) -> Any:
    return _text(str(value)[::-1]) if isinstance(value, str) else celtypes.ListType(reversed(value))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **COMPARISONS,
    **LIBRARIES,
    **OPTIONALS,
    **{name: _strictly(name) for name in ("_+_", "_-_", "_*_", "_/_", "_%_", "!_", "-_")},
    "_[_]": strict(_at),
    # cel-python's own raise where both sides are errors.
    "_&&_": _and,
    "_||_": _or,
    "charAt": _char_at,
    "distinct": strict(_distinct),
    "duration": _duration,
    "find": _find,
    "findAll": _find_all,
    "first": strict(lambda value: Optional(tuple(value[:1]))),
    "flatten": strict(_flat),
    "format": strict(_format),
    "getEscapedPath": lambda value: _text(_parts(value).path),
    "getHost": lambda value: _text(_parts(value).netloc.rpartition("@")[2]),
    "getHostname": lambda value: _text(_parts(value).hostname or ""),
    "getPort": lambda value: _text(str(_parts(value).port or "")),
    "getQuery": _query,
    "getScheme": lambda value: _text(_parts(value).scheme),
    "indexOf": _index_of,
    "int": _int,
    "isSorted": _is_sorted,
    "isURL": lambda value: _truth(_url_parts(str(value)) is not None),
    "join": _join,
    "last": strict(lambda value: Optional(tuple(value[-1:]))),
    "lastIndexOf": _last_index_of,
    "lists.range": strict(lambda count: celtypes.ListType(map(_whole, range(count)))),
    "lowerAscii": lambda value: _text(str(value).lower()),
    "max": _pick(max),
    "min": _pick(min),
    "replace": _replace,
    "reverse": strict(_reverse),
    "slice": strict(_slice),
    "sort": strict(lambda value: celtypes.ListType(sorted(value))),
    "split": _split,
    "strings.quote": strict(lambda value: _text(quoted(str(value)))),
    "substring": _substring,
    "sum": _sum,
    "timestamp": strict(_timestamp),
    "trim": lambda value: _text(str(value).strip()),
    "upperAscii": lambda value: _text(str(value).upper()),
    "url": _url,
}
"""Name → function; a method's object is its first argument."""

_MACROS = {"all", "dyn", "exists", "exists_one", "filter", "has", "map", "reduce", "min"}


def unknown_functions(tree: Any) -> list[str]:
    """Functions in a compiled rule that nobody defines."""
    called = {
        str(one.children[position])
        for kind, position in (("ident_arg", 0), ("dot_ident_arg", 0), ("member_dot_arg", 1))
        for one in tree.find_data(kind)
    }
    return sorted(called - FUNCTIONS.keys() - base_functions.keys() - _MACROS)
