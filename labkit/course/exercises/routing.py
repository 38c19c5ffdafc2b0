# SPDX-License-Identifier: Apache-2.0
"""Exercises on routing by request: each is judged by who answers whom, asked from inside the mesh."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from labkit import bookinfo
from labkit.course.checks import Check
from labkit.course.exercise import Exercise
from labkit.course.lesson import Lesson

__all__ = ["EXERCISES"]

_ASKED = 30
"""Requests for each claim. Of three versions taken at random, one gives all of them once in 2 · 10¹⁴."""

_IN_VAIN = """
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: reviews, namespace: bookinfo}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews, subset: v2}
  - match:
    - headers: {x-trial: {exact: "yes"}}
    route:
    - destination: {host: reviews, subset: v3-trial}
"""


def _gets(claim: str, version: str, headers: Mapping[str, str], step: str) -> Check:
    """Whether requests with these headers are answered by one version of reviews, all of them."""
    seen = bookinfo.ask(_ASKED, headers=headers)
    words = ", ".join(f"{_named(who)}: {count}" for who, count in seen.items()) + f" of {_ASKED}"
    if "404" in seen:
        step = "404 is Envoy's own answer where no rule fits: is the last rule one without `match`?"
    elif "503" in seen:
        step = "Is that subset defined? `kubectl get destinationrule reviews -n bookinfo -o yaml`"
    return Check(claim, set(seen) == {version}, words, step)


def _named(who: str) -> str:
    return f"status {who}" if who.isdigit() else who


def _jason_sees_red(lesson: Lesson) -> Iterator[Check]:
    step = "Rules are tried from top to bottom: does one above take these requests?"
    yield _gets("jason gets v3", "v3", {"end-user": "jason"}, step)
    step = "Who is nobody's special case falls to the last rule: where does it lead?"
    yield _gets("who is not signed in gets v1", "v1", {}, step)
    step = "`exact`, `prefix` and `regex` differ: which of them takes jasonina for jason?"
    yield _gets("jasonina gets v1", "v1", {"end-user": "jasonina"}, step)


_COOKIES = {
    "beta=yes": "v2",
    "lang=en; beta=yes": "v2",
    "beta=yes; lang=en": "v2",
    "beta=no; lang=en": "v1",
    "beta=yesterday": "v1",
    "alphabeta=yes": "v1",
}
"""What browsers may send, and the version it is to lead to."""


def _beta_by_cookie(lesson: Lesson) -> Iterator[Check]:
    for cookie, version in _COOKIES.items():
        step = "One header holds all cookies, separated by `; `. A `regex` has to fit the whole of it."
        if version == "v1":
            step = "Is it the name `beta` with the value `yes`, from its first letter to its last?"
        yield _gets(f"`{cookie}` gets {version}", version, {"cookie": cookie}, step)
    yield _gets("who sends no cookie gets v1", "v1", {}, "Where does the last rule lead?")


def _trial(lesson: Lesson) -> Iterator[Check]:
    step = "Rules are tried from top to bottom: which is the first that fits a request of the trial?"
    yield _gets("the trial gets v3", "v3", {"x-trial": "yes"}, step)
    yield _gets("everybody else gets v2", "v2", {}, "Which rule takes what is not of the trial?")
    yield _gets("`x-trial: no` is not of the trial", "v2", {"x-trial": "no"}, "Is the header's value asked for?")


EXERCISES = (
    Exercise(
        name="jason-sees-red",
        title="Red stars for jason",
        task=(
            "Version 3 of `reviews` is new, and only **jason** is to see it.\n"
            "- Requests with the header `end-user: jason` get **v3**.\n"
            "- All others get **v1**: those without that header, and those of `jasonina`."
        ),
        hints=(
            "One VirtualService for the host `reviews`, with two rules below `http:`. Which has to be first?",
            "The first rule has `match: [{headers: {end-user: {exact: jason}}}]` and a route to subset `v3`; the second"
            " has no `match` at all, and a route to `v1`.",
        ),
        judge=_jason_sees_red,
    ),
    Exercise(
        name="beta-by-cookie",
        title="Beta by cookie",
        task=(
            "Whoever has the cookie `beta` with the value `yes` gets **v2** of `reviews`, whatever other cookies come"
            " with it. Everybody else gets **v1**: `beta=no`, `beta=yesterday`, `alphabeta=yes`, and who sends none."
        ),
        hints=(
            "Cookies are one header, `cookie`, such as `lang=en; beta=yes; theme=dark`. `exact` compares all of it,"
            " `prefix` its beginning; `regex` has to fit it from the first letter to the last.",
            "Before `beta=yes` there is nothing, or something that ends with `; `; after it nothing, or something that"
            " begins with `;`. As a regular expression: `(.*; )?beta=yes(;.*)?`",
        ),
        judge=_beta_by_cookie,
    ),
    Exercise(
        name="trial-in-vain",
        title="A trial in vain",
        task=(
            "A colleague has left a VirtualService `reviews`: requests with the header `x-trial: yes` are to get"
            " **v3**, all others **v2**. The trial sees v2 all the same. Find out why, and mend it.\n\n"
            "`kubectl get virtualservice reviews -n bookinfo -o yaml` shows what is there. There is more than one"
            " fault."
        ),
        hints=(
            "Read the rules from top to bottom, as Envoy does. Then, once the rule for the trial is reached: which"
            " subsets does the DestinationRule `reviews` define?",
            "Put the rule with `match` first. It leads to the subset `v3-trial`, which nobody defines: use `v3`, or"
            " define it with the labels `version: v3`.",
        ),
        judge=_trial,
        start=(_IN_VAIN,),
    ),
)
