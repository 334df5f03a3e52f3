"""The page in a real browser: what a visitor sees, does with mouse and keyboard, and downloads."""

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from web_checks.browser import chromium, missing
from web_checks.page import Page
from web_checks.server import running_server

from frozenseg.inference.segmentation import Segmentation
from frozenseg.inference.segmenter import Segmenter
from frozenseg.web.examples import example_scenes

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

WORDS = "dotted green circle; striped cyan heart; lava [stuff]; gravel [stuff]; sand [stuff]"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_server() as server:
        yield server.url


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(url: str, downloads: Path) -> Iterator[Page]:
    with chromium(width=1440, height=1000, downloads=downloads) as driver:
        yield Page(driver, url)


@pytest.fixture
def page(browser: Page) -> Page:
    """The page, freshly opened."""
    browser.driver.get("about:blank")
    browser.driver.get_log("performance")
    browser.driver.get_log("browser")
    browser.open()
    return browser


@pytest.fixture
def segmented(page: Page) -> Page:
    """The page with the first example segmented."""
    page.type_words(WORDS)
    assert page.segment() == "Done."
    return page


@pytest.fixture(scope="module")
def expected(shapes: Segmenter) -> Segmentation:
    return shapes(Image.open(BytesIO(example_scenes()[0].png)), WORDS)


def canvas_of(page: Page) -> str:
    return page.driver.execute_script("return document.querySelector('#canvas').toDataURL()")


def requested(page: Page) -> list[str]:
    """Addresses that the browser asked for since the last call."""
    entries = (json.loads(each["message"]) for each in page.driver.get_log("performance"))
    return [
        entry["message"]["params"]["request"]["url"]
        for entry in entries
        if entry["message"]["method"] == "Network.requestWillBeSent"
    ]


def downloaded(page: Page, folder: Path, kind: str, name: str) -> Path:
    path = folder / name
    path.unlink(missing_ok=True)
    page.find(f"[data-export={kind}]").click()
    page.wait(path.exists)
    return path


def set_score(page: Page, value: float) -> None:
    page.driver.execute_script(
        "const field = document.querySelector('#score'); field.value = arguments[0];"
        "field.dispatchEvent(new Event('input', { bubbles: true }));"
        "field.dispatchEvent(new Event('change', { bubbles: true }));",
        float(value),
    )


def test_everything_comes_from_the_server_itself_without_an_error(segmented: Page) -> None:
    hosts = {urlsplit(url).hostname for url in requested(segmented) if not url.startswith("data:")}
    hosts.discard(None)  # blob: and about:
    assert hosts == {"127.0.0.1"}
    assert segmented.driver.get_log("browser") == []


def test_the_example_is_segmented_as_the_segmenter_does(
    segmented: Page, expected: Segmentation
) -> None:
    assert segmented.shown_names() == list(expected.names)
    assert segmented.summary().startswith(f"{len(expected)} panoptic segments")
    unseen = {each.text.split("\n")[0] for each in segmented.all(".entry:has(.unseen)")}
    assert unseen == {"dotted green circle", "lava"}


def test_mistakes_in_the_words_are_shown_while_typing(page: Page) -> None:
    page.type_words("red circle; red circle")
    assert "appears twice" in page.text("#words-check")
    assert not page.find("#run").is_enabled()
    page.type_words("red circle; lava [stuff]; dog")
    assert page.text("#words-check").startswith("3 classes, 2 unseen.")
    assert "never read 'dog'" in page.text("#words-check")
    assert [each.text.split("\n") for each in page.all(".chip")][:2] == [
        ["red circle", "seen"],
        ["lava", "unseen"],
    ]
    assert page.find("#run").is_enabled()


def test_hovering_the_legend_highlights_the_segment_and_a_click_hides_it(segmented: Page) -> None:
    plain = canvas_of(segmented)
    entry = segmented.all(".entry")[1]
    segmented.point_at(".legend li:nth-child(2) .entry")
    assert canvas_of(segmented) != plain
    assert "highlighted" in entry.get_attribute("class")
    names = segmented.shown_names()
    entry.click()
    segmented.point_at("h1")
    assert segmented.shown_names() == [name for name in names if name != names[1]]
    assert canvas_of(segmented) != plain
    segmented.find("#all").click()
    segmented.driver.execute_script("document.activeElement.blur()")
    assert segmented.shown_names() == names
    assert canvas_of(segmented) == plain


def test_hovering_the_picture_tells_what_is_there(segmented: Page, expected: Segmentation) -> None:
    segment = next(each for each in expected.segments if each.name == "striped cyan heart")
    rows, columns = np.nonzero(expected.masks[expected.segments.index(segment)])
    canvas = segmented.find("#canvas")
    scale = canvas.size["width"] / expected.image.shape[1]
    x = np.median(columns) * scale - canvas.size["width"] / 2
    y = np.median(rows) * scale - canvas.size["height"] / 2
    segmented.point_at("#canvas", int(x), int(y))
    share = 100 * segment.area / expected.id_map.size
    assert segmented.text("#tip") == f"{segment.name} · {segment.score:.2f} · {share:.1f} %"
    assert segmented.text(".entry.highlighted .name") == segment.name


def test_the_slider_filters_without_another_request(
    segmented: Page, expected: Segmentation
) -> None:
    score = sorted(expected.scores)[1] + 0.005
    requested(segmented)
    set_score(segmented, score)
    bound = float(segmented.text("#score-value"))
    assert segmented.shown_names() == list(expected.above(bound).names)
    assert 0 < len(segmented.shown_names()) < len(expected)
    assert not any("segment" in url for url in requested(segmented))


def test_downloads_hold_what_is_shown(
    segmented: Page, expected: Segmentation, downloads: Path
) -> None:
    set_score(segmented, 0.9)
    shown = expected.above(0.9)
    ids = Image.open(downloaded(segmented, downloads, "ids", "example_1_ids.png"))
    np.testing.assert_array_equal(np.asarray(ids), shown.id_map)
    coco = COCO(downloaded(segmented, downloads, "coco", "example_1_coco.json"))
    for annotation, mask in zip(coco.loadAnns(coco.getAnnIds()), shown.masks, strict=True):
        np.testing.assert_array_equal(coco.annToMask(annotation), mask)
    overlay = Image.open(downloaded(segmented, downloads, "overlay", "example_1_overlay.png"))
    assert overlay.size == (1024, 1024)
    drawn = np.asarray(overlay.convert("RGB").resize((256, 256)))
    changed = np.abs(drawn.astype(int) - expected.image).mean(axis=-1)
    assert changed.mean() > 20


@pytest.mark.parametrize("task", ["semantic", "instance"])
def test_other_tasks_have_their_own_controls(page: Page, task: str) -> None:
    page.choose_task(task)
    page.segment()
    assert f"{task} segment" in page.summary()
    assert page.find("#score").is_enabled() == (task == "instance")
    assert page.find("[data-export=ids]").is_enabled() == (task == "semantic")


def test_a_file_that_is_no_image_is_told_in_one_sentence(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("no image")
    page.upload(path)
    assert (
        page.segment()
        == "notes.png: The data is not an image that can be read: give a JPEG or PNG."
    )
    assert "error" in page.find("#status").get_attribute("class")
    assert page.all(".thumbnail.failed")


def test_several_images_are_segmented_one_after_another(page: Page, tmp_path: Path) -> None:
    paths = [tmp_path / f"scene_{number}.png" for number in (1, 2)]
    for path, example in zip(paths, example_scenes()[1:], strict=False):
        path.write_bytes(example.png)
    page.upload(*paths)
    page.segment()
    assert len(page.all(".thumbnail.done")) == 2
    page.wait(page.shown_names)
    for index in range(2):  # the second is shown
        before = canvas_of(page)
        page.all(".thumbnail")[index].click()
        page.wait(lambda before=before: page.shown_names() and canvas_of(page) != before)


def test_an_image_can_be_pasted(page: Page) -> None:
    page.driver.execute_script(
        """
        const bytes = Uint8Array.from(atob(arguments[0]), (each) => each.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
        document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
        """,
        base64.b64encode(example_scenes()[3].png).decode(),
    )
    page.wait(lambda: page.all("img[alt='pasted.png']"))


def test_a_link_restores_words_and_settings(page: Page) -> None:
    page.type_words("red star; a & b = c; 100 %")
    page.choose_task("semantic")
    page.find("#names").click()
    set_score(page, 0.35)
    page.find("#link").click()
    query = "?" + urlsplit(page.driver.current_url).query
    page.driver.get("about:blank")
    page.open(query)
    assert page.find("#words").get_attribute("value") == "red star; a & b = c; 100 %"
    assert page.find("input[value=semantic]").is_selected()
    assert not page.find("#names").is_selected()
    assert page.find("#score").get_attribute("value") == "0.35"


def test_markup_in_a_link_is_text(page: Page) -> None:
    page.open("?" + urlencode({"words": "<img src=x onerror=alert(1)>", "task": "<b>"}))
    page.wait(lambda: page.all(".chip"))
    assert page.all(".chip")[0].text.startswith("<img src=x")
    assert not page.all(".chip img")


def test_the_keyboard_alone_suffices(page: Page) -> None:
    from selenium.webdriver import ActionChains, Keys

    def press(key: str) -> None:
        ActionChains(page.driver).send_keys(key).perform()

    def focus() -> dict[str, str]:
        return page.driver.execute_script(
            """
            const each = document.activeElement;
            const inside = each.matches(".hidden-input, .tasks input");
            const drawn = inside ? each.nextElementSibling : each;
            return { id: each.id, name: each.name ?? "", kind: each.className,
                     outline: getComputedStyle(drawn).outlineStyle };
            """
        )

    reached = []
    for _ in range(14):
        press(Keys.TAB)
        reached.append(focus())
        if reached[-1]["id"] == "run":
            break
    assert [each["id"] or each["name"] or each["kind"] for each in reached] == [
        "files", *4 * ["example"], "words", "chips", "task", "run",
    ]  # fmt: skip
    assert {each["outline"] for each in reached} == {"solid"}
    press(Keys.ENTER)
    page.wait(lambda: page.text("#status") == "Done.")
    for _ in range(10):
        press(Keys.TAB)
        if focus()["kind"].startswith("entry"):
            break
    count = len(page.shown_names())
    assert "highlighted" in focus()["kind"]
    press(Keys.SPACE)
    assert len(page.shown_names()) == count - 1


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_shifts_and_nothing_overflows(browser: Page, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    watch = """
        window.shift = 0;
        new PerformanceObserver((list) => {
          for (const each of list.getEntries()) window.shift += each.value;
        }).observe({ type: "layout-shift", buffered: true });
    """
    added = browser.driver.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": watch}
    )
    try:
        browser.driver.get("about:blank")
        browser.open()
        browser.type_words("red circle; red circle")
        browser.type_words("dog; cat; lava [stuff]")
        browser.segment()
        browser.choose_task("instance")
        browser.segment()
        assert browser.driver.execute_script("return window.shift") < 0.01
        wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.driver.execute_script(wide) <= 0
    finally:
        script = {"identifier": added["identifier"]}
        browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
