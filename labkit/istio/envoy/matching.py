# SPDX-License-Identifier: Apache-2.0
"""Envoy's rules for which virtual host and which route take a request, and what a matcher says of a text.

An answer has three values: True, False, and None where it depends on what is not known here. With it come words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labkit.cluster import Obj

__all__ = ["Request", "Verdict", "all_of", "any_of", "header", "negated", "route", "text", "virtual_host", "words"]

_SET_ON_THE_WAY = ("x-", "user-agent", "accept", "content-", "traceparent", "tracestate", "b3", "via", "te")
"""What headers begin with that clients and proxies set by themselves: one that was not given may be there."""


@dataclass(frozen=True)
class Request:
    """A request, as far as it is known.

    Args:
        method: "GET", …
        path: With its query, "/reviews/0?all=1".
        authority: The host it asks for, with a port where the client says one.
        headers: Further headers by their lower-case name.
        scheme: "http" or "https".
    """

    method: str = "GET"
    path: str = "/"
    authority: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    scheme: str = "http"

    @property
    def plain_path(self) -> str:
        """The path without query and fragment."""
        return self.path.partition("?")[0].partition("#")[0]

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters, the first of each name, as they are written."""
        found: dict[str, str] = {}
        for part in self.path.partition("#")[0].partition("?")[2].split("&"):
            name, _, value = part.partition("=")
            if name:
                found.setdefault(name, value)
        return found

    def get(self, name: str) -> str | None:
        """A header's value, also of `:path` and its like; None where it has none."""
        own = {":method": self.method, ":path": self.path, ":scheme": self.scheme}
        own |= {":authority": self.authority, "host": self.authority}
        return own.get(name.lower(), self.headers.get(name.lower()))

    def may_have(self, name: str) -> bool:
        """Whether a header that was not given may be there all the same."""
        return name.lower() not in self.headers and name.lower().startswith(_SET_ON_THE_WAY)


@dataclass(frozen=True)
class Verdict:
    """Whether something holds; `why` in words, for what does not, and for what cannot be said.

    Args:
        holds: True, False, or None: it depends.
        why: The reason, or what it depends on.
    """

    holds: bool | None
    why: str = ""


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Whether all hold: one that does not decides, whatever the others depend on."""
    every = list(verdicts)
    for wanted in (False, None):
        if found := next((one for one in every if one.holds is wanted), None):
            return found
    return Verdict(True, ", ".join(one.why for one in every if one.why))


def any_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Whether one holds at least."""
    every = list(verdicts)
    for wanted in (True, None):
        if found := next((one for one in every if one.holds is wanted), None):
            return found
    return Verdict(False, "; ".join(dict.fromkeys(one.why for one in every if one.why)))


def negated(verdict: Verdict) -> Verdict:
    """The contrary."""
    return (
        verdict if verdict.holds is None else Verdict(not verdict.holds, f"not: {verdict.why}" if verdict.why else "")
    )


def _pattern(expression: str, value: str, flags: int = 0) -> bool | None:
    """Whether a whole text fits a pattern in RE2's syntax; None where Python reads it otherwise or not at all."""
    try:
        return re.fullmatch(expression, value, flags | re.ASCII) is not None
    except (re.error, RecursionError):
        return None


def text(matcher: Mapping[str, Any], value: str) -> bool | None:
    """Whether a StringMatcher takes a text."""
    folded: Callable[[str], str] = str.lower if matcher.get("ignore_case") else str
    given = folded(value)
    if "exact" in matcher:
        return given == folded(matcher["exact"])
    if "prefix" in matcher:
        return given.startswith(folded(matcher["prefix"]))
    if "suffix" in matcher:
        return given.endswith(folded(matcher["suffix"]))
    if "contains" in matcher:
        return folded(matcher["contains"]) in given
    if "safe_regex" in matcher:
        return _pattern(matcher["safe_regex"].get("regex", ""), value)
    return _pattern(matcher["regex"], value) if "regex" in matcher else None


def text_words(matcher: Mapping[str, Any]) -> str:
    """A StringMatcher in words."""
    for key, said in (("exact", "is"), ("prefix", "begins with"), ("suffix", "ends with"), ("contains", "has in it")):
        if key in matcher:
            return f"{said} {matcher[key]!r}" + (" in any case" if matcher.get("ignore_case") else "")
    regex = (matcher.get("safe_regex") or {}).get("regex", matcher.get("regex"))
    return f"fits the pattern {regex}" if regex is not None else "is what an extension of Envoy says"


def _string_matcher(matcher: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a HeaderMatcher asks of the text; None where it asks only whether it is there."""
    if "string_match" in matcher:
        found: Mapping[str, Any] = matcher["string_match"]
        return found
    for old in ("exact", "prefix", "suffix", "contains", "safe_regex", "regex"):
        if f"{old}_match" in matcher:
            return {old: matcher[f"{old}_match"]}
    return None


def header_words(matcher: Mapping[str, Any]) -> str:
    """A HeaderMatcher in words."""
    wanted, name = _string_matcher(matcher), matcher.get("name", "")
    if "range_match" in matcher:
        said = f"is from {matcher['range_match'].get('start', 0)} to below {matcher['range_match'].get('end', 0)}"
    elif wanted is not None:
        said = text_words(wanted)
    else:
        said = "is there" if matcher.get("present_match", True) else "is not there"
    return f"header {name}: not that it {said}" if matcher.get("invert_match") else f"header {name} {said}"


def header(matcher: Mapping[str, Any], request: Request) -> Verdict:
    """Whether a HeaderMatcher takes a request; one that is inverted asks for the header all the same."""
    name, said = str(matcher.get("name", "")), header_words(matcher)
    value, inverted = request.get(name), bool(matcher.get("invert_match"))
    if value is None and request.may_have(name):
        return Verdict(None, f"header {name}, which was not given")
    wanted = _string_matcher(matcher)
    if wanted is None and "range_match" not in matcher:
        holds: bool | None = ((value is not None) == bool(matcher.get("present_match", True))) != inverted
        return Verdict(holds, said if holds else f"{said}: it is {'not there' if value is None else 'there'}")
    if value is None and not matcher.get("treat_missing_header_as_empty"):
        return Verdict(False, f"{said}: there is none")
    value = value or ""
    if wanted is None:
        limits = matcher["range_match"]
        number = int(value) if re.fullmatch(r"[+-]?\d+", value) else None
        holds = number is not None and int(limits.get("start", 0)) <= number < int(limits.get("end", 0))
    else:
        holds = text(wanted, value)
    if holds is None:
        return Verdict(None, f"{said}, which only Envoy can read")
    holds = holds != inverted
    return Verdict(holds, said if holds else f"{said}: it is {value!r}")


def _parameter(matcher: Mapping[str, Any], request: Request) -> Verdict:
    name = str(matcher.get("name", ""))
    value = request.query.get(name)
    wanted = matcher.get("string_match") or ({"exact": matcher["value"]} if "value" in matcher else None)
    said = f"query parameter {name} {text_words(wanted) if wanted else 'is there'}"
    if value is None:
        return Verdict(False, f"{said}: there is none")
    holds = text(wanted, value) if wanted else bool(matcher.get("present_match", True))
    return Verdict(holds, said if holds is not False else f"{said}: it is {value!r}")


def path_words(match: Mapping[str, Any]) -> str:
    """What a RouteMatch asks of the path."""
    for key, said in (("prefix", "path begins with"), ("path", "path is")):
        if key in match:
            every = key == "prefix" and match[key] == "/"
            return "any path" if every else f"{said} {match[key]}" + _case(match)
    if "path_separated_prefix" in match:
        return f"path is {match['path_separated_prefix']} or lies below it{_case(match)}"
    if "connect_matcher" in match:
        return "a CONNECT request"
    regex = (match.get("safe_regex") or {}).get("regex", match.get("regex"))
    return f"path fits the pattern {regex}" if regex is not None else "what an extension of Envoy says of the path"


def _case(match: Mapping[str, Any]) -> str:
    return ", in any case" if match.get("case_sensitive") is False else ""


def words(match: Mapping[str, Any]) -> str:
    """A RouteMatch in words."""
    parts = [path_words(match), *(header_words(one) for one in match.get("headers") or [])]
    for one in match.get("query_parameters") or []:
        wanted = one.get("string_match") or ({"exact": one["value"]} if "value" in one else None)
        parts.append(f"query parameter {one.get('name', '')} {text_words(wanted) if wanted else 'is there'}")
    return ", ".join([*parts, *_more(match)])


_MORE = {
    "runtime_fraction": "a share of the requests that chance chooses",
    "dynamic_metadata": "what a filter noted of the request, such as a claim of its token",
    "tls_context": "the client's certificate",
    "filter_state": "what a filter noted of the connection",
    "grpc": "whether it is gRPC",
    "cookies": "its cookies",
}


def _more(match: Mapping[str, Any]) -> list[str]:
    return [said for key, said in _MORE.items() if key in match]


def path(match: Mapping[str, Any], request: Request) -> Verdict:
    """Whether the path of a request is what a RouteMatch asks for; the query does not count."""
    said, given = path_words(match), request.plain_path
    folds = match.get("case_sensitive") is False
    fold: Callable[[str], str] = str.lower if folds else str
    holds: bool | None = None
    if "connect_matcher" in match:
        holds = request.method == "CONNECT"
    elif "prefix" in match:
        holds = fold(given).startswith(fold(match["prefix"]))
    elif "path" in match:
        holds = fold(given) == fold(match["path"])
    elif "path_separated_prefix" in match:
        wanted = fold(match["path_separated_prefix"])
        holds = fold(given) == wanted or fold(given).startswith(f"{wanted}/")
    elif "safe_regex" in match:
        holds = _pattern(match["safe_regex"].get("regex", ""), given)
    elif "regex" in match:
        holds = _pattern(match["regex"], given)
    if holds is None:
        return Verdict(None, f"{said}, which only Envoy can read")
    return Verdict(holds, said if holds else f"{said}: it is {given}")


def route(match: Obj, request: Request) -> Verdict:
    """Whether a RouteMatch takes a request."""
    parts = [path(match, request), *(header(one, request) for one in match.get("headers") or [])]
    parts += [_parameter(one, request) for one in match.get("query_parameters") or []]
    return all_of([*parts, *(Verdict(None, said) for said in _more(match))])


def virtual_host(hosts: Sequence[Obj], authority: str, *, ignore_port: bool = False) -> tuple[Obj | None, str]:
    """The virtual host for an authority, and which of its domains matched.

    A whole name comes first, then the longest "*.example.com", then the longest "example.*", then "*".
    """
    name = authority.lower()
    if ignore_port:
        name = re.sub(r":\d+$", "", name)
    best: tuple[tuple[int, int], Obj, str] | None = None
    for host in hosts:
        for domain in host.get("domains") or []:
            rank = _rank(str(domain).lower(), name)
            if rank is not None and (best is None or rank > best[0]):
                best = rank, host, domain
    return (best[1], best[2]) if best else (None, "")


def _rank(domain: str, name: str) -> tuple[int, int] | None:
    if domain == name:
        return 3, 0
    if domain == "*":
        return 0, 0
    # The star stands for one character at least.
    if domain.startswith("*") and name.endswith(domain[1:]) and len(name) >= len(domain):
        return 2, len(domain)
    if domain.endswith("*") and name.startswith(domain[:-1]) and len(name) >= len(domain):
        return 1, len(domain)
    return None
