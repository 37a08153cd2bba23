"""The report, the gallery and the quality pages in headless Chromium, opened from disk as a reader opens them."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from axe_playwright_python.sync_playwright import Axe

from ptacl.report.gallery import build_gallery
from ptacl.report.quality import ORDERS, build_quality_index, build_quality_page
from ptacl.stages import stage_settings

# Inside of an A4 page with margins of 14 mm, at 96 pixels an inch.
A4_PX = 688
PHONE = {"width": 375, "height": 800}


@pytest.fixture(scope="module")
def pages(both) -> dict[str, Path]:
    results, config = both
    gallery, quality = results / "gallery/index.html", results / "quality"
    build_gallery(results, stage_settings(config, "gallery"), results / "embeddings/ptacl/seed0.parquet", gallery)
    for name in ("0000", "0001"):
        build_quality_page(results, name, stage_settings(config, "quality"), quality / f"{name}.html")
    build_quality_index(results, ["0000", "0001"], quality / "index.html")
    return {
        "private": results / "report/index.html", "shareable": results / "shareable/report/index.html",
        "gallery": gallery, "quality": quality / "0000.html", "quality list": quality / "index.html",
    }  # fmt: skip


@pytest.fixture(params=["private", "shareable"])
def file(request: pytest.FixtureRequest, pages: dict[str, Path]) -> Path:
    """The report."""
    return pages[request.param]


@pytest.fixture(params=["private", "shareable", "gallery", "quality", "quality list"])
def any_page(request: pytest.FixtureRequest, pages: dict[str, Path]) -> Path:
    return pages[request.param]


def test_it_opens_from_disk_and_asks_for_nothing(any_page: Path, opened) -> None:
    page = opened(any_page)
    page.wait_for_timeout(300)
    assert page.title() and page.locator("h2").count() >= 2
    assert any_page.stat().st_size < 20 * 2**20


@pytest.mark.parametrize("options", [{}, {"color_scheme": "dark"}, {"viewport": PHONE}], ids=["light", "dark", "phone"])
def test_an_accessibility_checker_finds_nothing_serious(any_page: Path, opened, options: dict) -> None:
    page = opened(any_page, **options)
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
    sprite, button = page.locator(".sprite").first, page.locator(".player button").first
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
    place = page.locator(".sprite").first.evaluate("s => s.style.backgroundPositionY")
    page.wait_for_timeout(300)
    assert page.locator(".sprite").first.evaluate("s => s.style.backgroundPositionY") == place
    assert page.locator(".player button").first.inner_text() == "Play"


SHOWN = """player => ({
    phase: Number(player.querySelector("input[type=range]").value) / 100,
    line: Number(player.querySelector(".playhead").getAttribute("x1")),
    peaks: player.dataset.peaks.split(" ").map(Number),
    sprites: [...player.querySelectorAll(".sprite")].map(s => ({
        frames: Number(s.dataset.frames), height: Number(s.dataset.height), phase_0: Number(s.dataset.phase),
        place: parseFloat(s.style.backgroundPositionY),
    })),
})"""


def frame_of(sprite: dict) -> float:
    """The frame that a background position shows, by what the CSS standard makes of percentages."""
    tile, n, height = sprite["height"] + 2, sprite["frames"], sprite["height"]
    return (sprite["place"] / 100 * (n * tile - height) - 1) / tile


def test_all_cines_of_an_example_show_the_same_phase_whatever_frame_they_begin_with(pages, opened) -> None:
    page = opened(pages["gallery"], reduced_motion="reduce")
    player = page.locator(".player").first
    for percent in (0, 13, 50, 99):
        slider = player.locator("input[type=range]")
        slider.evaluate("(s, v) => { s.value = v; s.dispatchEvent(new Event('input')); }", percent)
        seen = player.evaluate(SHOWN)
        assert len(seen["sprites"]) == 6 and len({s["phase_0"] for s in seen["sprites"]}) > 1
        for sprite in seen["sprites"]:
            frame = frame_of(sprite)
            assert frame == pytest.approx(round(frame), abs=0.01) and 0 <= round(frame) < sprite["frames"]
            phase = sprite["phase_0"] + round(frame) / sprite["frames"]
            apart = (phase - percent / 100 + 0.5) % 1 - 0.5
            assert abs(apart) <= 0.5 / sprite["frames"] + 1e-4
        first, second = seen["peaks"][:2]
        assert seen["line"] == pytest.approx(10 + 25 * (first + percent / 100 * (second - first)), abs=0.01)


def test_cines_play_together_at_the_heart_rate_and_the_line_goes_on_from_beat_to_beat(pages, opened) -> None:
    page = opened(pages["gallery"])
    player = page.locator(".player").first
    lines, phases = [], []
    for _ in range(40):
        seen = player.evaluate(SHOWN)
        lines.append(seen["line"])
        phases.append(seen["phase"])
        now = {round(s["phase_0"] + round(frame_of(s)) / s["frames"], 2) % 1 for s in seen["sprites"]}
        spread = max((a - b + 0.5) % 1 - 0.5 for a in now for b in now)
        assert spread <= 0.05 + 1e-6
        page.wait_for_timeout(60)
    beats = [(x - 10) / 25 for x in lines]
    assert max(beats) - min(beats) > 0.8 and len(set(phases)) > 10


def test_a_recording_that_is_bad_is_found_by_filter_and_by_order(pages, opened) -> None:
    page = opened(pages["quality"])
    show = page.locator("select[name=show]")
    visible = "all => all.filter(c => c.checkVisibility()).map(c => c.dataset.row)"
    cards, everybody = page.locator(".card"), page.locator(".card").count()
    assert len(cards.evaluate_all(visible)) == everybody == 61
    assert page.locator("output").inner_text() == "61 shown"
    show.select_option("why")
    assert cards.evaluate_all(visible) == ["60"]
    assert "four or more ECG leads flat; no CMR" in page.locator("#row-60").inner_text()
    show.select_option("ecg-flat_lead")
    some = cards.evaluate_all(visible)
    assert 0 < len(some) < everybody and "ECG: a flat lead" in page.locator(f"#row-{some[0]}").inner_text()
    show.select_option("")
    assert list(map(int, cards.evaluate_all(visible))) == list(range(61))


@pytest.mark.parametrize("key", ORDERS)
def test_the_suspicious_come_first_in_every_order(pages, both, opened, key: str) -> None:
    page = opened(pages["quality"])
    page.locator("select[name=order]").select_option(key)
    found = list(map(int, page.locator(".card").evaluate_all("all => all.map(c => c.dataset.row)")))
    ecg, cmr = (pq.read_table(both[0] / f"{k}/0000.parquet").to_pylist() for k in ("ecg", "cmr"))
    doubt = {
        "flags": lambda e, c: len(e["flags"]) + len(c["flags"]),
        "noise": lambda e, _: e["noise_ratio"],
        "drift": lambda e, _: e["drift_uv"],
        "limb": lambda e, _: e["einthoven_uv"],
        "peaks": lambda e, _: max(e["r_agreement"], 1 / e["r_agreement"]),  # half the rate is as wrong as twice
        "rhythm": lambda e, _: e["rr_irregularity"],
        "centre": lambda _, c: -c["centre_confidence"],
    }[key]
    values = [doubt(e, c) if e["status"] == "ok" or key == "flags" else -np.inf for e, c in zip(ecg, cmr, strict=True)]
    assert [values[i] for i in found] == sorted(values, reverse=True) and len(set(values)) > 1
    assert sorted(found) == list(range(61))


def test_no_tag_says_an_attribute_twice(any_page: Path) -> None:
    """A browser keeps the first and forgets the other."""
    for tag in re.findall(r"<[a-z][^>]*>", any_page.read_text()):
        names = re.findall(r"""\s([a-z][\w-]*)=["']""", tag)
        assert len(names) == len(set(names)), tag[:200]


def test_the_crop_is_drawn_where_it_was_cut(pages, opened) -> None:
    page = opened(pages["quality"], viewport={"width": 1200, "height": 900})
    image, box = (page.locator(f"#row-1 .views {tag}").bounding_box() for tag in ("img", "i"))
    side = image["width"] / 3
    assert image["height"] == pytest.approx(side, abs=1.5)
    assert box["x"] - image["x"] == pytest.approx(0.25 * side, abs=1.5)
    assert box["y"] - image["y"] == pytest.approx(0.375 * side, abs=1.5)
    assert (box["width"], box["height"]) == pytest.approx((side / 2, side / 2), abs=1.5)


def test_a_crop_that_reaches_beyond_the_image_is_not_drawn_over_its_neighbour_and_is_said(pages, opened) -> None:
    page = opened(pages["quality"], viewport={"width": 1200, "height": 900})
    image, shown = (page.locator(f"#row-0 .views {tag}").bounding_box() for tag in ("img", "> div"))
    assert shown["width"] == pytest.approx(image["width"] / 3, abs=0.5)
    assert page.locator("#row-0 .views > div").evaluate("d => getComputedStyle(d).overflow") == "hidden"
    assert "the crop reaches beyond the image" in page.locator("#row-0").inner_text()
    assert "beyond the image" not in page.locator("#row-1").inner_text()


def test_a_shard_of_the_list_leads_to_its_page(pages, opened) -> None:
    page = opened(pages["quality list"])
    page.locator('table[data-name="shards"] thead th:nth-child(2) button').click()
    assert page.locator('table[data-name="shards"] tbody th a').first.get_attribute("href") == "0000.html"
    with page.expect_download() as caught:
        page.locator("a.download").first.click()
    assert list(csv.reader(io.StringIO(Path(caught.value.path()).read_text(encoding="utf-8-sig"))))[1][0] == "0000"


def test_nothing_is_cut_off_on_paper_or_a_phone(any_page: Path, opened) -> None:
    page = opened(any_page, viewport={"width": A4_PX, "height": 1000})
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.scrollWidth") <= A4_PX
    assert page.locator("details:not([open])").count() == 0
    wide = page.locator("table").evaluate_all(
        f"all => all.filter(t => t.getBoundingClientRect().right > {A4_PX + 1}).length"
    )
    assert wide == 0
    assert len(page.pdf(format="A4")) > 10_000
    phone = opened(any_page, viewport=PHONE)
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
    page.bring_to_front()
    page.keyboard.press("Tab")
    page.wait_for_function("document.activeElement !== document.body")
    assert page.evaluate("document.activeElement.textContent") == "To the answer"
    page.keyboard.press("Enter")
    page.wait_for_function("location.hash === '#answer'")
