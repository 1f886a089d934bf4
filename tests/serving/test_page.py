"""The page to try it, in a real browser: what a person does, by mouse and by keyboard, wide and at 390 px."""

import functools
import http.server
import os
import threading
from pathlib import Path

import browser
import pytest
from servers import in_thread

from recgym.commands.runs import load_served
from recgym.log import shown

PICTURES = Path(os.environ.get("RECGYM_PICTURES", Path(__file__).parent.parent.parent / "demo" / "pictures"))
SITE = Path(__file__).parent.parent.parent / "docs" / "_build" / "html"
pytestmark = pytest.mark.skipif(browser.PROGRAM is None, reason="needs Chromium: apt-get install chromium")
TITLES = "[...document.querySelectorAll('#{} button')].map((one) => one.firstChild.textContent)"
OVERFLOW = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


def test_type_like_and_see_recommendations(trained_run, tmp_path):
    settings = {"log": tmp_path / "log", "explore": 0.3, "wait_ms": 0.0}
    server = in_thread(trained_run, second=load_served(trained_run), **settings)
    with server as (address, _), browser.opened(address, tmp_path / "browser") as page:
        page.resize(1200)
        page.until(
            "document.querySelectorAll('#run button').length === 10"
        )  # before anything is liked: what is popular
        liked = []
        for title in ("Item 3, ", "Item 17", "Item 20"):
            page.value("document.getElementById('query').value = ''")
            page.click("#query")
            page.type(title)
            page.until(f"document.querySelector('#found button')?.textContent.startsWith({title.strip()!r})")
            page.click("#found button")
            liked.append(title.strip())
            page.until(f"document.querySelectorAll('#liked button').length === {len(liked)}")
            page.until(f"document.getElementById('status').textContent.includes('for {len(liked)} liked')")
        found = page.value(TITLES.format("run"))
        assert len(found) == 10 and not [one for one in found if one.startswith(tuple(liked))]
        for other in ("second", "popularity"):
            assert len(page.value(TITLES.format(other))) == 10
        more = page.value("document.querySelector('#run button small').textContent")
        assert "because of Item" in more and "score" in more and "propensity" in more
        assert page.value("document.activeElement.closest('#found') !== null")
        assert not page.value(OVERFLOW)
        page.picture(PICTURES / "page-1200.png")
        page.resize(390)
        assert not page.value(OVERFLOW)
        page.picture(PICTURES / "page-390.png")
        small = "[...document.querySelectorAll('button, input')].filter((one) => one.offsetHeight < 24).length"
        unnamed = "[...document.querySelectorAll('button')].filter((one) => !one.textContent.trim()).length"
        assert page.value(small) == page.value(unnamed) == 0
        outside = page.value("performance.getEntriesByType('resource').map((one) => one.name)")
        assert outside and all(one.startswith(address) for one in outside)
        page.value("document.querySelector('#run button').focus()")
        page.press("Enter")  # the same by keyboard: a recommendation is liked, and answered for
        page.until("document.getElementById('status').textContent.includes('for 4 liked')")
        page.until("document.activeElement.closest('#run') !== null")
        page.value("document.querySelector('#liked button').focus()")
        page.press("Enter")
        page.until("document.querySelectorAll('#liked button').length === 3")
        assert page.value("document.activeElement.closest('#liked') !== null")
    log = shown.read(tmp_path / "log")
    assert log.rewards[log.extra["position"] >= 0].sum() == 1.0


def test_the_docs_fit_too(trained_run, tmp_path):
    with in_thread(trained_run) as (address, _), browser.opened(f"{address}/docs", tmp_path / "browser") as page:
        page.until("document.querySelectorAll('section').length >= 6")
        page.resize(390)
        assert not page.value(OVERFLOW)


@pytest.mark.skipif(not SITE.exists(), reason="needs the site: make docs")
def test_the_site_fits_wide_and_narrow(tmp_path):
    """Nothing runs over the edge and no picture is broken, on the kinds of page there are; pictures are kept."""
    handler = functools.partial(QuietFiles, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("index", "generated/environments/Frame", "leaderboard", "notebooks/simulator"):
            address = f"http://127.0.0.1:{server.server_address[1]}/{name}.html"
            with browser.opened(address, tmp_path / name.replace("/", "-")) as page:
                page.until("document.readyState === 'complete' && document.querySelector('h1') !== null")
                for width in (1200, 390):
                    page.resize(width)
                    assert not page.value(OVERFLOW), (name, width)
                    assert page.value("[...document.images].filter((one) => !one.naturalWidth).length") == 0, name
                    box = page.value("document.querySelector('article').getBoundingClientRect().toJSON()")
                    assert box["left"] >= 0 and box["right"] <= width and box["width"] > 250, (name, width, box)
                    page.picture(PICTURES / f"{name.replace('/', '-')}-{width}.png")
        server.shutdown()


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *said):
        pass
