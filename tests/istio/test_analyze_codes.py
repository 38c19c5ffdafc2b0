# SPDX-License-Identifier: Apache-2.0
"""Every message of `istioctl analyze` that is known: what gives it, what must not; nothing ends in an error."""

from __future__ import annotations

import base64
import copy
import datetime
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from labkit.istio import release
from labkit.istio.analyze import MESSAGES, analyze
from labkit.istio.analyze.certificates import valid
from tests.istio.test_analyze import a_mesh

Obj = dict[str, Any]

CASES: dict[str, Obj] = yaml.load((Path(__file__).parent / "analyzed.yaml").read_text(), yaml.CSafeLoader)
NAMES = {
    code: row.split("\t")[2]
    for row in (Path(__file__).parents[2] / "labkit/istio/analyze/messages.tsv").read_text().splitlines()[1:]
    for code in [row.split("\t")[0]]
}

TEMPLATES = {
    code: (level, name, words)
    for row in (Path(__file__).parent / "templates.tsv").read_text().splitlines()
    for code, level, name, words in [row.split("\t")]
}


MESH = a_mesh()


def placed(objects: Obj | list[Obj]) -> list[Obj]:
    items = copy.deepcopy(objects if isinstance(objects, list) else [objects])
    for item in items:
        item["metadata"].setdefault("namespace", "bookinfo")
    return items


def test_every_message_has_a_case() -> None:
    assert {case.partition("-")[0] for case in CASES} | {"IST0161"} == set(MESSAGES)
    assert len(MESSAGES) >= 45


@pytest.mark.parametrize("case", CASES)
def test_what_gives_a_message(case: str) -> None:
    told = [str(one) for one in analyze([*MESH, *placed(CASES[case]["gives"])])]
    assert CASES[case]["said"] in told
    assert all(one.next_step for one in analyze([*MESH, *placed(CASES[case]["gives"])]))


@pytest.mark.parametrize("case", CASES)
def test_what_must_not(case: str) -> None:
    code = case.partition("-")[0]
    assert [str(one) for one in analyze([*MESH, *placed(CASES[case]["not"])]) if one.code == code] == []


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("codes", ["{}", "IST0001, {}", "*"])
def test_an_object_says_what_is_not_to_be_told(case: str, codes: str) -> None:
    code = case.partition("-")[0]
    objects = placed(CASES[case]["gives"])
    about = CASES[case]["said"].partition("(")[2].partition(")")[0]
    there = [*copy.deepcopy(MESH), *objects]
    for item in there:
        item["metadata"].setdefault("annotations", {})["galley.istio.io/analyze-suppress"] = codes.format(code)
    told = [str(one) for one in analyze(there) if one.code == code]
    # Nobody can annotate what is no object of the cluster's.
    assert told == ([CASES[case]["said"]] if about.startswith("MeshNetworks") else [])


VERBS = {"%s": ".*", "%v": ".*", "%q": r"(?:\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`)", "%d": r"-?\d+"}


def template(code: str) -> tuple[str, re.Pattern[str]]:
    """Level and words of a message as Istio's own list of messages has them, with Go's verbs."""
    words = re.split(r"(%[svqd])", TEMPLATES[code][2])
    return TEMPLATES[code][0], re.compile("".join(VERBS.get(one) or re.escape(one) for one in words), re.DOTALL)


@pytest.mark.parametrize("case", CASES)
def test_words_are_those_of_istios_templates(case: str) -> None:
    level, words = template(case.partition("-")[0])
    found = re.fullmatch(r"(\w+) \[(IST\d+)\] (?:\([^)]*\) )?(.*)", CASES[case]["said"], re.DOTALL)
    assert found is not None
    assert (found[1], found[2]) == (level, case.partition("-")[0])
    assert words.fullmatch(found[3])


def test_levels_and_names_are_those_of_istios_list() -> None:
    assert set(TEMPLATES) == set(MESSAGES)
    assert {code: (level, name) for code, (level, name, _) in TEMPLATES.items()} == {
        code: (level, NAMES[code]) for code, (level, *_) in MESSAGES.items()
    }


def test_names_are_istios() -> None:
    assert NAMES["IST0101"] == "ReferencedResourceNotFound"
    assert NAMES["IST0145"] == "ConflictingGateways"
    assert {level for level, *_ in MESSAGES.values()} == {"Error", "Warning", "Info"}


# --- certificates ------------------------------------------------------------------------------------------


def a_secret(kind: str = "rsa", *, days: tuple[int, int] = (-1, 30), other_key: bool = False, number: int = 0) -> Obj:
    def key() -> Any:
        if number:
            return ec.derive_private_key(number, ec.SECP256R1())
        return rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())

    own = key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "books.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(own.public_key())
        .serial_number(7)
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .sign(own, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = (key() if other_key else own).private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    pems = {"tls.crt": made.public_bytes(encoding), "tls.key": private}
    data = {name: base64.b64encode(pem).decode() for name, pem in pems.items()}
    return {"kind": "Secret", "metadata": {"name": "books-cert", "namespace": "istio-system"}, "data": data}


@pytest.mark.parametrize("begin", ["3001", "301e", "3082", "3020"])
def test_a_secret_number_that_begins_like_a_value_in_der_is_a_number(begin: str) -> None:
    assert valid(a_secret(number=int(begin.ljust(64, "7"), 16)))


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_a_certificate_is_valid_with_its_own_key_and_in_its_time(kind: str) -> None:
    assert valid(a_secret(kind))
    assert valid(a_secret(kind, days=(-1, 365 * 40)))
    assert not valid(a_secret(kind, other_key=True))
    assert not valid(a_secret(kind, days=(-3, -1)))
    assert not valid(a_secret(kind, days=(1, 3)))


def test_a_credential_that_a_gateway_cannot_use() -> None:
    spec = {
        "selector": {"istio": "ingressgateway"},
        "servers": [{"port": {"number": 443}, "hosts": ["books.test"], "tls": {"credentialName": "books-cert"}}],
    }
    door = {"kind": "Gateway", "metadata": {"name": "secure", "namespace": "bookinfo"}, "spec": spec}

    def told(secret: Obj) -> list[str]:
        return [str(one) for one in analyze([*MESH, door, secret]) if one.code in ("IST0161", "IST0101")]

    bad = (
        "Error [IST0161] (Gateway bookinfo/secure) The credential referenced by the Gateway secure in namespace "
        "istio-system is invalid, which can cause the traffic not to work as expected."
    )
    good = a_secret()
    assert told(good) == []
    for broken in ({}, {"tls.crt": good["data"]["tls.crt"]}, {**good["data"], "tls.crt": "no base64"}):
        assert told({**good, "data": broken}) == [bad]
    cut = base64.b64encode(base64.b64decode(good["data"]["tls.crt"]).replace(b"M", b"Q", 1)).decode()
    assert told({**good, "data": {**good["data"], "tls.crt": cut}}) == [bad]
    assert told({**good, "metadata": {"name": "books-cert", "namespace": "bookinfo"}}) == [
        'Error [IST0101] (Gateway bookinfo/secure) Referenced credentialName not found: "books-cert"'
    ]


# --- whatever the objects look like -----------------------------------------------------------------------

ALL = [one for case in CASES.values() for key in ("gives", "not") for one in placed(case[key])] + MESH
JUNK: list[Any] = [None, 0, -1, 1.5, True, "", "x", "*", "(", [], {}, [None], [[]], [{}], {"a": None}, {"": [1]},
                   datetime.date(2026, 1, 1), "a/b/c", ["*"], {"matchLabels": 3}, 10**30]  # fmt: skip


def broken(item: Any, dice: random.Random) -> Any:
    """The object with one of its values replaced, somewhere in it."""
    if not isinstance(item, dict | list) or not item or dice.random() < 0.12:
        return dice.choice(JUNK)
    key = dice.choice(list(item) if isinstance(item, dict) else list(range(len(item))))
    found = copy.copy(item)
    found[key] = broken(item[key], dice)
    return found


@given(st.randoms(use_true_random=False), st.integers(1, 6))
def test_broken_objects_are_told_and_never_an_error(dice: random.Random, times: int) -> None:
    objects: list[Any] = list(dice.sample(ALL, min(len(ALL), 60)))
    for _ in range(times):
        at = dice.randrange(len(objects))
        objects[at] = broken(objects[at], dice)
    for one in analyze(objects, secrets=[("istio-system", "wild")]):
        assert one.code in MESSAGES
        assert "{" not in one.next_step or one.code in ("IST0112", "IST0166")


FIELDS = st.sampled_from(["metadata", "spec", "name", "hosts", "http", "kind"])
JSON = st.recursive(
    st.sampled_from([None, True, 0, 1.5, "x", "networking.istio.io/v1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)
KIND = {"kind": st.sampled_from(sorted({one["kind"] for one in ALL}))}
REST = dict.fromkeys(("metadata", "spec", "status", "apiVersion", "data", "webhooks"), JSON)


@given(st.lists(st.fixed_dictionaries(KIND, optional=REST) | JSON, max_size=6))
def test_anything_at_all(objects: list[Any]) -> None:
    analyze(objects)


def test_what_nests_in_itself() -> None:
    inner: Obj = {}
    inner["spec"] = {"http": [inner], "hosts": ["a.test"]}
    inner |= {"kind": "VirtualService", "metadata": {"name": "self", "namespace": "bookinfo"}}
    assert {one.code for one in analyze([inner])} <= {"IST0106", "IST0130"}


def test_other_kinds_of_the_same_name_are_not_read() -> None:
    knative = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "a"},
        "spec": {"ports": 3},
    }
    assert analyze([knative]) == []


@pytest.mark.parametrize("version", ["1.2.2", "1.30.3"])
def test_what_a_release_installs_is_as_it_should_be(version: str) -> None:
    facts = release(version)
    objects = [
        one
        for file in (*facts.demo_files, *facts.addon_files)
        for one in yaml.safe_load_all(file.read_text())
        if one and one["kind"] != "List"
    ]
    told = analyze([*objects, *MESH])
    worse = {(one.level, one.code, one.where) for one in told if one.level != "Info"}
    # Istio's own istioctl says that these are gone.
    gone = ("clusterrbacconfigs", "rbacconfigs", "servicerolebindings", "serviceroles")
    old = {("Warning", "IST0002", f"CustomResourceDefinition {kind}.rbac.istio.io") for kind in gone}
    assert worse == (old if version == "1.2.2" else set())
