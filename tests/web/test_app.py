"""The application: what each request gets, and what it leaves behind."""

import asyncio
import base64
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks
from starlette.testclient import TestClient

from frozenseg.data.images import read_image
from frozenseg.inference.segmenter import Segmenter
from frozenseg.web import app
from frozenseg.web.app import STATIC, build_app
from frozenseg.web.limits import DEFAULT_LIMITS
from frozenseg.web.line import Line
from frozenseg.web.service import Service

URL = "http://127.0.0.1"
WORDS = "dotted green circle; striped cyan heart; lava [stuff]; gravel [stuff]; sand [stuff]"


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(build_app(service, hosts=["127.0.0.1"]), base_url=URL) as client:
        yield client


@pytest.fixture
def scene(service: Service) -> bytes:
    return service.examples[0].png


def address(words: str, task: str = "panoptic") -> str:
    return f"/segment?words={quote(words)}&task={task}"


def lines_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_page_says_that_the_miniature_knows_drawn_shapes_only(client: TestClient) -> None:
    page = client.get("/").text
    assert "it knows drawn shapes only" in page
    assert page.count('class="example"') == 4


def test_the_page_of_another_model_offers_its_tasks_and_no_examples(shapes: Segmenter) -> None:
    service = Service(shapes, name="<b>mine</b>", miniature=False)
    service.tasks = ["semantic"]
    page = TestClient(build_app(service)).get("/").text
    assert "drawn shapes" not in page and 'class="example"' not in page
    assert page.count('name="task"') == 1
    assert "&lt;b&gt;mine" in page and "<b>mine" not in page


def test_the_page_refers_to_its_own_files_only(client: TestClient) -> None:
    page = client.get("/")
    texts = [page.text, *(path.read_text("utf-8") for path in STATIC.iterdir())]
    namespaces = 'xmlns="http://www.w3.org/2000/svg"'
    assert not any("://" in text.replace(namespaces, "") for text in texts)
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_result_equals_that_of_the_segmenter(
    client: TestClient, shapes: Segmenter, scene: bytes
) -> None:
    answer = client.post(address(WORDS), content=scene)
    place, last = lines_of(answer.text)
    assert place["place"] == 0
    expected = shapes(Image.open(BytesIO(scene)), WORDS)
    result = last["result"]
    assert [each["name"] for each in result["segments_info"]] == list(expected.names)
    for segment, mask in zip(result["segments_info"], expected.masks, strict=True):
        decoded = coco_masks.decode(segment["segmentation"]).astype(bool)
        np.testing.assert_array_equal(decoded, mask)
    marks = {each["name"]: each["seen"] for each in result["segments_info"]}
    assert marks["sand"] and not marks["lava"]
    assert result["original_size"] == [256, 256]


@pytest.mark.parametrize("task", ["semantic", "instance"])
def test_each_task_has_masks_colours_and_scores_where_they_exist(
    client: TestClient, scene: bytes, task: str
) -> None:
    result = lines_of(client.post(address(WORDS, task), content=scene).text)[-1]["result"]
    assert result["task"] == task and result["segments_info"]
    for segment in result["segments_info"]:
        assert len(segment["color"]) == 3
        assert (segment["score"] is None) == (task == "semantic")


def test_a_large_image_is_segmented_at_its_reduced_size(shapes: Segmenter) -> None:
    limits = DEFAULT_LIMITS._replace(segmented_pixels=64 * 64)
    service = Service(shapes, name="shapes", miniature=True, limits=limits)
    answer = TestClient(build_app(service)).post(address("sky"), content=service.examples[0].png)
    result = lines_of(answer.text)[-1]["result"]
    assert (result["height"], result["width"]) == (64, 64)
    assert result["original_size"] == [256, 256]


@pytest.mark.parametrize(
    ("target", "content", "sentence"),
    [
        (address(WORDS), b"hello", "the data is not an image"),
        (address(WORDS), b"", "the image is empty"),
        (address(""), b"x", "no class names"),
        (address("a; a"), b"x", "appears twice"),
        (address("a", "depth"), b"x", "there is no task 'depth'"),
    ],
)
def test_a_mistake_is_answered_with_one_sentence(
    client: TestClient, target: str, content: bytes, sentence: str
) -> None:
    answer = client.post(target, content=content)
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]


def test_an_upload_with_too_many_bytes_is_refused(shapes: Segmenter) -> None:
    limits = DEFAULT_LIMITS._replace(upload_bytes=1 << 20)
    service = Service(shapes, name="shapes", miniature=False, limits=limits)
    with TestClient(build_app(service)) as client:
        answer = client.post(address("sky"), content=bytes(3 << 20))
    assert answer.status_code == 400
    assert answer.json()["error"] == "the image has more than 1 MB: make it smaller"


def test_classes_that_the_text_encoder_confuses_end_the_stream_with_a_sentence(
    client: TestClient, scene: bytes
) -> None:
    last = lines_of(client.post(address("red star; Red Star"), content=scene).text)[-1]
    assert "equal text embeddings" in last["error"]


def test_a_failure_of_the_model_is_logged_and_told_without_its_details(
    client: TestClient,
    service: Service,
    scene: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("a secret path")

    monkeypatch.setattr(service, "segment", fail)
    answer = client.post(address("sky"), content=scene)
    assert lines_of(answer.text)[-1] == {
        "error": "the model failed on this image: the server's log says why"
    }
    assert "a secret path" in caplog.text


def test_a_busy_server_says_so_and_tells_places_in_line(
    shapes: Segmenter, scene: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = DEFAULT_LIMITS._replace(waiting=2)
    service = Service(shapes, name="shapes", miniature=True, limits=limits)
    runs, release = threading.Event(), threading.Event()

    def slow(*_arguments: object) -> dict[str, object]:
        runs.set()
        assert release.wait(30)
        return {"segments_info": []}

    lines: list[Line] = []
    monkeypatch.setattr(service, "segment", slow)
    monkeypatch.setattr(app, "Line", lambda length: lines.append(Line(length)) or lines[0])
    with TestClient(build_app(service)) as client, ThreadPoolExecutor(2) as visitors:
        first = visitors.submit(client.post, address("sky"), content=scene)
        assert runs.wait(30)
        second = visitors.submit(client.post, address("sky"), content=scene)
        while len(lines[0]) < 2:
            time.sleep(0.01)
        busy = client.post(address("sky"), content=scene)
        assert busy.status_code == 503
        assert "the server is busy" in busy.json()["error"]
        assert int(busy.headers["retry-after"]) > 0
        release.set()
        answers = [lines_of(visit.result().text) for visit in (first, second)]
        places = [[line.get("place") for line in answer] for answer in answers]
        assert places == [[0, None], [1, 0, None]]
        assert client.post(address("sky"), content=scene).status_code == 200


def test_a_visitor_who_leaves_gives_up_the_place(service: Service, scene: bytes) -> None:
    async def scenario() -> list[int]:
        page = build_app(service)
        visits = 2 * service.limits.waiting  # more than the line is long
        return [await leave_after_upload(page, scene) for _ in range(visits)]

    assert set(asyncio.run(scenario())) == {200}


async def leave_after_upload(page: Callable, body: bytes) -> int:
    """Sends an image and disconnects at once; the status of the answer."""
    messages = iter(
        [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]
    )

    async def receive() -> dict:
        return next(messages)

    return await status_of(page, receive)


async def status_of(page: Callable, receive: Callable) -> int:
    """The status of the answer to a request whose body arrives through ``receive``."""
    statuses = []

    async def send(message: dict) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    path, _, query = address("sky").partition("?")
    scope = {"type": "http", "asgi": {"spec_version": "2.3"}, "method": "POST", "path": path}
    scope |= {"query_string": query.encode(), "headers": [(b"host", b"localhost")]}
    await page({**scope, "http_version": "1.1", "scheme": "http"}, receive, send)
    return statuses[0]


def test_an_upload_that_never_ends_gives_up_the_place(shapes: Segmenter) -> None:
    limits = DEFAULT_LIMITS._replace(upload_seconds=0.05, waiting=1)
    service = Service(shapes, name="shapes", miniature=False, limits=limits)

    async def never() -> dict:
        await asyncio.sleep(60)
        raise AssertionError("unreachable")

    async def scenario() -> list[int]:
        page = build_app(service)
        return [await status_of(page, never) for _ in range(2)]

    assert asyncio.run(scenario()) == [408, 408]


def test_other_web_sites_cannot_use_the_model(client: TestClient, scene: bytes) -> None:
    for site, status in {"cross-site": 403, "same-site": 403, "same-origin": 200}.items():
        headers = {"Sec-Fetch-Site": site}
        assert client.post(address("sky"), content=scene, headers=headers).status_code == status
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_another_host_name_is_refused(client: TestClient) -> None:
    answer = client.get("/", headers={"Host": "rebound.example"})
    assert answer.status_code == 400
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/examples/9.png"])
def test_no_other_file_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (400, 404)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/static/%00", 404),
        ("PUT", "/segment", 405),
        ("GET", "/examples/1" + "0" * 5000 + ".png", 400),
    ],
)
def test_a_request_that_the_page_never_sends_is_one_sentence(
    client: TestClient, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    sentence = answer.json()["error"]
    assert sentence and "\n" not in sentence and len(sentence) < 500


def test_a_thin_image_is_segmented_at_a_length_that_browsers_draw(
    client: TestClient, service: Service
) -> None:
    content = BytesIO()
    Image.new("1", (70_000, 1)).save(content, "PNG")
    answer = client.post(address("sand [stuff]"), content=content.getvalue())
    result = lines_of(answer.text)[-1]["result"]
    assert (result["height"], result["width"]) == (1, service.limits.segmented_side)
    assert result["original_size"] == [1, 70_000]


def test_nothing_of_a_visitor_reaches_the_disk(
    client: TestClient,
    shapes: Segmenter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FROZENSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    large = BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (900, 900, 3), dtype=np.uint8)
    Image.fromarray(noise).save(large, format="PNG")
    answer = client.post(address("sky; a word never typed before"), content=large.getvalue())
    assert "result" in lines_of(answer.text)[-1]
    assert list(tmp_path.iterdir()) == []
    assert shapes.cache_dir is None


def test_the_image_of_a_result_is_the_one_that_was_sent(client: TestClient, scene: bytes) -> None:
    result = lines_of(client.post(address("sky"), content=scene).text)[-1]["result"]
    head, _, content = result["image"].partition(",")
    assert head == "data:image/jpeg;base64"
    shown = read_image(Image.open(BytesIO(base64.b64decode(content)))).int()
    sent = read_image(Image.open(BytesIO(scene))).int()
    assert (shown - sent).abs().float().mean() < 8  # of JPEG's loss
