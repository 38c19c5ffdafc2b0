# SPDX-License-Identifier: Apache-2.0
"""The exercises of 15-gateway-tls through real Envoys: untouched, wrong answers, the solution, another right answer."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from labkit.cluster import cells
from labkit.course.exercise import Played
from labkit.course.exercises.gateway_tls import keys
from labkit.course.lesson import Lesson
from tests.conftest import REPOSITORY
from tests.course.exercising import begun, checked, lesson_in, solutions, solve, told, untouched
from tests.shops import Shop

pytestmark = [
    pytest.mark.long,
    pytest.mark.restored,
    # The lesson is about what no other release has, as the course installs it.
    pytest.mark.parametrize("shop_release", ["1.30.3"], indirect=True, scope="session"),
]

NAME = "15-gateway-tls"
EXERCISES = ["one-host", "second-host", "partners-only"]
MADE = ["make-the-authority", "make-the-secret", "secret-for-stars", "make-partners"]
"""Cells of the notebook that make what its exercises begin with."""


@pytest.fixture(scope="module")
def lesson(shared_shop: Shop) -> Iterator[Lesson]:
    notebook = json.loads((REPOSITORY / "notebooks" / f"{NAME}.ipynb").read_text(encoding="utf-8"))
    texts = {cell["id"]: "".join(cell["source"]) for cell in notebook["cells"]}
    with lesson_in(shared_shop, NAME) as lesson, pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEYS", str(keys(lesson)))
        for name in MADE:
            typed(texts[name])
        yield lesson
        lesson.rules()


def typed(*answer: str) -> None:
    """Run cells: those that begin with %%sh by bash, others are YAML to apply."""
    for cell in answer:
        first, _, rest = cell.partition("\n")
        if first == "%%sh":
            cells.sh("", rest)
        else:
            cells.yaml("", rest if first == "%%yaml" else cell)


def tried(lesson: Lesson, name: str, *answer: str) -> Played:
    played = begun(lesson, name)
    typed(*answer)
    return played


def tls_secret(name: str, host: str, namespace: str = "istio-system") -> str:
    return (
        f'%%sh\ncd "$KEYS"; ls {host}.crt 2>/dev/null || bash sign {host}\n'
        f"kubectl create secret tls {name} -n {namespace} --cert {host}.crt --key {host}.key"
    )


def from_files(name: str, **files: str) -> str:
    given = " ".join(f"--from-file={key.replace('_', '.')}={file}" for key, file in files.items())
    return f'%%sh\ncd "$KEYS"; kubectl create secret generic {name} -n istio-system {given}'


def server(host: str, **tls: str) -> str:
    settings = ", ".join(f"{key}: {value}" for key, value in ({"mode": "SIMPLE"} | tls).items())
    port = f"{{number: 443, name: https-{host.partition('.')[0]}, protocol: HTTPS}}"
    return f"{{port: {port}, hosts: [{host}], tls: {{{settings}}}}}"


def redirect(host: str) -> str:
    return f"{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [{host}], tls: {{httpsRedirect: true}}}}"


def gateway(*servers: str, name: str = "secure") -> str:
    return f"""apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: bookinfo}}
spec: {{selector: {{istio: ingressgateway}}, servers: [{", ".join(servers)}]}}
"""


def route(service: str, *gateways: str) -> str:
    return f"""apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: mine, namespace: bookinfo}}
spec:
  hosts: [{service}.test]
  gateways: [{", ".join(gateways)}]
  http: [{{route: [{{destination: {{host: {service}, port: {{number: 9080}}}}}}]}}]
"""


BOOKS = server("books.test", credentialName="books-cert")

WRONG = {
    "a Secret beside the Gateway": (
        "one-host",
        (
            tls_secret("beside", "details.test", "bookinfo"),
            gateway(server("details.test", credentialName="beside"), redirect("details.test")),
            route("details", "secure"),
        ),
        "https://details.test/details/0: reset",
        "`istio.diagnose()` looks for the Secret",
    ),
    "a route from another Gateway": (
        "one-host",
        (
            tls_secret("unrouted", "details.test"),
            gateway(server("details.test", credentialName="unrouted"), redirect("details.test")),
            route("details", "bookinfo-gateway"),
        ),
        "https://details.test/details/0: 404, with the certificate of details.test",
        "no VirtualService of that Gateway",
    ),
    "nobody is sent to https": (
        "one-host",
        (
            tls_secret("unsent", "details.test"),
            gateway(server("details.test", credentialName="unsent")),
            route("details", "secure"),
        ),
        "sends clients to https: 404",
        "`httpsRedirect`",
    ),
    "one Secret for both": (
        "second-host",
        (gateway(BOOKS, server("reviews.test", credentialName="books-cert")), route("reviews", "secure")),
        "https://reviews.test/reviews/0: wrong name, with the certificate of books.test",
        "it has another host's",
    ),
    "in place of the first": (
        "second-host",
        (
            tls_secret("instead", "reviews.test"),
            gateway(server("reviews.test", credentialName="instead")),
            route("reviews", "secure"),
        ),
        "books.test answers as before: https://books.test/productpage: reset",
        "Both servers",
    ),
    "only asked for": (
        "partners-only",
        (
            from_files("asked", tls_crt="stars.test.crt", tls_key="stars.test.key", ca_crt="partners.crt"),
            gateway(BOOKS, server("stars.test", mode="OPTIONAL_MUTUAL", credentialName="asked")),
        ),
        "without a certificate nobody gets one: https://stars.test/ratings/0: 200",
        "OPTIONAL_MUTUAL lets in who shows none",
    ),
    "the course's own authority": (
        "partners-only",
        (
            from_files("believed", tls_crt="stars.test.crt", tls_key="stars.test.key", ca_crt="ca.crt"),
            gateway(BOOKS, server("stars.test", mode="MUTUAL", credentialName="believed")),
        ),
        "https://stars.test/ratings/0: unknown ca",
        "it trusts another authority",
    ),
    "of everybody": (
        "partners-only",
        (
            from_files("stars-all", tls_crt="stars.test.crt", tls_key="stars.test.key", ca_crt="partners.crt"),
            gateway(
                server("books.test", mode="MUTUAL", credentialName="books-cert"),
                server("stars.test", mode="MUTUAL", credentialName="stars-all"),
            ),
        ),
        "https://books.test/productpage: certificate required",
        "leave that of books.test SIMPLE",
    ),
}

RIGHT = {
    "two Gateways, and a Secret of another form": (
        "one-host",
        from_files("opaque", cert="details.test.crt", key="details.test.key"),
        gateway(server("details.test", credentialName="opaque"), name="for-https"),
        gateway(redirect("details.test"), name="for-http"),
        route("details", "for-https", "for-http"),
    ),
    "a second Gateway": (
        "second-host",
        tls_secret("second", "reviews.test"),
        gateway(server("reviews.test", credentialName="second"), name="second"),
        route("reviews", "second"),
    ),
    "all in one Secret": (
        "partners-only",
        from_files("whole", tls_crt="stars.test.crt", tls_key="stars.test.key", ca_crt="partners.crt"),
        gateway(BOOKS, server("stars.test", mode="MUTUAL", credentialName="whole")),
    ),
}


@pytest.mark.parametrize("name", EXERCISES)
def test_untouched_is_not_solved(lesson: Lesson, name: str) -> None:
    untouched(begun(lesson, name))


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_answer_is_told_why(lesson: Lesson, case: str) -> None:
    name, answer, seen, step = WRONG[case]
    told(tried(lesson, name, *answer), seen, step)


@pytest.mark.parametrize("case", RIGHT)
def test_another_right_answer_is_right(lesson: Lesson, case: str) -> None:
    name, *answer = RIGHT[case]
    solve(tried(lesson, name, *answer))


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_is_right_also_after_a_half_done_attempt(lesson: Lesson, name: str) -> None:
    played = tried(lesson, name, gateway(server("half.test", credentialName="half-done")))
    typed(*solutions(NAME)[name])
    solve(played)
    checked(played)
    assert name in lesson.progress.exercises[NAME]


def test_without_the_lessons_files_the_finding_says_what_to_run(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = begun(lesson, "second-host")
    authority = keys(lesson) / "ca.crt"
    kept = authority.read_bytes()
    authority.unlink()
    try:
        told(played, "ca.crt cannot be used", "Run the cell that makes it again")
    finally:
        authority.write_bytes(kept)
