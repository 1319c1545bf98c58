"""The built site in a real browser, from the folder and with the network blocked: every page, every equation.

All tests of a page stand together, so that it is read and opened once: `pytest -n auto --dist loadgroup` walks with a
browser for each core.
"""

import os
import re
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from bs4 import BeautifulSoup

from identity_mappings.experiments import paper
from identity_mappings.pages import published
from identity_mappings.pages.book.site import UNFOLD, chromium

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "book" / "_build" / "html"
CHROMIUM = chromium()
FIRST = SITE / "index.html"  # nothing to read: it leads on to the first page at once
PAGES = sorted(path for path in SITE.rglob("*.html") if "_static" not in path.parts and path != FIRST)
PAGES = [path.relative_to(SITE).as_posix() for path in PAGES]
# The pages of a table's rows are made alike: the first speaks for all.
DIFFERENT = sorted({re.sub(r"^rows/(table-\d+)/.*", r"rows of \1", name): name for name in reversed(PAGES)}.values())
# These come first among all, for pytest puts tests together whose parameters have one place in their lists.
PAGES = [*DIFFERENT, *(name for name in PAGES if name not in DIFFERENT)]

pytestmark = [
    pytest.mark.skipif(not PAGES, reason="the site is not built here: run `invoke book` first"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the PATH to open the site with"),
]

# Addresses that a page would fetch by itself; a link that a reader follows is another matter.
FETCHED = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=[\"'](?:https?:)?//[^\"']+", re.I)
FROM_CSS = re.compile(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^\s\"')]+", re.I)


def of_pages(names):
    """Parametrises a test with pages, each a `Page`; a page's tests share a worker of xdist."""
    each = [pytest.param(name, marks=pytest.mark.xdist_group(name), id=name) for name in names]
    return pytest.mark.parametrize("page", each, indirect=True)


class Page:
    """A page of the site as it is built."""

    def __init__(self, name):
        self.name, self.path = name, SITE / name

    @cached_property
    def text(self):
        return self.path.read_text()

    @cached_property
    def soup(self):
        return BeautifulSoup(self.text, "html.parser")


@pytest.fixture(scope="module")
def page(request):
    return Page(request.param)


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def tab(browser):
    """A tab that has no network: `open(name, query)` opens a page of the site; `wrong` lists what went wrong."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True)
    tab, wrong = context.new_page(), []
    tab.set_default_timeout(120_000)  # a busy machine is slow, not wrong
    tab.on("request", lambda request: wrong.append(f"asked for {request.url}") if is_remote(request.url) else None)
    tab.on("requestfailed", lambda request: wrong.append(f"no answer from {request.url}: {request.failure}"))
    tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.open = lambda name, query="": tab.goto((SITE / name).as_uri() + query, wait_until="load")
    tab.wrong = wrong
    yield tab
    context.close()


def is_remote(address):
    return urlparse(address).scheme not in ("file", "data", "blob")


@pytest.fixture
def fresh(browser):
    with tab(browser) as fresh:
        yield fresh


@pytest.fixture(scope="module")
def opened(page, browser):
    """A tab with the page, for all tests of the page; each sets the width and the theme that it needs."""
    with tab(browser) as opened:
        opened.open(page.name)
        yield opened


def resize(opened, width):
    opened.set_viewport_size({"width": width, "height": 800})
    opened.wait_for_timeout(50)


@of_pages(PAGES)
def test_page_needs_no_network(opened):
    equations = opened.locator("span.math, div.math").count()
    if equations:
        opened.wait_for_function("window.MathJax && MathJax.startup && MathJax.startup.promise")
        opened.evaluate("MathJax.startup.promise")
        assert opened.locator("span.math mjx-container, div.math mjx-container").count() >= equations
        assert opened.locator("mjx-merror, [data-mjx-error]").count() == 0
        assert opened.locator("article mjx-container svg").first.bounding_box()["width"] > 0
    assert (
        opened.locator("img").evaluate_all("all => all.filter(i => i.src && i.complete && !i.naturalWidth).length") == 0
    )
    assert opened.wrong == []


def test_address_of_the_site_leads_to_the_first_page(fresh):
    fresh.open(FIRST.name)
    fresh.wait_for_url("**/intro.html")
    assert "Identity Mappings" in fresh.title()
    assert fresh.wrong == []


@of_pages(PAGES)
def test_page_is_not_wider_than_a_phone(opened):
    resize(opened, 390)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390


@of_pages(PAGES)
def test_links_within_the_site_lead_somewhere(page):
    for address in re.findall(r"<a\b[^>]*?\bhref=\"([^\"]+)\"", page.text):
        target = urlparse(address)
        if target.scheme or not target.path:
            continue
        path = (page.path.parent / unquote(target.path)).resolve()
        assert path.exists(), address
        if target.fragment and path.suffix == ".html":
            assert unquote(target.fragment) in anchors(path), address


@lru_cache
def anchors(path):
    """The names of the places in a page that a link can lead to."""
    return set(re.findall(r'id="([^"]+)"', path.read_text()))


@of_pages(PAGES)
def test_page_names_no_file_of_another_host(page):
    assert FETCHED.findall(page.text) == []
    assert FROM_CSS.findall(page.text) == []


# What axe-core looks at: all that a page is, at a laptop's width; its colours once more where they are others, the rest
# where it is laid out otherwise. To look at colours takes the longest.
COLOURS = ("color-contrast", "link-in-text-block")
LOOKED_AT = (
    ("light", 1280, {}),
    ("dark", 1280, {"runOnly": COLOURS}),
    ("light", 390, {"rules": dict.fromkeys(COLOURS, {"enabled": False})}),
)


@of_pages(DIFFERENT)
def test_page_is_accessible_in_both_themes(opened):
    """axe-core's rules; each finding that is serious or critical is named with the element."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    opened.add_style_tag(content="* { transition: none !important }")  # no colour half faded over on a busy machine
    found = {}
    for theme, width, options in LOOKED_AT:
        resize(opened, width)
        opened.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        opened.wait_for_timeout(100)
        for rule in axe.run(opened, options={"resultTypes": ["violations"], **options}).response["violations"]:
            if rule["impact"] in ("serious", "critical"):
                found[theme, width, rule["id"]] = [node["html"][:200] for node in rule["nodes"]]
    assert found == {}


@of_pages(PAGES)
def test_colab_and_code_name_the_repository_that_publishes_or_none(page):
    address = published.repository()
    opened = re.findall(r"https://colab\.research\.google\.com/github(/[^/\"]+/[^/\"]+)/", page.text)
    installed = re.findall(r"git\+https://([^@\"<]+)", page.text)
    assert {f"https://github.com{path}" for path in opened} | {f"https://{path}" for path in installed} <= {address}


@of_pages(PAGES)
def test_no_page_of_a_row_is_in_the_navigation(page):
    entries = [urlparse(link["href"]).path for link in page.soup.select(".bd-sidebar-primary a[href]")]
    pages = [(page.path.parent / entry).resolve() if entry else page.path for entry in entries]
    assert len(pages) > 20 and not [path for path in pages if SITE / "rows" in path.parents]


@of_pages(PAGES)
def test_every_figure_has_a_caption_of_a_sentence(page):
    for picture in page.soup.select("article :is(svg, img, .curves):not(.sd-octicon)"):
        assert re.search(r"\w.*\.", picture.find_parent("figure").figcaption.get_text(" ", strip=True))


@of_pages(PAGES)
def test_no_line_ends_before_a_percent_sign(page):
    found = page.soup.body.find_all(string=re.compile(r"\d %"))
    assert [words for words in found if not words.find_parent(["pre", "code", "script", "style", "title"])] == []


@of_pages(DIFFERENT)
def test_words_in_pictures_can_be_read_on_a_phone(opened):
    """As a browser lays them out; formulas, whose numbers above and below are smaller, are left out."""
    resize(opened, 390)
    sizes = opened.evaluate(
        """() => [...document.querySelectorAll("figure.drawn svg")].flatMap((svg) => {
          const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
          const words = [...svg.querySelectorAll("text:not(:has(tspan))")].filter((text) => text.textContent.trim());
          return words.map((text) => parseFloat(getComputedStyle(text).fontSize) * scale);
        })"""
    )
    assert min(sizes, default=9) >= 7.9


def records_on(address):
    """The records that a page offers for download, as files of the site."""
    links = re.findall(r'class="reference download internal"[^>]*href="([^"]+\.json)"', (SITE / address).read_text())
    return [(SITE / address).parent / link for link in links]


@of_pages([f"table-{table}.html" for table in (1, 2, 3, 4)])
def test_every_number_of_a_table_leads_to_a_page_with_its_record(page):
    cells = page.soup.select(
        "table.results td:is([data-label='ours'], [data-label^='training loss'], [data-label^='test error'])"
    )
    assert cells
    for cell in cells:
        numbers, links = re.findall(r"\d+\.\d+", cell.get_text()), cell.find_all("a")
        assert bool(links) == bool(numbers) or cell.get_text().startswith("fail"), cell
        for link in links:
            address = link["href"].split("#")[0]
            found = records_on(address)
            assert address.startswith("rows/") and found and all(path.exists() for path in found)
            if not cell["data-label"].startswith(
                "training loss"
            ):  # a row's page has its own errors in bold, each run's in a table
                own = Page(address).soup.select("article :is(strong, table.results td)")
                there = " ".join(each.get_text() for each in own)
                assert all(number in there for number in re.findall(r"\d+\.\d+", link.get_text())), address


@of_pages([f"table-{table}.html" for table in paper.TABLES])
def test_a_table_leads_to_the_page_of_each_of_its_rows(page):
    links = {link["href"] for link in page.soup.select("table.results td a[href^='rows/']")}
    (table,) = re.findall(r"\d", page.name)
    assert links == {f"rows/table-{table}/{row.id}.html" for row in paper.rows(int(table))}


@of_pages(["gate-bias.html", "choices.html", "inside.html"])
def test_a_page_of_runs_that_are_no_rows_holds_their_records(page):
    found = records_on(page.name)
    assert found and all(path.exists() for path in found)


IDS = {row.id for table in paper.TABLES for row in paper.rows(table)} - {"original", "plain", "dropout"}


@of_pages(PAGES)
def test_no_title_or_entry_of_the_navigation_is_a_rows_id_or_says_not_run(page):
    told = page.soup.select("title, h1, h2, h3, .bd-sidebar-primary a, .bd-sidebar-secondary a, .prev-next-area a")
    assert told
    for words in (each.get_text(" ", strip=True) for each in told):
        assert not set(re.findall(r"[\w.-]+", words)) & IDS and "not run" not in words.lower()


CHAPTERS_WITH_EXERCISES = ("analysis", "units", "inside", "argument", "since", "gate-bias", "choices")
CHAPTERS_WITH_EXERCISES += tuple(f"table-{table}" for table in paper.TABLES)


@of_pages([f"{name}.html" for name in CHAPTERS_WITH_EXERCISES])
def test_every_exercise_has_a_folded_solution_that_ran(page):
    """It shows what it printed; an error would have ended the build."""
    asked = [title.get_text() for title in page.soup.select(".admonition.exercise > .admonition-title")]
    assert len(asked) >= 2
    answers = page.soup.select(".cell.tag_solution")
    assert len(answers) == len(asked)
    for number, (words, answer) in enumerate(zip(asked, answers, strict=True), start=1):
        assert (
            words.startswith(f"Exercise {number}: ") and f"Solution of exercise {number}" in answer.summary.get_text()
        )
        assert "open" not in answer.details.attrs and answer.details.select_one(".highlight")
        assert answer.details.select_one(".cell_output .output").get_text(strip=True)


@of_pages(["units.html", "table-1.html"])
def test_what_is_unfolded_is_printed(opened):
    """The content of a fold has faded in on paper from the start; a fold of downloads is not there."""
    opened.evaluate(UNFOLD)
    opened.emulate_media(media="print")
    folds = "all => all.flatMap((fold) => [...fold.children].map((each) => getComputedStyle(each)))"
    styles = opened.locator("article details").evaluate_all(
        f"all => ({folds})(all).map((style) => [style.animationName, style.opacity, style.display])"
    )
    opened.emulate_media(media="screen")
    assert len(styles) > 4 and {(name, opacity) for name, opacity, _ in styles} == {("none", "1")}


def test_chapters_come_before_rows_in_a_search(fresh):
    fresh.open("search.html", "?q=dropout")
    fresh.wait_for_selector("ul.search li a")
    fresh.wait_for_timeout(1000)
    found = fresh.locator("ul.search li > a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    rows = [place for place, address in enumerate(found) if address.startswith("rows/")]
    chapters = [place for place, address in enumerate(found) if not address.startswith("rows/")]
    assert chapters and rows and max(chapters) < min(rows)


@of_pages(["table-1.html"])
def test_next_leads_from_table_to_table(page):
    assert page.soup.select_one("a.right-next")["href"] == "table-2.html"


def test_styles_ask_no_other_host():
    for path in SITE.rglob("*.css"):
        assert FROM_CSS.findall(path.read_text()) == [], path


def test_page_weight():
    """Under 2 MB each, without what all pages share."""
    heavy = {name: os.path.getsize(SITE / name) for name in PAGES}
    assert {name: size for name, size in heavy.items() if size > 2_000_000} == {}


def test_search_finds_a_word(fresh):
    fresh.open("search.html", "?q=gate")
    fresh.wait_for_selector("ul.search li a")
    assert fresh.locator("ul.search li a").count() > 0
    assert fresh.wrong == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_paper_differ_in_both_themes(fresh, theme):
    fresh.open("intro.html")
    fresh.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    colours = fresh.evaluate(
        "[getComputedStyle(document.querySelector('article p')).color, getComputedStyle(document.body).backgroundColor]"
    )
    text, paper = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
    assert (text < paper) == (theme == "light")
