"""The report's page in a real Chromium: filters, keys, hostile names, contrast, 10,000 images."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image
from report_runs import hand_run, rows

from clipes.datasets.tables import read_table
from clipes.report import write_report
from clipes.report.build import script_json
from clipes.store.row import Row

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium")

HOSTILE = "</script><img src=x onerror=alert(1)>"
TRICKY = (
    'it\'s "quoted" & <b>bold</b>',
    "a\u2028b\u2029c",
    "\u202egnp.exe",
    "lone \udc80 half",
    "__proto__",
    "%3Cb%3E${1}",
)
NAMES = ("cat", "dog", HOSTILE)
SIZE = (24, 32)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


class Page:
    """A page of the browser that notes all that should not happen, and what is asked for."""

    def __init__(self, browser: Any, report: Path, **options: Any) -> None:
        self.report, self.wrong, self.requests = report, [], []
        self.context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("requestfailed", lambda request: self.wrong.append(request.url))
        self.page.on("dialog", lambda dialog: (self.wrong.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto((report / "index.html").as_uri())

    def text(self, place: str) -> str:
        return str(self.page.locator(place).first.text_content())  # of what is not in sight, too

    def cards(self) -> list[str]:
        """The names of the images that have a card."""
        return [str(name) for name in self.page.locator(".card b").all_text_contents()]

    def until(self, condition: str) -> None:
        """Wait for it; playwright's own way needs eval(), which the page forbids."""
        end = time.monotonic() + 20
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, condition
            self.page.wait_for_timeout(20)

    def close(self) -> None:
        """Nothing went wrong, and nothing was asked for outside the report."""
        wrong = list(self.wrong)  # before what is still being loaded is given up
        self.context.close()
        assert wrong == []
        for url in self.requests:
            parts = urlsplit(url)
            assert parts.scheme == "file" and Path(unquote(parts.path)).is_relative_to(self.report), url


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three ordinary images, one whose dog has no pixels, hostile ones, two failures; truth for two."""
    folder = tmp_path_factory.mktemp("report")
    half, none = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    half[:, :16], half[20:, 20:] = 1, 255
    masks = {"shot10": (("cat",), half), "shot2": (("cat", "dog"), half), "sub/cafe\u0301": ((), none)}
    masks |= {name: ((HOSTILE,), 3 * (half == 1).astype(np.uint8)) for name in (HOSTILE, *TRICKY)}
    others = [
        Row("broken", "failed", f"broken.png: {HOSTILE}", labels=(HOSTILE, "cat")),
        Row("left out", "skipped", "no label"),
    ]
    grey = {name: np.full(SIZE, 250 - 20 * place, np.uint8) for place, name in enumerate(masks)}
    run = hand_run(folder, masks, others, NAMES, grey, command=f"clipes generate {HOSTILE}", machine=HOSTILE)
    (folder / "truth").mkdir()
    for name, truth in (("shot10", np.where(half == 255, 0, half)), ("shot2", 2 * (half == 1))):
        Image.fromarray(truth.astype(np.uint8)).save(folder / "truth" / f"{name}.png")
    assert write_report(run, folder / "out", truth=folder / "truth").troubled == 0
    return folder / "out"


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Page]:
    shown = Page(browser, report)
    yield shown
    shown.close()


def test_nothing_from_elsewhere_would_be_loaded(browser: Any, report: Path) -> None:
    page = Page(browser, report)
    for tag, directive in (("img", "img-src"), ("script", "script-src-elem")):
        found = page.page.evaluate(
            """tag => new Promise(done => {
              addEventListener("securitypolicyviolation", event => done(event.effectiveDirective), { once: true });
              const made = document.createElement(tag);
              made.src = "http://127.0.0.1:9/x";
              document.body.append(made);
            })""",
            tag,
        )
        assert found == directive
    page.wrong.clear()
    page.requests = [url for url in page.requests if not url.startswith("http:")]
    page.close()


def test_it_shows_what_the_run_has_done(page: Page) -> None:
    names, values = (page.page.locator(f"#tiles {tag}").all_text_contents() for tag in ("dt", "dd"))
    tiles = dict(zip(names, values, strict=True))
    assert tiles["with a mask"] == "10" and tiles["failed"] == "1" and tiles["skipped"] == "1"
    assert tiles["left to do"] == "1" and "mean IoU" in tiles
    assert page.text("#run") == "m" and page.page.title() == "m · clipes report"
    assert "The truth judges 2 masks" in page.text("#note")
    assert "1 image with a mask shows no pixel of one of the labels." in page.text("#note")
    assert page.page.locator("#charts figure").count() >= 2
    assert page.page.locator("#charts svg[role=img][aria-label]").count() == page.page.locator("#charts svg").count()
    assert page.page.locator("#classes tbody tr").count() == 4
    page.page.locator("summary", has_text="every setting").click()
    assert HOSTILE in page.text("#settings")


def test_pictures_come_first_and_are_large(page: Page) -> None:
    order = page.page.evaluate("[...document.querySelectorAll('main > section')].map(s => s.id)")
    assert order == ["", "images", "figures", "", "reasons-section", ""]
    widths = page.page.locator(".card").first.locator("img").evaluate_all("all => all.map(one => one.clientWidth)")
    assert len(widths) == 4 and min(widths) > 180
    page.page.locator("#view").select_option("overlay")
    assert page.page.locator(".card img.overlay").first.evaluate("one => one.clientWidth") > 270


def test_more_pictures_come_when_they_are_asked_for(browser: Any, report: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    shutil.copytree(report, many)
    first = rows(report)[0]
    text = ",\n".join(script_json([0, f"image {index}", *first[2:]]) for index in range(100))
    (many / "data/rows.js").write_text(f"window.rows = [\n{text},\n];\n")
    page = Page(browser, many)
    page.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.page.wait_for_timeout(300)
    assert len(page.cards()) == 24, "what is below can be reached"
    page.page.locator("#more button", has_text="Show 76 more").focus()
    page.page.keyboard.press("Enter")
    page.until("document.querySelectorAll('.card').length >= 84")
    assert page.page.evaluate("document.activeElement === cards.children[24].firstChild")
    page.close()


def test_classes_without_pixels_are_folded_away_and_bars_align(page: Page) -> None:
    shown = page.page.locator("#classes > div tbody tr")
    assert shown.count() == 3 and "background" in (shown.first.text_content() or "")
    folded = page.page.locator("#classes details")
    assert folded.locator("summary").text_content() == "1 class without a pixel, 1 of them labels of images"
    assert not folded.evaluate("one => one.open") and "dog" in page.text("#classes details tbody")
    for column in (4, 5):
        left = shown.locator(f"td:nth-child({column}) .meter").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect().left)"
        )
        assert len(left) >= 2 and max(left) - min(left) < 0.5


def test_there_is_no_chart_of_one_bar(page: Page) -> None:
    titles = page.page.locator("#charts h2").all_text_contents()
    assert "Confidence of the images" in titles and "Speed" not in titles, "all images were finished in one time"
    for chart in page.page.locator("#charts figure").all():
        heights = chart.locator("rect").evaluate_all("all => all.map(one => one.height.baseVal.value)")
        assert sum(height > 0 for height in heights) > 1


def test_the_list_is_saved_with_its_labels(page: Page, tmp_path: Path) -> None:
    page.page.locator("#class").select_option(label="cat")
    with page.page.expect_download() as started:
        page.page.locator("#save").click()
    assert started.value.suggested_filename == "labels.csv"
    started.value.save_as(tmp_path / "labels.csv")
    found = {row.image: row.labels for row in read_table(tmp_path / "labels.csv")}
    assert list(found) == page.cards() and found["shot2"] == ("cat", "dog") and found["broken"] == (HOSTILE, "cat")
    assert (
        page.page.locator("#lists a").get_attribute("href") == "images.csv" and (page.report / "images.csv").is_file()
    )


def test_hostile_names_stay_text(page: Page) -> None:
    assert page.page.evaluate("document.querySelectorAll('script').length") == 3
    assert page.page.locator("[onerror], img[src='x'], main b b, main script").count() == 0
    cards = page.cards()
    assert {HOSTILE, *TRICKY} - {"lone \udc80 half"} <= set(cards)
    assert any(card.startswith("lone ") for card in cards)
    assert page.page.locator("#class option", has_text=HOSTILE).count() == 1
    assert HOSTILE in page.text("#reasons") and HOSTILE in page.text("#classes")
    for name in (HOSTILE, *TRICKY[:3]):
        page.page.locator("#name").fill(name)
        assert page.cards() == [name]
        page.page.locator(".card").click()
        assert page.page.locator("#large-title").text_content() == name
        page.page.keyboard.press("Escape")
    assert {path.name for path in (page.report / "pictures").iterdir()} == {"0"}
    assert all(path.name.split("-")[0].isdecimal() for path in (page.report / "pictures/0").iterdir())


def test_the_worst_come_first_where_there_is_truth(page: Page) -> None:
    assert page.page.locator("#sort option:checked").text_content() == "IoU, worst first"
    assert page.cards()[:2] == ["shot2", "shot10"]  # those without truth after them


def test_filters_and_sorting(page: Page) -> None:
    count = page.page.locator("#count")
    assert count.text_content() == "12 images" and count.get_attribute("role") == "status"
    page.page.locator("#class").select_option(label="cat")
    assert page.cards() == ["shot2", "shot10", "broken"] and count.text_content() == "3 of 12 images"
    page.page.locator("#sort").select_option(label="name")
    assert page.cards() == ["broken", "shot2", "shot10"]  # 2 before 10
    page.page.locator("#sort").select_option(label="confidence, lowest first")
    assert page.cards() == ["shot2", "shot10", "broken"]
    page.page.locator("#sort").select_option(label="confidence, highest first")
    assert page.cards() == ["shot10", "shot2", "broken"]
    page.page.locator("#status").select_option(label="failed (1)")
    assert page.cards() == ["broken"] and HOSTILE in page.text(".card .why")
    page.page.locator("#class").select_option("")
    page.page.locator("#status").select_option(label="a label without pixels (1)")
    assert page.cards() == ["shot2"] and "none" in page.text(".card")
    page.page.locator("#status").select_option("")
    page.page.locator("#name").fill("SHOT")
    assert page.cards() == ["shot10", "shot2"]
    page.page.locator("#name").fill("ot1")
    assert page.cards() == ["shot10"]
    page.page.locator("#name").fill("CAF\u00c9")
    assert page.cards() == ["sub/cafe\u0301"], "letters and their accents are apart on macOS"
    page.page.locator("#name").fill("nothing")
    assert page.cards() == [] and page.text("#more") == "No image fits."


def test_masks_that_do_not_fit_their_labels(browser: Any, tmp_path: Path) -> None:
    speck, nothing = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    speck[0, :3] = 1
    masks = {
        "speck": (("cat",), speck),
        "two": (("cat", "dog"), nothing),
        "good": (("cat",), speck + 1),
        "bare": ((), nothing),
    }
    write_report(hand_run(tmp_path, masks))
    page = Page(browser, tmp_path / "m-report")
    assert "2 images with a mask show classes at less than 1 % of the pixels." in page.text("#note")
    page.page.locator("#status").select_option(label="a label without pixels (1)")
    assert page.cards() == ["two"]
    page.page.locator("#status").select_option(label="less than 1 % of a class (2)")
    page.page.locator("#sort").select_option(label="name")
    assert page.cards() == ["speck", "two"]
    share = f"{300 / speck.size:.1f} % of the pixels show a class"
    assert page.page.locator(".misfit").all_text_contents() == [
        share,
        "no pixel of cat, dog; 0 % of the pixels show a class",
    ]
    page.page.locator(".card").first.click()
    assert page.text("#reason") == share
    page.close()


def test_labels_by_clip_have_their_scores(browser: Any, tmp_path: Path) -> None:
    half, nothing = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    half[:, : SIZE[1] // 2] = 1
    masks = {"sure": (("cat",), half), "less": (("cat", "dog"), half), "none": ((), nothing), "given": (("cat",), half)}
    scores = {"sure": {"cat": 0.912}, "less": {"cat": 0.5, "dog": 0.3}, "none": {}}
    write_report(hand_run(tmp_path, masks, scores=scores))
    page = Page(browser, tmp_path / "m-report")
    page.page.locator("#sort").select_option(label="score of a label, lowest first")
    assert page.cards() == ["less", "sure", "given", "none"]
    chips = [page.page.locator(".card").nth(place).locator(".chip").all_text_contents() for place in range(3)]
    assert chips == [["cat score 0.50, 50 %", "dog score 0.30, none"], ["cat score 0.91, 50 %"], ["cat 50 %"]]
    names, values = (page.page.locator(f"#tiles {tag}").all_text_contents() for tag in ("dt", "dd"))
    figures = dict(zip(names, values, strict=True))
    assert figures["with labels by CLIP"] == "3" and figures["of these nothing found"] == "1"
    page.page.locator("#status").select_option(label="nothing of the list found (1)")
    assert page.cards() == ["none"] and page.text(".card small") == "nothing found"
    page.close()


def test_other_ways_to_filter(page: Page) -> None:
    page.page.locator("#classes button", has_text="cat").click()
    assert page.cards() == ["shot2", "shot10", "broken"]
    page.page.locator("#reasons button", has_text="skipped").click()
    assert page.cards() == ["left out"]
    page.page.locator("#view").select_option("overlay")
    page.page.locator("#status").select_option("0")
    shown = page.page.locator(".card").first.locator("img:visible")
    assert shown.count() == 1 and shown.get_attribute("class") == "overlay"


def test_pictures_are_there(page: Page) -> None:
    page.until("[...document.images].filter(i => i.complete).length >= 4")
    assert page.page.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).length") == 0
    first = page.page.locator(".card").first.locator("img")
    assert first.count() == 4 and page.page.locator(".card img:not([loading=lazy])").count() == 0
    places = [f"{share}% 0px" for share in ("0", "33.3333", "66.6667", "100")]
    assert first.evaluate_all("images => images.map(image => image.style.objectPosition)") == places


def test_the_large_view_by_keyboard_alone(page: Page) -> None:
    keyboard = page.page.keyboard
    page.page.locator("#sort").select_option(label="name")
    page.page.locator("#name").fill("shot")
    page.page.locator("#view").focus()
    keyboard.press("Tab")
    keyboard.press("Enter")
    title, position = page.page.locator("#large-title"), page.page.locator("#position")
    assert title.text_content() == "shot2" and position.text_content() == "1 of 2"
    keyboard.press("ArrowRight")
    assert title.text_content() == "shot10" and position.text_content() == "2 of 2"
    keyboard.press("ArrowRight")
    assert title.text_content() == "shot10"
    opacity = "document.querySelector('.layer:not([hidden])').style.opacity"
    assert page.page.evaluate(opacity) == "0.6"
    keyboard.press("+")
    assert page.page.evaluate(opacity) == "0.7"
    keyboard.press("-")
    keyboard.press("-")
    assert page.page.evaluate(opacity) == "0.5"
    layer = "document.querySelector('.layer:not([hidden])').id"
    for key, name in (("t", "truth"), ("c", "confidence"), ("m", "mask")):
        keyboard.press(key)
        assert page.page.evaluate(layer) == f"layer-{name}"
        assert page.page.locator("#layers [aria-pressed=true]").text_content() == name
    page.page.locator("#blend").focus()
    keyboard.press("ArrowLeft")  # moves the slider, not the image
    assert title.text_content() == "shot10" and page.page.evaluate(opacity) == "0.49"
    for _ in range(12):  # the focus stays inside, or with the browser's own bars
        keyboard.press("Tab")
        assert page.page.evaluate("document.activeElement === document.body || large.contains(document.activeElement)")
    keyboard.press("Escape")
    assert not page.page.evaluate("large.open")
    page.until("document.activeElement.textContent.startsWith('shot10')")  # the browser tells of the closing later
    page.until("[...document.images].every(i => i.complete || i.loading === 'lazy')")


def test_a_failure_in_the_large_view(page: Page) -> None:
    page.page.locator("#status").select_option(label="failed (1)")
    page.page.locator(".card").click()
    assert HOSTILE in page.text("#reason") and page.page.locator("#stage").is_hidden()
    page.page.keyboard.press("t")
    assert page.page.locator("#next").is_disabled() and page.page.locator("#previous").is_disabled()
    page.page.locator("#close").click()
    assert not page.page.evaluate("large.open")


CONTRAST = """() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, place) => sum + v * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found[3] === 1) return found;
    }
    throw new Error("no background");
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), low = [];
  let seen = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, left = element.closest(":disabled, .skip, script, noscript");
    if (left || !walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    seen += 1;
    if ((a + 0.05) / (b + 0.05) < 4.5) low.push([walker.currentNode.data, (a + 0.05) / (b + 0.05)]);
  }
  return [seen, low];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(browser: Any, report: Path, scheme: str) -> None:
    page = Page(browser, report, color_scheme=scheme)
    dark = page.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 21, 24)"
    assert dark == (scheme == "dark")
    page.page.locator("summary").evaluate_all("all => all.forEach(one => { one.parentElement.open = true; })")
    for place in ("main", "dialog"):
        if place == "dialog":
            page.page.locator(".card").first.click()
        seen, low = page.page.evaluate(CONTRAST)
        assert seen > 100 and low == []
    page.close()


@pytest.mark.parametrize("width", [320, 400, 1400])
def test_nothing_scrolls_sideways(browser: Any, report: Path, width: int) -> None:
    page = Page(browser, report, viewport={"width": width, "height": 800})
    page.page.locator("summary").evaluate_all("all => all.forEach(one => { one.parentElement.open = true; })")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    page.page.locator(".card").first.click()
    assert page.page.evaluate("large.scrollWidth <= large.clientWidth && large.clientWidth <= innerWidth")
    page.close()


@pytest.mark.slow
def test_ten_thousand_images(browser: Any, report: Path, tmp_path: Path) -> None:
    """Only the data are of 10,000: what is counted is what the page makes of them, not how long it takes."""
    many = tmp_path / "many"
    shutil.copytree(report, many)
    first = rows(report)[0]
    made = [[0, f"image {index}", *first[2:7], index / 10_000, *first[8:]] for index in range(10_000)]
    text = ",\n".join(map(script_json, made))
    (many / "data/rows.js").write_text(f"window.rows = [\n{text},\n];\n")
    page = Page(browser, many)
    nodes = "document.querySelectorAll('*').length"
    assert page.text("#count") == "10,000 images" and page.page.evaluate(nodes) < 2500
    page.page.locator("#sort").select_option(label="confidence, highest first")
    assert page.cards()[0] == "image 9999" and page.page.evaluate(nodes) < 2500
    page.page.locator("#name").fill("999")
    assert page.text("#count") == "19 of 10,000 images" and len(page.cards()) == 19
    page.page.locator("#name").fill("")
    assert len(page.cards()) == 24
    page.page.locator("#more button", has_text="Show 9,976 more").click()
    before = len(page.cards())
    page.page.locator(".card").last.scroll_into_view_if_needed()
    page.until(f"document.querySelectorAll('.card').length > {before}")
    assert len(page.cards()) <= before + 180
    page.page.locator(".card").first.click()
    for _ in range(3):
        page.page.keyboard.press("ArrowRight")
    assert page.text("#position") == "4 of 10,000"
    page.page.evaluate("for (let clicks = 0; clicks < 400; clicks += 1) next.click()")
    assert page.text("#position") == "404 of 10,000"
    page.page.keyboard.press("Escape")
    page.until("document.activeElement.textContent.startsWith('image 9596')")  # the browser tells of the closing later
    page.close()


@pytest.mark.slow
def test_the_gallery_goes_on_where_its_end_stays_in_sight(browser: Any, report: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    shutil.copytree(report, many)
    first = rows(report)[0]
    text = ",\n".join(script_json([0, f"image {index}", *first[2:4], 64, 32, *first[6:]]) for index in range(1000))
    (many / "data/rows.js").write_text(f"window.rows = [\n{text},\n];\n")
    page = Page(browser, many, viewport={"width": 2500, "height": 8000})
    page.page.locator("#view").select_option("overlay")  # its first cards do not fill this window
    page.page.locator("#more button").click()
    page.page.locator("#name").fill("999")
    assert page.cards() == ["image 999"]
    page.page.wait_for_timeout(300)  # until the observer has seen the end
    page.page.locator("#name").fill("")
    page.until("document.querySelectorAll('.card').length > 60")
    assert len(page.cards()) < 500
    page.close()


def test_a_sample_is_said_to_be_one(browser: Any, report: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    write_report(report.parent / "m", few, limit=4)
    page = Page(browser, few)
    assert page.text("#sample").startswith("An even sample: 2 of the 10 images with a mask, 2 of the 2 images without.")
    assert page.text("#count") == "4 images" and page.page.evaluate("report.counts.ok") == 10
    assert page.page.locator("#sort option:checked").text_content() == "name"
    page.close()


def test_a_run_of_nothing(browser: Any, tmp_path: Path) -> None:
    run = hand_run(tmp_path, {}, [Row("x", "failed", "empty")])
    Image.new("RGB", (4, 4)).save(tmp_path / "photos/x.png")
    write_report(run)
    page = Page(browser, tmp_path / "m-report")
    assert page.cards() == ["x"] and page.page.locator("#charts svg").count() <= 1
    page.close()
