# SPDX-License-Identifier: Apache-2.0
"""Exercises on TLS at the gateway, judged by handshakes and what is answered after them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from labkit import cluster, istio
from labkit.course.checks import Check
from labkit.course.exercise import Exercise
from labkit.course.exercises.asking import page
from labkit.observe import handshakes

if TYPE_CHECKING:
    import pandas as pd

    from labkit.course.lesson import Lesson

__all__ = ["EXERCISES", "keys"]

BOOKS = "https://books.test/productpage"
DETAILS = "https://details.test/details/0"
REVIEWS = "https://reviews.test/reviews/0"
STARS = "https://stars.test/ratings/0"


def keys(lesson: Lesson) -> Path:
    """The folder of the lesson's keys and certificates, beside what is remembered of this cluster."""
    return lesson.progress.folder / "tls"


def _server(host: str) -> str:
    name = host.partition(".")[0]
    return f"""
  - port: {{number: 443, name: https-{name}, protocol: HTTPS}}
    hosts: [{host}]
    tls: {{mode: SIMPLE, credentialName: {name}-cert}}"""


def _route(host: str, service: str) -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {host.partition(".")[0]}, namespace: bookinfo}}
spec:
  hosts: [{host}]
  gateways: [secure]
  http: [{{route: [{{destination: {{host: {service}, port: {{number: 9080}}}}}}]}}]"""


_GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: secure, namespace: bookinfo}
spec:
  selector: {istio: ingressgateway}
  servers:"""
_BOOKS = _GATEWAY + _server("books.test") + _route("books.test", "productpage")
_BOTH = _GATEWAY + "".join(map(_server, ("books.test", "stars.test")))
_BOTH += _route("books.test", "productpage") + _route("stars.test", "ratings")


class _Asked:
    """What clients see, as long as the lesson's files are there."""

    def __init__(self, lesson: Lesson) -> None:
        way = istio.ingress(show=False)
        self._keys, self._way = keys(lesson), (way.host, way.secure_port)

    def __call__(self, url: str, client: str = "") -> pd.Series:
        """One URL, asked for by somebody who shows the certificate of that name."""
        shown = self._keys / f"{client}.crt" if client else None
        return handshakes.shake([url], self._way, trust=self._keys / "ca.crt", client=shown).iloc[0]

    def check(self, claim: str, url: str, answer: str, next_step: str, client: str = "") -> Check:
        """Whether that is the answer; "none" for whoever is not let in, as long as hands are shaken with others."""
        seen = self(url, client)
        good = not seen["answer"].isdigit() if answer == "none" else seen["answer"] == answer
        words = f"{url}: {seen['answer']}" + (f", with the certificate of {seen['shown']}" if seen["shown"] else "")
        return Check(claim, good, words, next_step)


_NO_HANDSHAKE = (
    "`reset`: no server for this name, or it has no certificate; `istio.diagnose()` looks for the Secret. "
    "`wrong name`: it has another host's. 404: hands were shaken, but no VirtualService of that Gateway has the host."
)


def _one_host(lesson: Lesson) -> Iterator[Check]:
    asked = _Asked(lesson)
    yield asked.check("details.test answers over TLS, with its own certificate", DETAILS, "200", _NO_HANDSHAKE)
    plain = cluster.fetch(f"{istio.ingress(show=False).url}/details/0", headers={"Host": "details.test"})
    to = plain.headers.get("location", "")
    yield Check(
        "over plain HTTP it sends clients to https",
        plain.status in (301, 308) and to.startswith(DETAILS),
        f"{plain.status} {to}".strip(),
        "A second server, for port 80: `httpsRedirect`.",
    )
    yield from page("the page is there for everybody else as before", "The Gateway `bookinfo-gateway` is to stay.")


def _second_host(lesson: Lesson) -> Iterator[Check]:
    asked = _Asked(lesson)
    yield asked.check("reviews.test answers, with a certificate of its own", REVIEWS, "200", _NO_HANDSHAKE)
    yield asked.check(
        "books.test answers as before",
        BOOKS,
        "200",
        "Both servers are to be there, each with its `hosts` and its Secret.",
    )
    mine, theirs = asked(REVIEWS), asked(BOOKS)
    yield Check(
        "each shows its own certificate",
        bool(mine["serial"] and theirs["serial"]) and mine["serial"] != theirs["serial"],
        f"reviews.test: {mine['serial'][:12] or 'none'}; books.test: {theirs['serial'][:12] or 'none'}",
        "Sign one for reviews.test, and make a Secret of its own from it.",
    )


def _partners(lesson: Lesson) -> Iterator[Check]:
    asked = _Asked(lesson)
    yield asked.check(
        "a client whose certificate the partners' authority has signed gets an answer",
        STARS,
        "200",
        "`reset`: the gateway does not know yet whose clients to trust: is partners.crt in a Secret `…-cacert`, under "
        "`ca.crt`? `unknown ca`: it trusts another authority.",
        client="partner",
    )
    yield asked.check(
        "without a certificate nobody gets one",
        STARS,
        "none",
        "MUTUAL demands a certificate; SIMPLE never asks, and OPTIONAL_MUTUAL lets in who shows none.",
    )
    yield asked.check(
        "nor with one that the course's authority has signed",
        STARS,
        "none",
        "ca.crt says whom clients believe. Whom the gateway is to believe is partners.crt.",
        client="books.test",
    )
    yield asked.check(
        "books.test is open to everybody", BOOKS, "200", "`tls` is each server's own: leave that of books.test SIMPLE."
    )


EXERCISES = (
    Exercise(
        name="one-host",
        title="HTTPS for one host",
        task="Serve **details** at the gateway, as `details.test`. Key and certificate are in `$KEYS` already: "
        "`details.test.key`, `details.test.crt`.\n\n"
        "- `https://details.test/details/0` is answered, with that certificate;\n"
        "- who asks for the same by plain `http` is sent to it;\n"
        "- the page goes on as before for whoever names no host of yours.",
        hints=(
            "Three objects: a Secret in the namespace of the gateway's pods, a Gateway with two servers (443 with "
            "`tls`, 80 with `httpsRedirect`), a VirtualService that names that Gateway and has a route to `details`.",
            "`kubectl create secret tls details-cert -n istio-system --cert $KEYS/details.test.crt --key "
            "$KEYS/details.test.key`, then the Gateway and the VirtualService of books.test, with another name, host, "
            "`credentialName`, and destination.",
        ),
        judge=_one_host,
        releases=("1.30.3",),
    ),
    Exercise(
        name="second-host",
        title="A second host with its own certificate",
        task="Gateway `secure` serves `books.test`. Let **reviews** answer at the same port as `reviews.test`, with a "
        "certificate that you sign for it: `cd $KEYS; bash sign reviews.test`.\n\n"
        "- `https://reviews.test/reviews/0` is answered, and shows the certificate of `reviews.test`;\n"
        "- `https://books.test/productpage` is answered as before, and shows its own.",
        hints=(
            "Sign, make a Secret of the two files, and give the Gateway one more server of port 443. What has to "
            "differ between the two servers? The route is a VirtualService of its own.",
            "The second server: `port: {number: 443, name: https-reviews, protocol: HTTPS}`, `hosts: [reviews.test]`, "
            "`tls: {mode: SIMPLE, credentialName: reviews-cert}`. An apply replaces the whole list `servers`.",
        ),
        judge=_second_host,
        start=(_BOOKS,),
        releases=("1.30.3",),
    ),
    Exercise(
        name="partners-only",
        title="Only who has a certificate",
        task="`stars.test` is for partners from now on: for clients whose certificate `$KEYS/partners.crt` has signed "
        "(such as `partner.crt`). It shows the same certificate as before.\n\n"
        "- a partner is answered, whoever shows no certificate is not;\n"
        "- nor is who shows one that the course's own authority has signed, good as it is elsewhere;\n"
        "- `books.test` stays open to everybody.",
        hints=(
            "`mode: MUTUAL`, for one of the two servers. Whose clients it trusts, the gateway reads from a second "
            "Secret, which is called as the first with `-cacert` after it.",
            "`kubectl create secret generic stars-cert-cacert -n istio-system --from-file=ca.crt=$KEYS/partners.crt`.",
        ),
        judge=_partners,
        start=(_BOTH,),
        releases=("1.30.3",),
    ),
)
