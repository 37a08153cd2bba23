"""The report in headless Chromium, opened from disk as a reader opens it."""

import csv
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from ptacl.report.stage import build_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
# Without these it looks for updates and names on the network.
QUIET = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]
# Inside of an A4 page with margins of 14 mm, at 96 pixels an inch.
A4_PX = 688
PHONE = {"width": 375, "height": 800}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", *QUIET])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(both) -> dict[str, Path]:
    results, config = both
    build_report(results, config)
    return {"private": results / "report/index.html", "shareable": results / "shareable/report/index.html"}


@pytest.fixture(params=["private", "shareable"])
def file(request: pytest.FixtureRequest, pages: dict[str, Path]) -> Path:
    return pages[request.param]


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a file; fails when the page logs an error or asks for anything that is not within it."""
    trouble: list[str] = []
    contexts = []

    def open_(path: Path, **options) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: trouble.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: trouble.append(str(e)))
        page.on("request", lambda r: trouble.append(r.url) if not r.url.startswith(("data:", path.as_uri())) else None)
        page.goto(path.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert trouble == []


def test_it_opens_from_disk_and_asks_for_nothing(file: Path, opened) -> None:
    page = opened(file)
    page.wait_for_timeout(300)
    assert page.title() and page.locator("h2").count() >= 9
    assert file.stat().st_size < 20 * 2**20


@pytest.mark.parametrize("options", [{}, {"color_scheme": "dark"}, {"viewport": PHONE}], ids=["light", "dark", "phone"])
def test_an_accessibility_checker_finds_nothing_serious(file: Path, opened, options: dict) -> None:
    page = opened(file, **options)
    for fold in page.locator("details").all():
        fold.evaluate("d => d.open = true")
    found = Axe().run(page).response["violations"]
    serious = [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]
    assert serious == []


def test_every_plot_has_a_text_alternative_that_says_numbers(file: Path, opened) -> None:
    page = opened(file)
    said = page.locator("figure > svg").evaluate_all("all => all.map(s => s.getAttribute('aria-label'))")
    assert len(said) >= 6 and all(said)
    assert sum(any(c.isdigit() for c in text) for text in said) >= 4


def test_tables_sort_by_number_down_and_up_and_back(file: Path, opened) -> None:
    page = opened(file)
    table = page.locator('table[data-name="agreement"]')
    column = 'table[data-name="agreement"] tbody tr td:nth-child(3)'
    first = page.locator(column).all_inner_texts()
    button = table.locator("thead th:nth-child(3) button")
    button.focus()
    page.keyboard.press("Enter")
    assert table.locator("thead th:nth-child(3)").get_attribute("aria-sort") == "ascending"
    up = [float(t.split()[0]) for t in page.locator(column).all_inner_texts()]
    assert up == sorted(up) and len(set(up)) > 1
    button.click()
    assert [float(t.split()[0]) for t in page.locator(column).all_inner_texts()] == up[::-1]
    button.click()
    assert page.locator(column).all_inner_texts() == first


def test_tables_leave_as_csv(file: Path, opened) -> None:
    page = opened(file)
    links = page.locator("a.download")
    assert links.count() == page.locator("table.sortable").count() >= 6
    with page.expect_download() as caught:
        links.first.click()
    rows = list(csv.reader(io.StringIO(Path(caught.value.path()).read_text(encoding="utf-8-sig"))))
    shown = page.locator("table.sortable").first.locator("tr")
    assert caught.value.suggested_filename == "cohort.csv" and len(rows) == shown.count()
    assert rows[1] == [c.strip() for c in shown.nth(1).locator("th,td").all_inner_texts()]


def test_cines_play_and_stop(pages, opened) -> None:
    page = opened(pages["private"])
    sprite, button = page.locator(".sprite").first, page.locator(".cine button").first
    place = "s => s.style.backgroundPositionY"
    button.scroll_into_view_if_needed()
    seen = set()
    for _ in range(30):
        seen.add(sprite.evaluate(place))
        page.wait_for_timeout(30)
    assert len(seen) > 3 and button.inner_text() == "Pause"
    button.click()
    still = sprite.evaluate(place)
    page.wait_for_timeout(300)
    assert sprite.evaluate(place) == still and button.inner_text() == "Play"


def test_cines_stand_still_for_those_who_want_no_motion(pages, opened) -> None:
    page = opened(pages["private"], reduced_motion="reduce")
    page.wait_for_timeout(300)
    assert page.locator(".sprite").first.evaluate("s => s.style.backgroundPositionY") == ""
    assert page.locator(".cine button").first.inner_text() == "Play"


def test_nothing_is_cut_off_on_paper_or_a_phone(file: Path, opened) -> None:
    page = opened(file, viewport={"width": A4_PX, "height": 1000})
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.scrollWidth") <= A4_PX
    assert page.locator("details:not([open])").count() == 0
    wide = page.locator("table").evaluate_all(
        f"all => all.filter(t => t.getBoundingClientRect().right > {A4_PX + 1}).length"
    )
    assert wide == 0
    assert len(page.pdf(format="A4")) > 50_000
    phone = opened(file, viewport=PHONE)
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_the_page_follows_a_dark_theme(file: Path, opened) -> None:
    def colours(scheme: str) -> tuple[str, str]:
        page = opened(file, color_scheme=scheme)
        text = page.locator("#regression figure svg text").first
        return (
            page.evaluate("getComputedStyle(document.body).backgroundColor"),
            text.evaluate("t => getComputedStyle(t).fill"),
        )

    light, dark = colours("light"), colours("dark")
    assert light[0] != dark[0] and light[1] != dark[1]


def test_without_scripts_all_is_readable(file: Path, opened) -> None:
    page = opened(file, java_script_enabled=False)
    assert page.locator("table").count() > 8 and page.locator("#answer li").count() > 2
    assert page.locator("figure > svg").first.is_visible()


def test_the_keyboard_comes_to_the_answer_first(file: Path, opened) -> None:
    page = opened(file)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the answer"
    page.keyboard.press("Enter")
    assert page.url.endswith("#answer")
