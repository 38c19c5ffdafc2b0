# SPDX-License-Identifier: Apache-2.0
"""The exercises of 10-resilience in a mesh: what is wrong is told, what is right passes, also in another way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit import bookinfo
from labkit.course import Lesson
from labkit.ground.errors import ClusterError
from tests.conftest import wait_until
from tests.course.exercising import lesson_in, solution, solved, wrong
from tests.shops import Shop

# Rules are made anew, with labkit's marks.
pytestmark = [pytest.mark.long, pytest.mark.restored, pytest.mark.timeout(1200)]

ABORT = "    fault: {abort: {percentage: {value: 100}, httpStatus: 500}}\n"
OTHERS = "  - route: [{destination: {host: ratings, subset: v1}}]\n"


@pytest.fixture(scope="module")
def lesson(shared_shop: Shop) -> Iterator[Lesson]:
    with lesson_in(shared_shop, "10-resilience") as lesson:
        yield lesson


def rule(host: str, body: str, gateway: str = "") -> str:
    head = f"apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata: {{name: {gateway or host}}}\n"
    whose = "hosts: ['*']\n  gateways: [bookinfo-gateway]" if gateway else f"hosts: [{host}]"
    return f"{head}spec:\n  {whose}\n  http:\n{body}"


def fault_for(match: str, fault: str = ABORT) -> str:
    first = f"  - match: [{{headers: {{end-user: {match}}}}}]\n{fault}    route: [{{destination: {{host: ratings}}}}]\n"
    return rule("ratings", first + OTHERS)


def reviews(more: str, subset: str = "v2") -> str:
    return rule("reviews", f"  - route: [{{destination: {{host: reviews, subset: {subset}}}}}]\n{more}")


def way_in(more: str) -> str:
    route = "  - route: [{destination: {host: productpage, port: {number: 9080}}}]\n"
    return rule("productpage", route + more, gateway="bookinfo")


def test_fail_for_one(lesson: Lesson) -> None:
    name = "fail-for-one"
    wrong(lesson, name, "jason's page says that there are no ratings: on 0 of 30 pages; the first: reviews v2")
    everybody = rule("ratings", f"  - route: [{{destination: {{host: ratings}}}}]\n{ABORT}")
    wrong(lesson, name, "everybody else sees stars: 0 of 30 pages; one of the others: status 200, Ratings", everybody)
    wrong(lesson, name, "on 0 of 30 pages", fault_for("{exact: Jason}"))
    late = "    fault: {delay: {percentage: {value: 100}, fixedDelay: 2.5s}}\n"
    wrong(lesson, name, "he is told at once: the slowest page took ", fault_for("{exact: jason}", late))
    solved(lesson, name, everybody, *solution(lesson.name, name))
    solved(lesson, name, fault_for("{prefix: jas}", ABORT.replace("500", "404")))


def test_deadline(lesson: Lesson) -> None:
    name = "deadline"
    wrong(lesson, name, "none takes longer than 1.5 s: the slowest took 2.")
    wrong(lesson, name, "none takes longer than 1.5 s: the slowest took 2.", reviews("    timeout: 1s\n"))
    beside = "    fault: {delay: {percentage: {value: 100}, fixedDelay: 2s}}\n    timeout: 0.5s\n"
    slow = rule("ratings", f"  - route: [{{destination: {{host: ratings}}}}]\n{beside}")
    wrong(lesson, name, "none takes longer than 1.5 s: the slowest took 2.", slow)
    wrong(lesson, name, "has no delay any more", rule("ratings", OTHERS))
    solved(lesson, name, reviews("    timeout: 1s\n"), *solution(lesson.name, name))
    # Version 1 never asks ratings.
    solved(lesson, name, reviews("", "v1"))


def test_calm_the_storm(lesson: Lesson) -> None:
    name = "calm-the-storm"
    wrong(lesson, name, "at most 2 requests reach reviews for each that is sent: ")
    wrong(lesson, name, "30 for 5: 6.0 for each", way_in(""))
    wrong(lesson, name, "30 for 5: 6.0 for each", reviews("    timeout: 0.2s\n"))
    wrong(lesson, name, "has no delay any more", way_in(""), reviews(""), rule("ratings", OTHERS))
    solved(lesson, name, way_in(""), *solution(lesson.name, name))
    careful = "    retries: {attempts: 1, perTryTimeout: 0.4s, retryOn: connect-failure}\n"
    solved(lesson, name, way_in("    retries: {attempts: 2, retryOn: connect-failure}\n"), reviews(careful))


def test_somebody_signs_in(shared_shop: Shop, lesson: Lesson) -> None:
    lesson.rules(fault_for("{exact: mary}"), reviews(""))
    wait_until(lambda: bookinfo.page(shared_shop.url).status == 200, what="the way in, which was made anew")
    mary, jason = (bookinfo.sign_in(shared_shop.url, name) for name in ("mary", "jason"))
    unavailable = ("Ratings service is currently unavailable",)
    wait_until(lambda: bookinfo.page(shared_shop.url, headers=mary).errors == unavailable, what="mary's fault")
    # What another rule said of reviews may reach productpage's proxy later than mary's fault reaches those of reviews.
    wait_until(lambda: bookinfo.page(shared_shop.url, headers=jason).good, what="a good page for jason")
    with pytest.raises(ClusterError, match="nobody answers at http://127"):
        bookinfo.sign_in("http://127.0.0.1:1", "mary")
    lesson.rules(way_in("    match: [{uri: {exact: /productpage}}]\n"))

    def refused() -> bool:
        try:
            bookinfo.sign_in(shared_shop.url, "mary")
        except ClusterError as error:
            return "answers with status 404 and no cookie" in error.message
        return False

    wait_until(refused, what="the way to /login to be closed")
