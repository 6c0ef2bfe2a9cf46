"""The page of ``lenet5 serve``: its routes, and what a person does with it in a real browser."""

import hashlib
import io
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from lenet5.core import files
from lenet5.core.dataset import Description
from lenet5.model.onnx_session import DESCRIPTION, PIXELS, PROBABILITIES
from lenet5.serving import feedback_log, inference_log, predictor
from lenet5.serving.page.routes import POLICY
from lenet5.stages.evaluate import inspection
from lenet5.stages.evaluate.inspection import Inspector
from lenet5.system.state import LocalState
from lenet5.tracking import tags
from tests.conftest import Project, until
from tests.pages.axe_core import DESKTOP, findings
from tests.serving.test_service import MODEL, Running, client, images_of, npy, png, serving
from tools import browser as chromium
from tools.browser import Page

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("page")]
PNG = {"Content-Type": "image/png"}
NARROW = 360
"""CSS pixels of a small phone."""
HOSTILE = ("<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "a&amp;b", "'\"`${7*7}")
"""Names of classes that would be HTML."""
FILES = (
    "page.css",
    "page.js",
    "board.js",
    "paint.js",
    "service.js",
    "key.js",
    "docs.js",
    "docs.css",
    "icon.svg",
)


@pytest.fixture(scope="module")
def project(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return finished.copy(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def running(project: Project) -> Iterator[Running]:
    with serving(project, "--log-pixels") as service:
        yield service


def logged(service: Running) -> list[dict[str, Any]]:
    return inference_log.read_all(LocalState(service.project.root).serving / "log").to_pylist()


# --- routes ------------------------------------------------------------------------------------------------


class _Elements(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_page_has_nothing_inline_and_nothing_of_another_host(running: Running, path: str) -> None:
    answer = running.get(path)
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert "unsafe" not in POLICY
    elements = _Elements(answer.text).found
    assert not [tag for tag, _ in elements if tag == "style"]
    assert not [name for _, each in elements for name in each if name == "style" or name.startswith("on")]
    assert all(each.get("src") for tag, each in elements if tag == "script")
    for _, each in elements:
        for name in ("src", "href"):
            address = each.get(name) or ""
            assert "//" not in address
            if address.startswith("page/"):
                assert running.get(f"/{address}").status_code == 200


def test_files_are_sent_once_and_packed(running: Running) -> None:
    for path in ("/", "/docs", *(f"/page/{name}" for name in FILES), "/page/swagger-ui/swagger-ui.css"):
        first = running.get(path)
        assert first.status_code == 200
        again = running.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
    bundle = running.get("/page/swagger-ui/swagger-ui-bundle.js")
    assert int(bundle.headers["Content-Length"]) < 500_000
    assert b"SwaggerUIBundle" in bundle.content
    for path in ("/page/../routes.py", "/page/routes.py", "/page/", "/page/swagger-ui/LICENSE"):
        assert running.get(path).status_code == 404


def test_explanation_is_the_answer_of_predict_with_the_inner_values(running: Running) -> None:
    content = running.project.paths.onnx.read_bytes()
    inspector = Inspector(content)
    image = images_of(running.project)[3]
    large = png(255 - np.kron(image, np.ones((9, 9), np.uint8)))  # ink on paper, of another size
    predicted = running.post("/predict", data=large, headers=PNG).json()
    explained = running.post("/explain", data=large, headers=PNG)
    assert explained.status_code == 200
    answer = explained.json()
    for key in ("model", "version", "classes", "predictions"):
        assert answer[key] == predicted[key]
    assert answer["request_id"] == explained.headers["X-Request-Id"] != predicted["request_id"]
    model = predictor.of_onnx(1, content)
    converted = np.array(answer["image"], np.uint8)
    assert np.allclose(
        model.probabilities(converted[None])[0], predicted["predictions"][0]["probabilities"], atol=1e-6
    )
    outputs = inspector.activations(converted[None])
    assert [layer["name"] for layer in answer["layers"]] == ["C1", "C3"]
    for layer in answer["layers"]:
        output = outputs[layer["name"]][0]
        assert layer["maps"] == output.shape[-1]
        assert layer["largest"] == pytest.approx(float(output.max()), rel=1e-5)
        values = np.array(layer["values"]).transpose(1, 2, 0) / 255 * layer["largest"]
        assert np.abs(values - output.clip(0)).max() <= layer["largest"] / 255
    occlusion = inspection.occlude(inspector, converted)
    assert np.allclose(answer["occlusion"]["drop"], occlusion.drop, atol=1e-5)
    assert answer["occlusion"]["answer"] == predicted["predictions"][0]["class"]
    maps = Path(f"/proc/{running.process.pid}/maps").read_text()
    assert not [name for name in ("tensorflow", "sqlalchemy", "scipy", "matplotlib") if f"/{name}/" in maps]


def test_finished_pictures_are_logged_and_unfinished_ones_are_not(running: Running) -> None:
    image = images_of(running.project)[4]
    predicted = running.post("/predict", data=png(image), headers=PNG).json()
    previewed = [running.post("/preview", data=png(image), headers=PNG).json() for _ in range(5)]
    assert all(each["predictions"] == predicted["predictions"] for each in previewed)
    assert all(each["image"] == image.tolist() for each in previewed)
    assert not [each for each in previewed if "request_id" in each]
    explained = running.post("/explain", data=png(image), headers=PNG).json()
    assert all(each["layers"] == explained["layers"] for each in previewed)
    last = explained["request_id"]
    until(lambda: last in {row["request_id"] for row in logged(running)}, 30, "the answer is logged")
    routes = [row["route"] for row in logged(running) if row["pixels"] == image.tobytes()]
    assert sorted(routes) == ["/explain", "/predict"]  # a reader may see the log's parts in another order


@pytest.mark.parametrize("path", ["/preview", "/explain"])
def test_one_image_is_explained_and_others_are_refused(running: Running, path: str) -> None:
    images = images_of(running.project)[:2]
    assert running.post(path, data=npy(images[:1]), headers={"Content-Type": "application/x-npy"}).ok
    for options, status, says in (
        ({"data": npy(images), "headers": {"Content-Type": "application/x-npy"}}, 422, "more than one"),
        ({"data": b"x", "headers": PNG}, 422, "cannot be read"),
        ({"data": png(np.full((40, 40), 255, np.uint8)), "headers": PNG}, 422, "only background"),
        ({"data": b"x", "headers": {"Content-Type": "text/html"}}, 415, "unknown"),
        ({"data": b"x", "headers": {**PNG, "Origin": "http://evil.example"}}, 403, "origins"),
    ):
        answer = running.post(path, **options)
        assert (answer.status_code, says in answer.text) == (status, True), answer.text


def test_report_is_shown_if_it_is_the_registered_one(running: Running) -> None:
    page = running.project.paths.report
    written = page.read_bytes()
    answer = running.get("/report")
    assert answer.content == written
    assert "script-src" not in answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert running.get("/model").json()["report"] is True
    try:
        page.write_bytes(written.replace(b"Accuracy", b"Perfection"))
        assert running.get("/report").status_code == 404
        assert running.get("/model").json()["report"] is False
        own = LocalState(running.project.root).reports / f"{MODEL}-1.html"
        files.write_text(own, "what `lenet5 report` wrote")
        assert running.get("/report").text == "what `lenet5 report` wrote"
        own.unlink()
    finally:
        page.write_bytes(written)


# --- in a browser ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chrome() -> Iterator[Page]:
    if not chromium.executable():
        pytest.skip("this machine has no Chromium: `apt install chromium`")
    with chromium.fresh() as page:
        yield page.watch()


@pytest.fixture
def browser(chrome: Page) -> Iterator[Page]:
    """A browser in which every test ends without a violation, an exception and a request to another host."""
    chrome.events.clear()
    chrome.resize(DESKTOP, 900)
    chrome.send("Emulation.setTouchEmulationEnabled", enabled=False)
    yield chrome
    chrome.evaluate("sessionStorage.clear()")
    chrome.open("about:blank")
    hosts, problems = set(), []
    for event in chrome.events:
        if event["method"] == "Network.requestWillBeSent":
            address = event["params"]["request"]["url"]
            hosts.add(re.split("[/:]+", address)[1] if address.startswith("http") else "here")
        elif event["method"] == "Runtime.exceptionThrown":
            problems.append(event["params"]["exceptionDetails"])
        elif event["method"] == "Log.entryAdded" and event["params"]["entry"]["source"] == "security":
            problems.append(event["params"]["entry"])
    assert problems == []
    assert hosts <= {"127.0.0.1", "here"}


SEVEN = [(0.28 + 0.044 * step, 0.25) for step in range(11)] + [
    (0.72 - 0.02 * step, 0.25 + 0.036 * step) for step in range(1, 15)
]
ONE = [(0.5, 0.15 + 0.035 * step) for step in range(21)]
"""Strokes, as shares of the side of the drawing area."""


def opened(browser: Page, service: Running, path: str = "/", shows: str = MODEL) -> Page:
    return browser.open(service.address + path).wait_for(shows)


def on_pad(browser: Page, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return points of the drawing area in CSS pixels of the window."""
    left, top, width, height = browser.evaluate(
        """(() => {
            const pad = document.querySelector("#pad");
            pad.scrollIntoView({block: "center"});
            const box = pad.getBoundingClientRect();
            return [box.x, box.y, box.width, box.height];
        })()"""
    )
    return [(left + x * width, top + y * height) for x, y in points]


def text(browser: Page, selector: str) -> str:
    return str(browser.evaluate(f"document.querySelector({json.dumps(selector)}).textContent"))


def explained(browser: Page, answer: str) -> None:
    """Wait for an answer to a finished picture."""
    until(lambda: text(browser, "#status").startswith(f"{answer}, probability"), 30, f"the answer {answer}")
    assert text(browser, "#class") == answer
    assert browser.evaluate("document.querySelector('#labels').disabled") is False


def press(browser: Page, key: str, times: int = 1) -> None:
    for _ in range(times):
        for kind in ("keyDown", "keyUp"):
            browser.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key.replace(" ", "Space"),
                windowsVirtualKeyCode=0,
            )


def posts(browser: Page, path: str) -> int:
    return sum(
        event["params"]["request"]["url"].endswith(path)
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    )


def statuses(browser: Page) -> set[int]:
    """Return the statuses of all answers that the page got."""
    return {
        event["params"]["response"]["status"]
        for event in browser.events
        if event["method"] == "Network.responseReceived"
    }


def test_digit_is_read_while_it_is_drawn_and_logged_once(browser: Page, running: Running) -> None:
    begin = datetime.now(UTC)
    opened(browser, running)
    *stroke, end = on_pad(browser, SEVEN)
    browser.send(
        "Input.dispatchMouseEvent", type="mousePressed", x=stroke[0][0], y=stroke[0][1], button="left"
    )
    for x, y in [*stroke, end]:
        browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1)
        time.sleep(0.03)
    until(lambda: text(browser, "#class") == "7", 10, "the answer while the button is down")
    assert posts(browser, "/preview") > 2
    assert posts(browser, "/explain") == 0
    assert browser.evaluate("document.querySelectorAll('#layers canvas').length") == 6 + 16
    browser.send("Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], button="left")
    explained(browser, "7")
    assert posts(browser, "/explain") == 1
    shares = browser.evaluate(
        "[...document.querySelectorAll('.bars .share')].map((each) => each.textContent)"
    )
    assert len(shares) == 10
    assert browser.evaluate("document.querySelector('.bars .best .name').textContent") == "7"
    assert browser.evaluate("document.querySelectorAll('#layers canvas').length") == 6 + 16
    assert "C1" in browser.text()
    assert "C3" in browser.text()
    drawn = browser.evaluate(
        """[...document.querySelectorAll(".figures canvas")].filter((canvas) => {
            const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return new Set(data).size > 2;
        }).length"""
    )
    assert drawn > 10, "maps with more than one colour"
    new = until(
        lambda: [row for row in logged(running) if row["time"] > begin],
        30,
        "the answer is logged",
    )
    assert [(row["route"], row["class"]) for row in new] == [("/explain", "7")]


def test_label_reaches_the_feedback_log_with_the_id_of_the_answer(browser: Page, running: Running) -> None:
    opened(browser, running)
    assert browser.evaluate("document.querySelector('#labels').disabled") is True
    browser.drag(on_pad(browser, ONE))
    explained(browser, "1")
    browser.evaluate("document.querySelectorAll('.choice')[4].click()")
    until(lambda: "label 4" in text(browser, "#thanks"), 30, "the service accepts the label")
    labels = feedback_log.read(LocalState(running.project.root).serving / "feedback")
    row = until(
        lambda: [each for each in logged(running) if each["request_id"] == labels["request_id"].iloc[-1]],
        30,
        "the answer is logged",
    )
    assert (row[0]["class"], labels["label"].iloc[-1]) == ("1", "4")
    browser.click("Clear")
    assert text(browser, "#class") == "?"
    assert browser.evaluate("document.querySelector('#labels').disabled") is True


def test_digit_is_drawn_with_a_finger_and_the_page_does_not_scroll(browser: Page, running: Running) -> None:
    browser.resize(NARROW, 740, mobile=True)
    browser.send("Emulation.setTouchEmulationEnabled", enabled=True)
    opened(browser, running)
    points = on_pad(browser, SEVEN)
    before = browser.evaluate("scrollY")
    for kind, place in [
        ("touchStart", points[0]),
        *(("touchMove", each) for each in points),
        ("touchEnd", None),
    ]:
        touches = [{"x": place[0], "y": place[1]}] if place else []
        browser.send("Input.dispatchTouchEvent", type=kind, touchPoints=touches)
    explained(browser, "7")
    assert browser.evaluate("scrollY") == before
    assert browser.evaluate("document.documentElement.scrollWidth") <= NARROW


def test_digit_is_drawn_with_the_keyboard_alone(browser: Page, running: Running) -> None:
    opened(browser, running)
    for _ in range(8):
        press(browser, "Tab")
        if browser.evaluate("document.activeElement.id") == "pad":
            break
    assert browser.evaluate("document.activeElement.id") == "pad"
    assert browser.evaluate("getComputedStyle(document.querySelector('#pen')).display") != "none"
    press(browser, "ArrowUp", 8)
    press(browser, " ")
    assert text(browser, "#pen-status") == "Pen down"
    press(browser, "ArrowDown", 16)
    press(browser, " ")
    assert text(browser, "#pen-status") == "Pen up"
    explained(browser, "1")
    press(browser, "Delete")
    assert text(browser, "#class") == "?"


@pytest.mark.parametrize("way", ["drop", "choose"])
def test_picture_gets_the_answer_of_predict(
    browser: Page, running: Running, tmp_path: Path, way: str
) -> None:
    image = images_of(running.project)[0]
    picture = tmp_path / "digit.png"
    picture.write_bytes(png(255 - np.kron(image, np.ones((7, 7), np.uint8))))
    predicted = running.post("/predict", data=picture.read_bytes(), headers=PNG).json()
    opened(browser, running)
    if way == "drop":
        [(x, y)] = on_pad(browser, [(0.5, 0.5)])
        data = {"items": [], "files": [str(picture)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            browser.send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)
    else:
        document = browser.send("DOM.getDocument")["root"]["nodeId"]
        node = browser.send("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
        browser.send("DOM.setFileInputFiles", nodeId=node, files=[str(picture)])
    [answer] = predicted["predictions"]
    explained(browser, answer["class"])
    assert text(browser, "#says") in (f"{100 * answer['probability']:.1f}\xa0%", ">\xa099.9\xa0%")
    # a file that is no picture is refused with a message, and the page reads the next picture
    picture.write_bytes(b"no picture")
    if way == "drop":
        for kind in ("dragEnter", "dragOver", "drop"):
            browser.send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)
        browser.wait_for("cannot read digit.png")
        browser.click("Clear")
        browser.drag(on_pad(browser, ONE))
        explained(browser, "1")


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_page_has_no_serious_finding_and_fits_the_width(browser: Page, running: Running, path: str) -> None:
    for width in (NARROW, DESKTOP):
        for dark in (False, True):
            browser.resize(width, 900, dark=dark, mobile=width == NARROW)
            if path == "/":
                opened(browser, running)
                browser.drag(on_pad(browser, SEVEN))
                explained(browser, "7")
            else:
                opened(browser, running, path, "/predict")
            browser.evaluate(
                "Promise.all(document.getAnimations().map((each) => each.finished)).then(() => 0)"
            )
            found = [each for each in findings(browser) if each.impact in ("serious", "critical")]
            if path == "/docs":  # what Swagger UI draws itself is not ours
                found = [each for each in found if not all("opblock" in place for place in each.places)]
            assert found == []
            assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_page_asks_for_the_key_and_keeps_it_in_the_tab(browser: Page, project: Project) -> None:
    with serving(project, "--rate", "2", environment={"LENET5_SERVE_KEY": "secret"}) as service:
        for path in ("/model", "/report", "/openapi.json"):
            assert service.get(path).status_code == 401
        for path in ("/preview", "/explain"):
            assert service.post(path, data=b"x", headers=PNG).status_code == 401
        opened(browser, service, shows="needs its API key")
        assert MODEL not in browser.text()
        for key, shows in (("wrong", "does not know this key"), ("secret", MODEL)):
            browser.evaluate(f"document.querySelector('#key').value = {json.dumps(key)}")
            browser.click("Use it").wait_for(shows)
        browser.drag(on_pad(browser, SEVEN))
        explained(browser, "7")
        assert browser.evaluate("localStorage.length + document.cookie.length") == 0
        opened(browser, service, "/docs", "/predict")
        # a client that asks too often gets its answer later
        opened(browser, service)
        for _ in range(20):
            browser.drag(on_pad(browser, SEVEN))
            if 429 in statuses(browser):
                break
            time.sleep(0.3)
        assert 429 in statuses(browser)
        explained(browser, "7")
    browser.drag(on_pad(browser, ONE))
    browser.wait_for("The service does not answer")


# --- other data --------------------------------------------------------------------------------------------


def colour_model(description: Description) -> bytes:
    """Return a small network for RGB images of 64x64 pixels."""
    helper, tensor = onnx.helper, onnx.TensorProto
    rng = np.random.default_rng(0)
    weights = {
        "kernels": rng.normal(size=(6, 3, 5, 5)).astype(np.float32) / 255,
        "units": rng.normal(size=(6, len(description.classes))).astype(np.float32) / 8,
    }
    nodes = [
        helper.make_node("Cast", [PIXELS], ["float"], to=tensor.FLOAT),
        helper.make_node("Transpose", ["float"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["channels", "kernels"], ["maps"], name="c1"),
        helper.make_node("GlobalMaxPool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "units"], ["scores"], name="output"),
        helper.make_node("Softmax", ["scores"], [PROBABILITIES], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "photos",
        [helper.make_tensor_value_info(PIXELS, tensor.UINT8, ["N", 64, 64, 3])],
        [helper.make_tensor_value_info(PROBABILITIES, tensor.FLOAT, ["N", len(description.classes)])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {DESCRIPTION: description.model_dump_json()})
    return bytes(model.SerializeToString())


def register(project: Project, description: Description) -> None:
    """Register a downloaded file as the next version, the champion."""
    content = colour_model(description)
    digest = hashlib.sha256(content).hexdigest()
    files.write_bytes(LocalState(project.root).models / f"{digest}.onnx", content)
    registry = client(project)
    first = registry.get_model_version(MODEL, "1")
    folder = json.dumps({tags.ONNX_FILE: digest})
    version = registry.create_model_version(
        MODEL, first.source, first.run_id, tags={tags.MODEL_FOLDER: folder}
    )
    registry.set_registered_model_alias(MODEL, "champion", version.version)


def test_page_follows_to_photos_whose_classes_are_named_like_html(
    browser: Page, finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = finished.copy(tmp_path / "photos")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client(project).tracking_uri)
    with serving(project) as service:
        opened(browser, service, shows="version 1")
        register(project, Description(classes=HOSTILE, pictures="whole"))
        until(lambda: service.get("/health/ready").json()["version"] == 2, 60, "version 2 answers")
        browser.drag(on_pad(browser, SEVEN))
        browser.wait_for("version 2", "Choose a picture")
        assert text(browser, "#class") == "?", "photos are not drawn"
        assert "Report" not in browser.text()
        colours = np.random.default_rng(1).integers(0, 255, (80, 60, 3)).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(colours).save(file, "JPEG")
        picture = tmp_path / "photo.jpg"
        picture.write_bytes(file.getvalue())
        answer = service.post("/explain", data=file.getvalue(), headers={"Content-Type": "image/jpeg"}).json()
        assert np.array(answer["image"]).shape == (64, 64, 3)
        assert (answer["occlusion"]["step"], answer["occlusion"]["patch"]) == (3, 15)
        assert np.array(answer["occlusion"]["drop"]).shape == (22, 22)
        document = browser.send("DOM.getDocument")["root"]["nodeId"]
        node = browser.send("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
        browser.send("DOM.setFileInputFiles", nodeId=node, files=[str(picture)])
        explained(browser, answer["predictions"][0]["class"])
        for name in HOSTILE:
            assert name in browser.text(), "a name is text"
        assert browser.evaluate("document.querySelectorAll('img[src=x], main script').length") == 0
        browser.evaluate("document.querySelectorAll('.choice')[0].click()")
        until(lambda: HOSTILE[0] in text(browser, "#thanks"), 30, "the service accepts the label")
        # a picture takes no ink
        browser.click("Clear")
        browser.drag(on_pad(browser, ONE))
        time.sleep(1)
        assert text(browser, "#class") == "?"
        # objects in colour, of more classes than have a button
        names = tuple(f"thing number {number}" for number in range(30))
        register(project, Description(classes=names, pictures="object"))
        opened(browser, service)
        until(lambda: service.get("/health/ready").json()["version"] == 3, 60, "version 3 answers")
        opened(browser, service, shows="version 3").wait_for("Draw something")
        browser.evaluate(
            "const tool = document.querySelector('#colour'); tool.value = '#e01020';"
            "tool.dispatchEvent(new Event('input'))"
        )
        browser.resize(NARROW, 740, mobile=True)
        before = on_pad(browser, [(0, 0)])
        browser.drag(on_pad(browser, SEVEN))
        until(lambda: text(browser, "#status").startswith("thing number"), 30, "the answer")
        assert on_pad(browser, [(0, 0)]) == before, "the drawing area stays below the finger"
        assert len(browser.evaluate("[...document.querySelectorAll('.bars li')].map(() => 0)")) == 8
        seen = browser.evaluate(
            """(() => {
                const seen = document.querySelector("#seen");
                const {data} = seen.getContext("2d").getImageData(0, 0, seen.width, seen.height);
                const places = [...Array(data.length / 4).keys()];
                const pixels = places.map((place) => [...data.slice(4 * place, 4 * place + 3)]);
                return pixels.reduce((one, other) => (other[0] > one[0] ? other : one));
            })()"""
        )
        assert np.abs(np.array(seen) - [0xE0, 0x10, 0x20]).max() < 40
        browser.evaluate("document.querySelector('#choices select').value = 'thing number 17'")
        browser.click("Send")
        until(lambda: "thing number 17" in text(browser, "#thanks"), 30, "the service accepts the label")
