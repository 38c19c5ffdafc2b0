# SPDX-License-Identifier: Apache-2.0
"""Label selectors, as text and as objects, mean what kubectl and the API server mean by them."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.ground.labels import Requirement, matches, parse, selects, written

from .kubectl import KUBECTL


def read(text: str) -> tuple[str, list[tuple[str, str, list[str]]]]:
    """The error, or the requirements, that we read."""
    try:
        found = parse(text)
    except ValueError as error:
        return str(error), []
    return "", sorted((one.key, one.operator, sorted(one.values)) for one in found)


def kubectl(text: str) -> tuple[str, list[tuple[str, str, list[str]]]] | None:
    """The same as kubectl reads it; None where `kubectl create pdb` cannot show it."""
    command = [KUBECTL, "create", "pdb", "p", "--min-available=1", f"--selector={text}", "--dry-run=client", "-ojson"]
    env = {**os.environ, "KUBECONFIG": os.devnull}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    _, parsed, error = done.stderr.strip().partition(f'the selector string "{text}": ')
    if done.returncode:
        return (error, []) if parsed else None
    selector = json.loads(done.stdout)["spec"]["selector"]
    plain = [(key, "In", [value]) for key, value in selector.get("matchLabels", {}).items()]
    sets = [(one["key"], one["operator"], one.get("values", [])) for one in selector.get("matchExpressions", [])]
    return "", sorted([*plain, *sets])


TOKENS = st.sampled_from(["a", "b-1", "in", "notin", "=", "==", "!", ",", "(", ")", " ", "-x", "x.y/z", "9"])


@settings(max_examples=60)
@given(st.lists(TOKENS, min_size=1, max_size=7).map("".join).filter(str.strip))
def test_kubectl_reads_the_same_or_refuses_it_in_the_same_words(text: str) -> None:
    # It keeps one value of a key that is given twice.
    keys = [key for key, _, _ in read(text)[1]]
    if (theirs := kubectl(text)) is not None and len(set(keys)) == len(keys):
        assert read(text) == theirs


@pytest.mark.parametrize(
    "text",
    [
        *(
            "a=x,tier in (a,b),!old,new",
            "a in (,b)",
            "a in (b,,c)",
            "a in ()",
            "in in (in,notin)",
            "a=,b",
            " a , b ",
            "! a",
        ),
        *(
            "a notin(b)",
            "!a=b",
            "a in (b",
            "a in (",
            "a in (b,=",
            "a in b",
            "a in (b c)",
            "!",
            "!=a",
            "(a)",
            "a,,b",
            "a,",
        ),
        *("a!", "a = = b", "a in (b))", "a in (-x,b,-y)", "a=-x", "a b", "x/=1", "a>-x", "a>x"),
        *("a<-x", "a<x", "~", "a=~", "a ~ b", f"a=-{'x' * 64}"),
    ],
)
def test_the_edges_of_the_syntax(text: str) -> None:
    assert read(text) == kubectl(text)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        *(("", "abcd"), ("app", "abc"), ("!app", "d"), ("app=web", "ab"), ("app==web", "ab"), ("app!=web", "cd")),
        *(
            ("app in (web,db)", "abc"),
            ("app notin (web,db)", "d"),
            ("app=web,tier", "a"),
            ("app=", ""),
            ("tier notin ()", "abcd"),
        ),
        *(("n>5", "b"), ("n<5", "a"), ("n>4", "b"), ("n<4", ""), ("n<10", "a"), ("app>1", "")),
    ],
)
def test_what_a_selectors_text_chooses(text: str, chosen: str) -> None:
    things = {
        "a": {"app": "web", "tier": "front", "n": "4"},
        "b": {"app": "web", "n": "10"},
        "c": {"app": "db"},
        "d": {},
    }
    requirements = parse(text)
    assert "".join(name for name, has in things.items() if all(one.fits(has) for one in requirements)) == chosen


LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "x", "y"]))
EXPRESSIONS = st.lists(
    st.builds(
        lambda key, operator, values: {
            "key": key,
            "operator": operator,
            **({"values": values} if operator in ("In", "NotIn") else {}),
        },
        st.sampled_from("abc"),
        st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
        st.lists(st.sampled_from(["", "x", "y"]), min_size=1, max_size=3, unique=True),
    ),
    max_size=3,
)


@given(LABELS, EXPRESSIONS, LABELS)
def test_an_object_and_its_text_choose_the_same(
    plain: dict[str, str], expressions: list[dict[str, Any]], labels: dict[str, str]
) -> None:
    selector = {"matchLabels": plain, "matchExpressions": expressions}
    assert matches(selector, labels) == all(one.fits(labels) for one in parse(written(selector)))


@given(LABELS, LABELS)
def test_plain_labels_select_supersets(wanted: dict[str, str], labels: dict[str, str]) -> None:
    assert selects(wanted, labels) == (wanted.items() <= labels.items()) == matches({"matchLabels": wanted}, labels)


def test_nothing_selects_everything() -> None:
    assert matches(None, None)
    assert matches({}, {"a": "x"})
    assert selects(None, None)
    assert written(None) == written({}) == ""


def test_selectors_are_written_as_kubectl_reads_them() -> None:
    selector = {
        "matchLabels": {"z": "1", "app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["b", "a"]},
            {"key": "env", "operator": "NotIn", "values": ["prod"]},
            {"key": "new", "operator": "Exists"},
            {"key": "old", "operator": "DoesNotExist"},
        ],
    }
    assert written(selector) == "app=web,env notin (prod),new,!old,tier in (a,b),z=1"


def test_a_requirement_is_written_as_it_is_read() -> None:
    for text in ("n<5", "n>5", "a in (b)", "a notin (b,c)", "a", "!a"):
        (found,) = parse(text)
        assert str(found) == text
    assert Requirement.of({"operator": "Exists"}) == Requirement("", "Exists")


def test_numbers_compare_as_numbers() -> None:
    assert Requirement("n", "Gt", ["9"]).fits({"n": "10"})
    assert not Requirement("n", "Lt", ["9"]).fits({"n": "10"})
    assert not Requirement("n", "Gt", ["9"]).fits({})
    assert not Requirement("n", "Gt", ["9"]).fits({"n": "ten"})
