# SPDX-License-Identifier: Apache-2.0
"""BookInfo's services behave as the sample's own do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from labkit.ground.web import App, Request, Response
from meshbox.images.bookinfo import details, productpage, ratings, reviews
from tests.chance import likely

CLASSIC, MODERN = "istio/examples-bookinfo-x:1.12.0", "registry.istio.io/release/examples-bookinfo-x:1.20.3"
STARS = {"reviewer": "Reviewer1", "text": "A text", "rating": {"stars": 4, "color": "red"}}


def ask(app: App, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return app(Request(method, path, named, body, "127.0.0.1", list(named.items())))


def text(response: Response) -> str:
    assert isinstance(response.body, bytes | str)
    return response.body if isinstance(response.body, str) else response.body.decode()


def content(response: Response) -> Any:
    return json.loads(text(response))


class Others:
    """The other services, as the one under test calls them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, str], float]] = []
        self.answers: dict[str, Any] = {
            "details": (200, {"author": "W. S.", "year": 1595, "pages": 200, "type": "paperback"}),
            "reviews": (200, {"id": "0", "podname": "reviews-v3-abc", "clustername": "null", "reviews": [STARS]}),
            "ratings": (200, {"id": 0, "ratings": {"Reviewer1": 5, "Reviewer2": 4}}),
        }

    def call(self, service: str, path: str, headers: dict[str, str], timeout: float) -> tuple[int, bytes]:
        self.calls.append((service, path, headers, timeout))
        answer = self.answers[service]
        if isinstance(answer, OSError):
            raise answer
        return answer[0], json.dumps(answer[1]).encode()

    def to(self, service: str) -> list[tuple[str, str, dict[str, str], float]]:
        return [call for call in self.calls if call[0] == service]


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Others:
    made = Others()
    monkeypatch.setattr(productpage, "call", made.call)
    monkeypatch.setattr(reviews, "call", made.call)
    return made


@pytest.fixture(params=[CLASSIC, MODERN], ids=["classic", "modern"])
def image(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LABKIT_IMAGE", request.param)
    return str(request.param)


def test_the_page_passes_the_checks_of_its_generation(others: Others, image: str) -> None:
    response = ask(productpage.answer, "/productpage")
    page = text(response)
    assert response.status == 200
    assert re.search("<title>.*</title>", page).group() == "<title>Simple Bookstore App</title>"  # type: ignore[union-attr]
    assert "W. S." in page
    assert "A text" in page
    if image == CLASSIC:
        assert page.count('"glyphicon glyphicon-star"') == 4
        assert page.count('"glyphicon glyphicon-star-empty"') == 1
        assert '<font color="red">' in page
        assert "<svg" not in page
    else:
        assert len(re.findall(r'<svg class="text-red-500" id="glyphicon glyphicon-star"', page)) == 4
        assert "<font" not in page
        assert "Reviews served by: <u>reviews-v3-abc</u>" in page


def test_a_page_without_ratings_has_no_stars(others: Others, image: str) -> None:
    others.answers["reviews"] = (200, {"reviews": [{"reviewer": "Reviewer1", "text": "A text"}]})
    page = text(ask(productpage.answer, "/productpage"))
    assert "A text" in page
    assert "glyphicon-star" not in page


def test_a_page_needs_nothing_from_the_internet(others: Others, image: str) -> None:
    for path in ("/productpage", "/"):
        page = text(ask(productpage.answer, path))
        links = re.findall(r'(?:href|src)="([^"]+)"', page)
        assert all(not link.startswith(("http", "//")) for link in links)
        for link in {link for link in links if link.startswith("static/")}:
            response = ask(productpage.answer, f"/{link}")
            assert response.status == 200
            assert response.content_type.startswith(("text/css", "image/svg"))


@pytest.mark.parametrize("failure", [OSError("refused"), TimeoutError("timed out"), (503, {}), (404, {})])
def test_a_service_that_fails_shows_as_an_error_on_the_page(others: Others, image: str, failure: Any) -> None:
    others.answers["details"] = others.answers["reviews"] = failure
    response = ask(productpage.answer, "/productpage")
    page = text(response)
    assert response.status == 200
    assert "Error fetching product details!" in page
    # What the play is about productpage knows by itself.
    assert "William Shakespeare" in page
    assert "Sorry, product details are currently unavailable for this book." in page
    assert "Error fetching product reviews!" in page
    assert "Sorry, product reviews are currently unavailable for this book." in page
    assert ("text-red-500" in page) == (image == MODERN)


def test_reviews_are_asked_twice_with_three_seconds_each_time(others: Others) -> None:
    others.answers["reviews"] = TimeoutError("timed out")
    ask(productpage.answer, "/productpage")
    assert [call[3] for call in others.to("reviews")] == [3.0, 3.0]
    assert [call[1:4:2] for call in others.to("details")] == [("/details/0", 3.0)]


def test_an_error_of_ratings_is_shown_with_the_review(others: Others, image: str) -> None:
    error = "Ratings service is currently unavailable"
    others.answers["reviews"] = (200, {"reviews": [{**STARS, "rating": {"error": error}}]})
    page = text(ask(productpage.answer, "/productpage"))
    assert error in page
    assert "A text" in page
    assert "glyphicon-star" not in page


@pytest.mark.parametrize("answer", [(200, []), (200, {"reviews": ["x", {"rating": {"stars": "many"}}]}), (200, None)])
def test_answers_of_any_shape_make_a_page(others: Others, answer: Any) -> None:
    others.answers["reviews"] = others.answers["details"] = answer
    assert ask(productpage.answer, "/productpage").status == 200


def sign_in(user: str, **headers: str) -> tuple[Response, str]:
    response = ask(productpage.answer, "/login", "POST", f"username={user}&passwd=x".encode(), **headers)
    cookie = next(value for name, value in response.headers if name == "Set-Cookie")
    return response, cookie.partition(";")[0]


def test_signing_in_sends_end_user_to_details_and_reviews(others: Others, image: str) -> None:
    response, cookie = sign_in("jason")
    assert (response.status, dict(response.headers)["Location"]) == (302, "/productpage")
    page = text(ask(productpage.answer, "/productpage", cookie=cookie))
    assert "jason" in page
    assert "Sign out" in page
    assert others.to("details")[0][2]["end-user"] == others.to("reviews")[0][2]["end-user"] == "jason"
    out = ask(productpage.answer, "/logout", cookie=cookie)
    assert out.status == 302
    assert any("Max-Age=0" in value for name, value in out.headers if name == "Set-Cookie")


def test_nobody_is_signed_in_by_a_cookie_of_their_own_making(others: Others) -> None:
    _, cookie = sign_in("jason")
    for forged in (cookie[:-1] + "x", "session=amFzb24", "session=", "session=%%%.x", "session=jason"):
        page = text(ask(productpage.answer, "/productpage", cookie=forged))
        assert "jason" not in page
        assert "end-user" not in others.calls[-1][2]


def test_what_others_say_cannot_become_markup(others: Others, image: str) -> None:
    evil = "<script>alert(1)</script>"
    others.answers["reviews"] = (
        200,
        {"podname": evil, "reviews": [{"reviewer": evil, "text": evil, "rating": {"error": evil}}]},
    )
    others.answers["details"] = (200, {"author": evil, "type": evil})
    _, cookie = sign_in("%3Cscript%3Ealert(1)%3C/script%3E")
    page = text(ask(productpage.answer, "/productpage", cookie=cookie))
    assert "<script" not in page


def test_after_signing_in_one_is_back_on_this_site_only() -> None:
    own, _ = sign_in("jason", host="shop", referer="http://shop/productpage?u=test")
    other, _ = sign_in("jason", host="shop", referer="http://evil/productpage")
    near, _ = sign_in("jason", host="shop", referer="http://shop.evil/productpage")
    locations = [dict(response.headers)["Location"] for response in (own, other, near)]
    assert locations == ["http://shop/productpage?u=test", "/productpage", "/productpage"]


TRACE = {"x_request_id": "r", "x_b3_traceid": "t", "x_b3_spanid": "s", "x_b3_sampled": "1"}


def test_trace_headers_travel_on(others: Others, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"user_agent": "curl", "traceparent": "00-1", "cookie": "a=b", "authorization": "Bearer x", "accept": "*/*"}
    ask(productpage.answer, "/productpage", **TRACE, **more)
    sent = others.to("reviews")[0][2]
    assert {"x-request-id": "r", "x-b3-traceid": "t", "x-b3-spanid": "s", "x-b3-sampled": "1"}.items() <= sent.items()
    assert sent["user-agent"] == "curl"
    assert ("traceparent" in sent, "authorization" in sent) == ((True, True) if image == MODERN else (False, False))
    assert "accept" not in sent
    monkeypatch.setenv("ENABLE_RATINGS", "true")
    ask(reviews.answer, "/reviews/0", **TRACE, end_user="jason")
    assert others.to("ratings")[0][2] == {
        "x-request-id": "r",
        "x-b3-traceid": "t",
        "x-b3-spanid": "s",
        "x-b3-sampled": "1",
        "end-user": "jason",
    }


def test_the_api_of_productpage(others: Others) -> None:
    assert [item["title"] for item in content(ask(productpage.answer, "/api/v1/products"))] == ["The Comedy of Errors"]
    assert content(ask(productpage.answer, "/api/v1/products/0"))["author"] == "W. S."
    assert content(ask(productpage.answer, "/api/v1/products/0/reviews"))["reviews"] == [STARS]
    assert content(ask(productpage.answer, "/api/v1/products/0/ratings"))["ratings"]["Reviewer1"] == 5
    others.answers["ratings"] = (503, {})
    failed = ask(productpage.answer, "/api/v1/products/0/ratings")
    expected = "Sorry, product ratings are currently unavailable for this book."
    assert (failed.status, content(failed)) == (503, {"error": expected})
    for path in ("/api/v1/products/0/x", "/api/v1/products/0/reviews/1"):
        assert ask(productpage.answer, path).status == 404


def test_the_services_say_which_products_there_are(others: Others) -> None:
    # The rate limits of Istio's task are about products 1 to 99.
    assert content(ask(productpage.answer, "/api/v1/products/7"))["author"] == "W. S."
    others.answers["details"] = (400, {"error": "please provide numeric product id"})
    refused = ask(productpage.answer, "/api/v1/products/x%20y")
    expected = "Sorry, product details are currently unavailable for this book."
    assert (refused.status, content(refused)) == (400, {"error": expected})
    assert [path for _, path, _, _ in others.to("details")] == ["/details/7", "/details/x%20y"]
    assert content(ask(details.answer, "/details/7"))["id"] == 7
    for service in (details, reviews):
        assert ask(service.answer, f"/{service.__name__.rpartition('.')[2]}/²").status == 400


def test_health_front_page_and_unknown_pages(image: str) -> None:
    assert text(ask(productpage.answer, "/health")) == "Product page is healthy"
    assert ask(productpage.answer, "/").status == 200
    assert ask(productpage.answer, "/nope").status == 404
    assert ask(productpage.answer, "/static/../page.py").status == 404
    metrics = ask(productpage.answer, "/metrics")
    assert metrics.status == (200 if image == MODERN else 404)


def test_results_are_counted_for_prometheus(others: Others, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_IMAGE", MODERN)
    monkeypatch.setattr(productpage._results, "_values", {})
    others.answers["details"] = (503, {})
    ask(productpage.answer, "/productpage")
    lines = text(ask(productpage.answer, "/metrics")).splitlines()
    assert 'request_result_total{destination_app="details",response_code="503"} 1' in lines
    assert 'request_result_total{destination_app="reviews",response_code="200"} 1' in lines


def test_details_of_the_book() -> None:
    assert content(ask(details.answer, "/details/0")) == {
        "id": 0,
        "author": "William Shakespeare",
        "year": 1595,
        "type": "paperback",
        "pages": 200,
        "publisher": "PublisherA",
        "language": "English",
        "ISBN-10": "1234567890",
        "ISBN-13": "123-1234567890",
    }
    assert ask(details.answer, "/details/abc").status == 400
    assert content(ask(details.answer, "/health")) == {"status": "Details is healthy"}
    assert ask(details.answer, "/other").status == 404


@pytest.mark.parametrize(
    ("enabled", "color", "patience", "rating"),
    [
        ("false", "", None, None),
        ("true", "black", 10.0, {"stars": 5, "color": "black"}),
        ("true", "red", 2.5, {"stars": 5, "color": "red"}),
    ],
)
def test_versions_of_reviews(
    others: Others, monkeypatch: pytest.MonkeyPatch, enabled: str, color: str, patience: float | None, rating: Any
) -> None:
    monkeypatch.setenv("ENABLE_RATINGS", enabled)
    monkeypatch.setenv("STAR_COLOR", color)
    shown = content(ask(reviews.answer, "/reviews/0"))
    assert [review["reviewer"] for review in shown["reviews"]] == ["Reviewer1", "Reviewer2"]
    assert shown["reviews"][0].get("rating") == rating
    assert [call[3] for call in others.to("ratings")] == ([patience] if patience else [])


@pytest.mark.parametrize(
    "failure", [OSError("refused"), TimeoutError(), (503, {}), (200, {}), (200, []), (200, {"ratings": 1})]
)
def test_reviews_without_ratings_say_so(others: Others, monkeypatch: pytest.MonkeyPatch, failure: Any) -> None:
    monkeypatch.setenv("ENABLE_RATINGS", "true")
    others.answers["ratings"] = failure
    response = ask(reviews.answer, "/reviews/0")
    assert response.status == 200
    assert content(response)["reviews"][0]["rating"] == {"error": "Ratings service is currently unavailable"}


def test_reviews_of_today_say_where_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTNAME", "reviews-v1-x")
    monkeypatch.setenv("LABKIT_IMAGE", MODERN)
    assert content(ask(reviews.answer, "/reviews/0"))["podname"] == "reviews-v1-x"
    monkeypatch.setenv("LABKIT_IMAGE", CLASSIC)
    assert "podname" not in content(ask(reviews.answer, "/reviews/0"))


def test_ratings_are_kept_once_posted() -> None:
    service = ratings.Ratings("v1")
    assert content(ask(service.answer, "/ratings/0")) == {"id": 0, "ratings": {"Reviewer1": 5, "Reviewer2": 4}}
    posted = ask(service.answer, "/ratings/0", "POST", b'{"Reviewer1": 1}')
    assert content(posted) == {"id": 0, "ratings": {"Reviewer1": 1}}
    assert content(ask(service.answer, "/ratings/0"))["ratings"] == {"Reviewer1": 1}
    assert content(ask(service.answer, "/ratings/1"))["ratings"] == {"Reviewer1": 5, "Reviewer2": 4}
    for body in (b"nonsense", b"[1]", b""):
        assert ask(service.answer, "/ratings/0", "POST", body).status == 400
    assert ask(service.answer, "/ratings/x").status == 400
    assert ask(service.answer, "/nope").status == 404
    assert content(ask(service.answer, "/health")) == {"status": "Ratings is healthy"}


def statuses(service: ratings.Ratings, path: str = "/ratings/0", count: int = 200) -> dict[int, int]:
    found: dict[int, int] = {}
    for _ in range(count):
        status = ask(service.answer, path).status
        found[status] = found.get(status, 0) + 1
    return found


def test_faulty_variants_of_ratings(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    assert likely(statuses(ratings.Ratings("v-faulty"))[503], 200, 0.5)
    assert statuses(ratings.Ratings("v-delayed")) == {200: 200}
    assert set(slept) == {7.0}
    assert likely(len(slept), 200, 0.5)
    now = time.monotonic()
    assert statuses(ratings.Ratings("v-unavailable", now), count=3) == {200: 3}
    assert statuses(ratings.Ratings("v-unavailable", now - 61), count=3) == {503: 3}
    assert statuses(ratings.Ratings("v-unavailable", now - 121), count=3) == {200: 3}
    assert statuses(ratings.Ratings("v-unhealthy", now), "/health", 3) == {200: 3}
    assert statuses(ratings.Ratings("v-unhealthy", now - 901), "/health", 3) == {500: 3}
    assert statuses(ratings.Ratings("v2"), count=3) == {500: 3}
    assert ask(ratings.Ratings("v2").answer, "/ratings/0", "POST", b"{}").status == 501


def test_the_flooding_variant_asks_reviews_many_times(
    others: Others, monkeypatch: pytest.MonkeyPatch, until: Callable[..., Any]
) -> None:
    monkeypatch.setenv("FLOOD_FACTOR", "20")
    ask(productpage.answer, "/productpage")
    until(lambda: len(others.to("reviews")) == 21)
