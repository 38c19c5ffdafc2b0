# SPDX-License-Identifier: Apache-2.0
"""BookInfo's genuine rules of both releases, as they stand: which reviews answer, and for whom."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.conftest import genuine, wait_until
from tests.shops import Shop

pytestmark = pytest.mark.genuine

PATIENCE = 240
JASON = ("-H", "end-user: jason")
BY_COLOUR = {None: "v1", "black": "v2", "red": "v3"}
"""Version 1 of reviews asks for no stars; those of 2 are black, those of 3 red."""


@pytest.fixture
def rules(shop: Shop) -> Iterator[Shop]:
    """The shop, without VirtualServices of its Services afterwards."""
    yield shop
    names = ("productpage", "reviews", "ratings", "details")
    shop.sandbox.kubectl("delete", "virtualservice", *names, "-n", "bookinfo", "--ignore-not-found")


def apply(shop: Shop, sample: str) -> None:
    file = genuine(shop.sandbox.release) / "samples" / "bookinfo" / "networking" / f"{sample}.yaml"
    applied = shop.sandbox.kubectl("apply", "-n", "bookinfo", "-f", str(file))
    assert "Warning" not in applied.stderr, applied.stderr


def versions(shop: Shop, times: int, *words: str) -> set[str]:
    """The versions of reviews that answer calls of ratings' pod."""
    ask = " ".join(f"'{word}'" for word in words)
    loop = f"for i in $(seq {times}); do curl -s {ask} http://reviews:9080/reviews/0; echo; done"
    into = ("exec", "-n", "bookinfo", "deploy/ratings-v1", "-c", "ratings", "--", "sh", "-c", loop)
    answers = [json.loads(line) for line in shop.sandbox.kubectl(*into).stdout.splitlines() if line.strip()]
    return {f"reviews-{BY_COLOUR[one['reviews'][0].get('rating', {}).get('color')]}" for one in answers}


def becomes(shop: Shop, expected: set[str], *words: str) -> None:
    # Of three versions, or of two, one is never met in 60 calls with a chance of 8e-11 at most.
    wait_until(lambda: versions(shop, 60, *words) == expected, PATIENCE, f"{expected} answer")


def test_reviews_by_version_by_user_and_by_halves(rules: Shop) -> None:
    becomes(rules, {"reviews-v1", "reviews-v2", "reviews-v3"})
    apply(rules, "virtual-service-all-v1")
    becomes(rules, {"reviews-v1"})
    apply(rules, "virtual-service-reviews-test-v2")
    becomes(rules, {"reviews-v2"}, *JASON)
    assert versions(rules, 20) == {"reviews-v1"}
    apply(rules, "virtual-service-reviews-50-v3")
    becomes(rules, {"reviews-v1", "reviews-v3"})


def test_a_delay_for_one_user(rules: Shop) -> None:
    apply(rules, "virtual-service-ratings-test-delay")

    def seconds(*words: str) -> float:
        ask = (
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{time_total}",
            *words,
            "http://ratings:9080/ratings/0",
        )
        into = ("exec", "-n", "bookinfo", "deploy/productpage-v1", "-c", "productpage", "--")
        code, time = rules.sandbox.kubectl(*into, *ask).stdout.split()
        assert code == "200"
        return float(time)

    # The sample's delay is of seven seconds, and none that is delayed is quicker; on a busy machine others may be slow.
    wait_until(lambda: seconds(*JASON) >= 7, PATIENCE, "jason waits")
    wait_until(lambda: seconds() < 7, PATIENCE, "somebody else does not wait")


def test_every_sample_of_rules_is_taken_without_a_word(rules: Shop) -> None:
    files = sorted((genuine(rules.sandbox.release) / "samples" / "bookinfo" / "networking").glob("*.yaml"))
    assert len(files) >= 6
    for file in files:
        done = rules.sandbox.kubectl("apply", "-n", "bookinfo", "--dry-run=server", "-f", str(file))
        assert "Warning" not in done.stderr, (file.name, done.stderr)
        assert len(done.stdout.splitlines()) == len([one for one in yaml.safe_load_all(file.read_text()) if one])
