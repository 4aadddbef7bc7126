"""The built site as a reader sees it: `make docs-check` builds it and runs this.

A headless Chromium opens every page at the width of a telephone and at that of a desk. Its own
layout says what is visible, how wide, and where the links go.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict
from urllib.parse import unquote, urlparse

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.support import require

SITE = Path(__file__).resolve().parents[2] / "site"
WIDTHS = (400, 1400)
PAGES = sorted(str(path.relative_to(SITE)) for path in SITE.rglob("*.html"))

# What the layout says of a page, in one question to the browser. `beyond`: what reaches past the
# window's right edge though no box around it scrolls.
LOOK = """
const root = document.documentElement, limit = root.clientWidth + 1;
const boxed = e => { for (let p = e; p && p !== document.body; p = p.parentElement)
                         if (/auto|scroll/.test(getComputedStyle(p).overflowX)) return true;
                     return false; };
const all = q => [...document.querySelectorAll(q)];
return {
    text: document.body.innerText,
    empty: all('pre').filter(e => !e.innerText.trim()).length,
    width: root.scrollWidth,
    beyond: all('article *')
        .filter(e => e.getBoundingClientRect().right > limit && e.innerText && !boxed(e))
        .map(e => `${e.tagName}.${e.className}: ${e.innerText.slice(0, 60)}`),
    missing: [...document.images].filter(i => i.getClientRects().length && !i.naturalWidth)
        .map(i => i.src),
    ids: all('[id]').map(e => e.id),
    links: all('a[href]').map(a => a.href),
};
"""


class Page(TypedDict):
    """The answer to LOOK."""

    text: str
    empty: int
    width: int
    beyond: list[str]
    missing: list[str]
    ids: list[str]
    links: list[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = require.tool("chromium")
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium's sandbox refuses to work for root
    driver = webdriver.Chrome(
        options=options, service=Service(require.tool("chromedriver", "chromium-driver"))
    )
    yield driver
    driver.quit()


@functools.cache
def look(browser: webdriver.Chrome, page: str, width: int) -> Page:
    """Open a page of the site in a window of `width` CSS pixels."""
    metrics = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get("about:blank")  # or the same page at another width is asked while it goes away
    browser.get((SITE / page).as_uri())
    WebDriverWait(browser, 30).until(
        lambda driver: driver.execute_script("return document.readyState") == "complete"
    )
    return browser.execute_script(LOOK)


def test_the_site_is_built() -> None:
    assert {"index.html", "search.html", "registers.html", "api/fastpath.html"} <= set(PAGES)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", PAGES)
def test_page_is_legible(browser: webdriver.Chrome, page: str, width: int) -> None:
    seen = look(browser, page, width)
    assert "```" not in seen["text"], "a fence is shown as text"
    assert seen["empty"] == 0, "a code block is empty"
    assert seen["width"] <= width
    assert seen["beyond"] == []
    assert seen["missing"] == []


def test_every_link_inside_the_site_leads_somewhere(browser: webdriver.Chrome) -> None:
    seen = {page: look(browser, page, WIDTHS[-1]) for page in PAGES}
    ids = {str(SITE / page): set(seen[page]["ids"]) for page in PAGES}
    broken = []
    for page in PAGES:
        for link in seen[page]["links"]:
            to = urlparse(link)
            path, fragment = unquote(to.path), unquote(to.fragment)
            if to.scheme != "file":
                continue
            there = fragment in ids[path] if fragment and path in ids else Path(path).is_file()
            if not there:
                broken.append((page, link))
    assert broken == []


@pytest.mark.parametrize(
    ("words", "page"),
    [("FrameBatch", "api/fastpath.html"), ("RDMTS", "registers.html"), ("passt", "passt.html")],
)
def test_search_finds(browser: webdriver.Chrome, words: str, page: str) -> None:
    browser.get((SITE / "search.html").as_uri() + f"?q={words}")
    # the results come one after the other, each when its page is read
    selector = f'#search-results li a[href*="{page}"]'
    WebDriverWait(browser, 60).until(lambda b: b.find_elements(By.CSS_SELECTOR, selector))
