# SPDX-License-Identifier: Apache-2.0
"""Reading BookInfo's page in both its looks, and sending it a load."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pandas as pd
import pytest

from labkit import bookinfo, cluster
from labkit.ground.errors import ClusterError, SettingError

TITLE = "<html><head><title>Simple Bookstore App</title></head>"
OLD_STARS = '<font color="{}"><!-- full stars: --><span class="glyphicon glyphicon-star"></span></font>'
NEW_STARS = (
    '<div class="flex text-{}-500"><svg id="glyphicon glyphicon-star"></svg></div>Reviews served by: reviews-{}-6d8-x'
)
SORRY = "Sorry, product reviews are currently unavailable for this book."


@pytest.mark.parametrize(
    ("body", "stars", "reviews"),
    [
        ("", "none", "v1"),
        (OLD_STARS.format("black"), "black", "v2"),
        (OLD_STARS.format("red"), "red", "v3"),
        (NEW_STARS.format("black", "v2"), "black", "v2"),
        (NEW_STARS.format("red", "v3"), "red", "v3"),
        ("Reviews served by: reviews-v1-79f-qq", "none", "v1"),
    ],
)
def test_stars_tell_the_version(body: str, stars: str, reviews: str) -> None:
    page = bookinfo.parse(TITLE + body)
    assert (page.title, page.stars, page.reviews, page.errors) == ("Simple Bookstore App", stars, reviews, ())
    assert page.good


def test_a_red_apology_is_no_red_star() -> None:
    details = '<p class="text-red-500">Sorry, product details are currently unavailable for this book.</p>'
    page = bookinfo.parse(TITLE + details + NEW_STARS.format("black", "v2"))
    assert (page.stars, page.reviews) == ("black", "v2")
    assert page.errors == ("Sorry, product details are currently unavailable for this book.",)
    assert not page.good


def test_missing_reviews_have_no_version() -> None:
    page = bookinfo.parse(f"{TITLE}<h4>Error fetching product reviews!</h4><p>{SORRY}</p>")
    assert (page.stars, page.reviews, page.errors) == ("", "", (SORRY,))
    assert SORRY in str(page)


def test_missing_ratings_hide_the_version() -> None:
    page = bookinfo.parse(TITLE + "<i>Ratings service is currently unavailable</i>")
    assert (page.reviews, page.errors) == ("", ("Ratings service is currently unavailable",))


def test_an_error_page() -> None:
    page = bookinfo.parse("upstream connect error", 503)
    assert (page.status, page.title, page.reviews, page.good) == (503, "", "", False)


class Shop:
    """A product page that changes with every request."""

    def __init__(self) -> None:
        self.headers: list[str] = []
        self.fail_every = 0
        self.on_request: Callable[[int], None] = lambda number: None
        counter = itertools.count()
        shop = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                number = next(counter)
                shop.on_request(number)
                shop.headers.append(self.headers.get("end-user", ""))
                bad = self.path != "/productpage" or (shop.fail_every and number % shop.fail_every == 0)
                stars = ["", OLD_STARS.format("black"), OLD_STARS.format("red")][number % 3]
                body = b"no healthy upstream" if bad else (TITLE + stars).encode()
                self.send_response(503 if bad else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def test_page_asks_the_gateway(shop: Shop) -> None:
    assert bookinfo.page(shop.url).good
    began = time.perf_counter()
    page = bookinfo.page(f"{shop.url}/productpage", headers={"end-user": "jason"})
    took = time.perf_counter() - began
    assert (page.reviews, page.stars) == ("v2", "black")
    assert shop.headers == ["", "jason"]
    assert 0 < page.seconds <= took


def test_load_is_one_row_a_request(shop: Shop) -> None:
    began = time.perf_counter()
    seen = bookinfo.load(shop.url, 30, rate=1000, headers={"end-user": "jason"}, workers=4)
    took = time.perf_counter() - began
    assert list(seen.columns) == ["time", "status", "latency", "reviews", "error"]
    assert len(seen) == 30
    assert seen["reviews"].value_counts().to_dict() == {"v1": 10, "v2": 10, "v3": 10}
    assert seen["status"].dtype == "int64"
    assert seen["latency"].between(0, took).all()
    assert isinstance(seen["time"].dtype, pd.DatetimeTZDtype)
    assert str(seen["time"].dt.tz) == "UTC"
    assert seen["time"].is_monotonic_increasing
    assert set(shop.headers) == {"jason"}


def test_load_keeps_its_rate(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only moves where the load waits for its next request, and where the shop is slow."""
    now = [1000.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    clock = SimpleNamespace(time=lambda: now[0], perf_counter=lambda: now[0], sleep=sleep)
    monkeypatch.setattr(bookinfo, "time", clock)
    shop.on_request = lambda number: sleep(0.07 if number == 5 else 0.0)
    seen = bookinfo.load(shop.url, 21, rate=50, workers=1)
    sent = (seen["time"] - pd.Timestamp(1000, unit="s", tz="UTC")).dt.total_seconds()
    expected = [number / 50 for number in range(21)]
    # The slow answer came at 0.17 s and held up three requests; what they lost is made up for.
    expected[6:9] = [0.17, 0.17, 0.17]
    assert sent.tolist() == pytest.approx(expected)


def test_the_pace_of_a_load() -> None:
    sent = pd.DataFrame({"time": pd.to_datetime([0.0, 0.2, 0.5, 1.0], unit="s", utc=True)})
    assert bookinfo.pace(sent) == 3.0


def test_load_tells_failures_apart(shop: Shop) -> None:
    shop.fail_every = 5
    seen = bookinfo.load(shop.url, 20, rate=1000, workers=1)
    assert seen["status"].value_counts().to_dict() == {200: 16, 503: 4}
    assert set(seen.loc[seen["status"] == 503, "reviews"]) == {""}
    nobody = bookinfo.load("http://127.255.255.254:9", 3, rate=1000, timeout=1)
    assert nobody["status"].tolist() == [0, 0, 0]
    assert nobody["error"].str.contains("refused").all()


def test_bad_arguments_are_told() -> None:
    with pytest.raises(SettingError, match=r"load\(n=0, rate=50, workers=8\) is out of range"):
        bookinfo.load("http://127.0.0.1:1", 0)
    with pytest.raises(SettingError, match="is no http:// address"):
        bookinfo.page("127.0.0.1:31380")
    with pytest.raises(ClusterError, match=r"no answer from http://127\.255\.255\.254:9/productpage"):
        bookinfo.page("http://127.255.255.254:9")


def test_fetch_is_one_plain_request(shop: Shop) -> None:
    answer = cluster.fetch(f"{shop.url}/other")
    assert (answer.status, answer.text) == (503, "no healthy upstream")
    assert answer.headers["content-length"] == "19"
    cluster.wait_for(cluster.Answers(f"{shop.url}/productpage", successive=3), timeout=120)
    assert cluster.Answers(f"{shop.url}/other").look() == "status 503: no healthy upstream"
