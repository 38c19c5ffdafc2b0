# SPDX-License-Identifier: Apache-2.0
"""The exercises of 18-troubleshooting through real Envoys: untouched, wrong answers, the solution, another answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit.cluster import apply, cells, kubectl
from labkit.course.exercises.tickets import TICKETS, destination_rule, gateway, policy, ticket, virtual_service
from labkit.course.lesson import Lesson
from labkit.ground.errors import SettingError
from labkit.istio import follow
from tests.course.exercising import begun, checked, lesson_in, solutions, solve, told, untouched
from tests.shops import Shop

pytestmark = [pytest.mark.long, pytest.mark.restored]

NAME = "18-troubleshooting"
EXERCISES = ["no-reviews", "the-door", "one-in-three", "all-at-once"]

DIED = {
    "everybody gets 404": ("NR", "istio-ingressgateway"),
    "still 404": ("404", "istio-ingressgateway"),
    "no details": ("NC", "productpage-v1"),
    "no stars": ("FI", "reviews-"),
}
"""Where a request dies in the lesson's tickets, and what is written there."""


@pytest.fixture(scope="module")
def lesson(shared_shop: Shop) -> Iterator[Lesson]:
    with lesson_in(shared_shop, NAME) as lesson:
        yield lesson
        lesson.rules()


def to(version: str, match: str = "") -> str:
    return f"{{{match}route: [{{destination: {{host: reviews, subset: {version}}}}}]}}"


JASON = "match: [{headers: {end-user: {exact: jason}}}], "
SUBSETS = ", ".join(f"{{name: {name}, labels: {{version: {name}}}}}" for name in ("v1", "v2", "v3"))


@pytest.mark.parametrize("name", DIED)
def test_a_request_dies_where_its_ticket_says(lesson: Lesson, name: str) -> None:
    sign, workload = DIED[name]
    lesson.rules(*ticket(name, lesson.release))
    seen = follow("/productpage", until=sign)
    assert seen.died is not None
    assert seen.died.workload.startswith(workload)
    assert sign in (*seen.died.flags, str(seen.died.status))


def test_a_refusal_is_written_by_who_refuses_or_was_hung_up_on(lesson: Lesson) -> None:
    lesson.rules(*ticket("no reviews", lesson.release))
    today = lesson.release.version != "1.2.2"
    seen = follow("/productpage", until="403" if today else "UC")
    assert seen.died is not None
    assert seen.died.workload.startswith("reviews-" if today else "productpage-")
    assert seen.status == 200
    lesson.rules()
    whole = follow("/productpage", until="-")
    assert {"istio-ingressgateway", "productpage-v1", "details-v1"} <= set(whole.table()["workload"])


def test_a_ticket_that_nobody_wrote_is_told(lesson: Lesson) -> None:
    with pytest.raises(SettingError, match="no ticket 'no tea'") as caught:
        ticket("no tea", lesson.release)
    assert all(name in caught.value.next_step for name in TICKETS)


@pytest.mark.parametrize("name", EXERCISES)
def test_untouched_is_not_solved(lesson: Lesson, name: str) -> None:
    untouched(begun(lesson, name))


def test_reviews_for_all_by_taking_jasons_rule_away(lesson: Lesson) -> None:
    played = begun(lesson, "no-reviews")
    told(played, "everybody gets v2: status 503: 30", "the flag NC")
    apply(virtual_service("reviews", to("v2")), show=False)
    told(played, "jason still gets v3: v2: 30", "leave his")
    kubectl("delete virtualservice reviews -n bookinfo", show=False)
    told(played, "everybody gets v2: v1: ", "black stars")


def test_reviews_are_mended_by_the_subset_as_well(lesson: Lesson) -> None:
    subsets = f"subsets: [{SUBSETS}, {{name: black, labels: {{version: v2}}}}]"
    solve(begun(lesson, "no-reviews"), destination_rule("reviews", subsets))


def test_a_door_half_mended_and_a_door_too_wide(lesson: Lesson) -> None:
    played = begun(lesson, "the-door")
    apply(gateway(lesson.release.version, "bookshop.example"), show=False)
    told(played, "`bookshop.example` answers: 404", "read both names")
    page = "{route: [{destination: {host: productpage, port: {number: 9080}}}]}"
    wide = virtual_service("'*'", page).replace("name: '*'", "name: bookinfo")
    wide = wide.replace("hosts:", "gateways: [bookinfo-gateway], hosts:")
    apply(gateway(lesson.release.version, "*") + "---" + wide, show=False)
    told(played, "`casino.example` gets 404, as before: 200", "`*` lets in every name")
    selected = gateway(lesson.release.version, "bookshop.example", "nobody")
    apply(selected, show=False)
    told(played, "`bookshop.example` answers: no answer", "`selector`")


def test_a_door_is_mended_by_a_rule_of_another_name_too(lesson: Lesson) -> None:
    played = begun(lesson, "the-door")
    apply(gateway(lesson.release.version, "bookshop.example"), show=False)
    paths = "match: [{uri: {exact: /productpage}}, {uri: {prefix: /static}}], "
    page = f"{{{paths}route: [{{destination: {{host: productpage, port: {{number: 9080}}}}}}]}}"
    shop = virtual_service("bookshop.example", page)
    solve(played, shop.replace("hosts:", "gateways: [bookinfo-gateway], hosts:"))


def test_a_third_taken_away(lesson: Lesson) -> None:
    played = begun(lesson, "one-in-three")
    told(played, "no request fails: status 503: ", "the flag UH")
    apply(virtual_service("reviews", to("v1")), show=False)
    told(played, "all three versions answer: v1: 60", "do not take its share away")


def test_a_third_is_mended_without_subsets_too(lesson: Lesson) -> None:
    played = begun(lesson, "one-in-three")
    kubectl("delete virtualservice reviews -n bookinfo", show=False)
    solve(played)


def test_protection_taken_away(lesson: Lesson) -> None:
    played = begun(lesson, "all-at-once")
    told(played, "Sorry, product details", "One after the other")
    today = lesson.release.version != "1.2.2"
    kubectl("delete virtualservice details -n bookinfo", show=False)
    kubectl("delete destinationrule ratings -n bookinfo", show=False)
    told(played, "Sorry, product reviews", "One after the other")
    kind = "authorizationpolicies" if today else "policies.authentication.istio.io"
    kubectl(f"delete {kind} reviews -n bookinfo", show=False)
    seen, step = ("no business there: reviews: 200", "nobody else") if today else ("plain text: reviews: 200", "keep")
    told(played, seen, step)


def test_protection_is_kept_in_another_way_too(lesson: Lesson) -> None:
    played = begun(lesson, "all-at-once")
    kubectl("delete virtualservice details -n bookinfo", show=False)
    if lesson.release.version == "1.2.2":
        every = destination_rule("'*.bookinfo.svc.cluster.local'", "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}")
        kubectl("delete destinationrule ratings reviews -n bookinfo", show=False)
        solve(played, every.replace("name: '*.bookinfo.svc.cluster.local'", "name: all"))
        return
    source = '{source: {notPrincipals: ["cluster.local/ns/bookinfo/sa/bookinfo-productpage"]}}'
    deny = f"action: DENY, rules: [{{from: [{source}]}}]"
    kubectl("delete destinationrule ratings -n bookinfo", show=False)
    mine = policy("1.30.3", "reviews", "nobody")
    solve(played, mine[: mine.index(", rules:")] + f", {deny}}}\n")


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_is_right_also_after_a_half_done_attempt(lesson: Lesson, name: str) -> None:
    played = begun(lesson, name)
    apply(virtual_service("ratings", "{route: [{destination: {host: ratings}}]}"), show=False)
    for text in solutions(NAME)[name]:
        first, _, rest = text.partition("\n")
        (cells.yaml if first == "%%yaml" else cells.sh)("", rest)
    solve(played)
    checked(played)
    assert name in lesson.progress.exercises[NAME]
