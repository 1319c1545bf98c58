"""The built site in a real browser, from the folder and with the network blocked: every page, every equation."""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from bs4 import BeautifulSoup

from identity_mappings.experiments import paper
from identity_mappings.pages import published
from identity_mappings.pages.book.site import chromium

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "book" / "_build" / "html"
CHROMIUM = chromium()
FIRST = SITE / "index.html"  # nothing to read: it leads on to the first page at once
PAGES = sorted(path for path in SITE.rglob("*.html") if "_static" not in path.parts and path != FIRST)
PAGES = [path.relative_to(SITE).as_posix() for path in PAGES]

pytestmark = [
    pytest.mark.skipif(not PAGES, reason="the site is not built here: run `invoke book` first"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the PATH to open the site with"),
]

# Addresses that a page would fetch by itself; a link that a reader follows is another matter.
FETCHED = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=[\"'](?:https?:)?//[^\"']+", re.I)
FROM_CSS = re.compile(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^\s\"')]+", re.I)


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Opens pages of the site, with every request but to its folder refused; `.wrong` lists what went wrong."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    wrong = []

    def only_files(route):
        if urlparse(route.request.url).scheme in ("file", "data", "blob"):
            return route.continue_()
        wrong.append(f"asked for {route.request.url}")
        return route.abort()

    context.route("**/*", only_files)
    page = context.new_page()
    page.set_default_timeout(120_000)  # a busy machine is slow, not wrong
    page.on("requestfailed", lambda request: wrong.append(f"no answer from {request.url}: {request.failure}"))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def open_page(name, query=""):
        page.goto((SITE / name).as_uri() + query, wait_until="load")
        return page

    open_page.wrong = wrong
    yield open_page
    context.close()


@pytest.mark.parametrize("name", PAGES)
def test_page_needs_no_network(visit, name):
    page = visit(name)
    equations = page.locator("span.math, div.math").count()
    if equations:
        page.wait_for_function("window.MathJax && MathJax.startup && MathJax.startup.promise")
        page.evaluate("MathJax.startup.promise")
        assert page.locator("span.math mjx-container, div.math mjx-container").count() >= equations
        assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
        assert page.locator("article mjx-container svg").first.bounding_box()["width"] > 0
    assert (
        page.locator("img").evaluate_all("all => all.filter(i => i.src && i.complete && !i.naturalWidth).length") == 0
    )
    assert visit.wrong == []


def test_address_of_the_site_leads_to_the_first_page(visit):
    page = visit(FIRST.name)
    page.wait_for_url("**/intro.html")
    assert "Identity Mappings" in page.title()
    assert visit.wrong == []


@pytest.mark.parametrize("name", PAGES)
def test_page_is_not_wider_than_a_phone(visit, name):
    page = visit(name)
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(50)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("name", PAGES)
def test_links_within_the_site_lead_somewhere(name):
    text = (SITE / name).read_text()
    for address in re.findall(r"<a\b[^>]*?\bhref=\"([^\"]+)\"", text):
        target = urlparse(address)
        if target.scheme or not target.path:
            continue
        path = (SITE / name).parent / unquote(target.path)
        assert path.exists(), address
        if target.fragment and path.suffix == ".html":
            assert f'id="{unquote(target.fragment)}"' in path.read_text(), address


@pytest.mark.parametrize("name", PAGES)
def test_page_names_no_file_of_another_host(name):
    text = (SITE / name).read_text()
    assert FETCHED.findall(text) == []
    assert FROM_CSS.findall(text) == []


# The pages of a table's rows are made alike: the first speaks for all.
DIFFERENT = {re.sub(r"^rows/(table-\d+)/.*", r"rows of \1", name): name for name in reversed(PAGES)}


@pytest.mark.parametrize("name", sorted(DIFFERENT.values()))
def test_page_is_accessible_in_both_themes(visit, name):
    """axe-core's rules; each finding that is serious or critical is named with the element."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page, found = visit(name), {}
    page.add_style_tag(content="* { transition: none !important }")  # no colour half faded over on a busy machine
    for theme, width in (("light", 1280), ("dark", 1280), ("light", 390)):
        page.set_viewport_size({"width": width, "height": 800})
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        page.wait_for_timeout(100)
        for rule in axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]:
            if rule["impact"] in ("serious", "critical"):
                found[theme, width, rule["id"]] = [node["html"][:200] for node in rule["nodes"]]
    assert found == {}


@pytest.mark.parametrize("name", PAGES)
def test_colab_and_code_name_the_repository_that_publishes_or_none(name):
    text, address = (SITE / name).read_text(), published.repository()
    opened = re.findall(r"https://colab\.research\.google\.com/github(/[^/\"]+/[^/\"]+)/", text)
    installed = re.findall(r"git\+https://([^@\"<]+)", text)
    assert {f"https://github.com{path}" for path in opened} | {f"https://{path}" for path in installed} <= {address}


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("rows/")])
def test_a_page_of_a_row_is_not_in_the_navigation(visit, name):
    page = visit(name)
    assert page.locator(f".bd-sidebar-primary a[href*='{Path(name).name}']").count() == 0


@pytest.mark.parametrize("name", PAGES)
def test_every_figure_has_a_caption_of_a_sentence(visit, name):
    page = visit(name)
    for caption in page.locator("article :is(figure.drawn, .curves-figure)").all():
        assert re.search(r"\w.*\.", caption.locator("figcaption").inner_text())


@pytest.mark.parametrize("name", sorted(DIFFERENT.values()))
def test_words_in_pictures_can_be_read_on_a_phone(visit, name):
    """As a browser lays them out; formulas, whose numbers above and below are smaller, are left out."""
    page = visit(name)
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(50)
    sizes = page.evaluate(
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


@pytest.mark.parametrize("name", [f"table-{table}.html" for table in (1, 2, 3, 4)])
def test_every_number_of_a_table_leads_to_a_page_with_its_record(name):
    soup = BeautifulSoup((SITE / name).read_text(), "html.parser")
    cells = soup.select(
        "table.results td:is([data-label='ours'], [data-label^='training loss'], [data-label^='test error'])"
    )
    assert cells
    for cell in cells:
        numbers, links = re.findall(r"\d+\.\d+", cell.get_text()), [link["href"] for link in cell.find_all("a")]
        assert bool(links) == bool(numbers) or cell.get_text().startswith("fail"), cell
        for address in links:
            found = records_on(address.split("#")[0])
            assert address.startswith("rows/") and found and all(path.exists() for path in found)


@pytest.mark.parametrize("name", ["gate-bias.html", "choices.html", "inside.html"])
def test_a_page_of_runs_that_are_no_rows_holds_their_records(name):
    found = records_on(name)
    assert found and all(path.exists() for path in found)


IDS = {row.id for table in paper.TABLES for row in paper.rows(table)} - {"original", "plain", "dropout"}


@pytest.mark.parametrize("name", PAGES)
def test_no_title_or_entry_of_the_navigation_is_a_rows_id_or_says_not_run(name):
    soup = BeautifulSoup((SITE / name).read_text(), "html.parser")
    told = soup.select("title, h1, h2, h3, .bd-sidebar-primary a, .bd-sidebar-secondary a, .prev-next-area a")
    assert told
    for words in (each.get_text(" ", strip=True) for each in told):
        assert not set(re.findall(r"[\w.-]+", words)) & IDS and "not run" not in words.lower()


def test_chapters_come_before_rows_in_a_search(visit):
    page = visit("search.html", "?q=dropout")
    page.wait_for_selector("ul.search li a")
    page.wait_for_timeout(1000)
    found = page.locator("ul.search li > a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    rows = [place for place, address in enumerate(found) if address.startswith("rows/")]
    chapters = [place for place, address in enumerate(found) if not address.startswith("rows/")]
    assert chapters and rows and max(chapters) < min(rows)


def test_next_leads_from_table_to_table(visit):
    page = visit("table-1.html")
    assert page.locator("a.right-next").get_attribute("href") == "table-2.html"


def test_styles_ask_no_other_host():
    for path in SITE.rglob("*.css"):
        assert FROM_CSS.findall(path.read_text()) == [], path


def test_page_weight():
    """Under 2 MB each, without what all pages share."""
    heavy = {name: os.path.getsize(SITE / name) for name in PAGES}
    assert {name: size for name, size in heavy.items() if size > 2_000_000} == {}


def test_search_finds_a_word(visit):
    page = visit("search.html", "?q=gate")
    page.wait_for_selector("ul.search li a")
    assert page.locator("ul.search li a").count() > 0
    assert visit.wrong == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_paper_differ_in_both_themes(visit, theme):
    page = visit("intro.html")
    page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    colours = page.evaluate(
        "[getComputedStyle(document.querySelector('article p')).color, getComputedStyle(document.body).backgroundColor]"
    )
    text, paper = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
    assert (text < paper) == (theme == "light")
