"""The page in a browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser import chromium
from tests.servers.service import LiveService, live_service
from tests.service.conftest import encoded, noise

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium"),
]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    with live_service(tmp_path_factory.mktemp("page")) as service:
        yield service


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with sync_playwright() as playwright:
        browser = chromium(playwright)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, live: LiveService) -> Iterator[Page]:
    """The page, which may neither complain nor ask anybody else."""
    context = browser.new_context(viewport={"width": 1360, "height": 850})
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda r: (
            None if r.url.startswith((live.address, "blob:", "data:")) else complaints.append(r.url)
        ),
    )
    page.goto(live.address)
    expect(page.locator("#model-name")).to_have_text("v0.0.1 · torch fp32")
    yield page
    expected = page.evaluate("window.expectedErrors || 0")
    assert len(complaints) == expected, complaints
    context.close()


def drop(page: Page, files: dict[str, bytes]) -> None:
    """Drop files onto the page, as from a desktop."""
    transfer = page.evaluate_handle(
        """files => { const t = new DataTransfer();
        for (const [name, bytes] of Object.entries(files))
            t.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
        return t; }""",
        {name: list(data) for name, data in files.items()},
    )
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})


def painted(page: Page) -> int:
    """Count the pixels of the overlay that one sees."""
    return page.evaluate(
        """() => { const c = document.getElementById("overlay"); let n = 0;
        const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
        for (let i = 3; i < d.length; i += 4) if (d[i]) n++; return n; }"""
    )


def slide(page: Page, value: float) -> None:
    page.locator("#threshold").evaluate(
        "(t, v) => { t.value = v; t.dispatchEvent(new Event('input')); }", value
    )
    expect(page.locator("#threshold-value")).to_have_text(f"{value:.3f}")


def test_a_dropped_image_shows_its_defects(page: Page) -> None:
    drop(page, {"tile.png": encoded(noise())})
    expect(page.locator("#verdict")).to_have_class("ng")
    expect(page.locator("#rows tr").first).to_be_visible()
    expect(page.locator(".tag").first).to_be_visible()
    assert painted(page) > 50
    page.locator("#rows tr").nth(1).click()
    expect(page.locator("#rows tr.chosen")).to_have_count(1)
    expect(page.locator(".tag.chosen")).to_have_count(1)


def test_the_slider_changes_the_overlay_at_once_and_asks_nobody(page: Page) -> None:
    drop(page, {"tile.png": encoded(noise())})
    expect(page.locator("#verdict")).to_have_class("ng")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    before = painted(page)
    slide(page, 0.6)
    expect(page.locator("#verdict-text")).to_contain_text("1 defect")
    assert painted(page) > 2 * before
    slide(page, 0.97)
    expect(page.locator("#verdict")).to_have_class("ok")
    expect(page.locator("#rows tr")).to_have_count(0)
    assert painted(page) == 0
    page.get_by_role("button", name="Reset").click()
    expect(page.locator("#verdict")).to_have_class("ng")
    assert painted(page) == before
    assert asked == []


def test_several_images_and_a_broken_one(page: Page) -> None:
    page.evaluate("window.expectedErrors = 1")  # the browser itself notes the 415
    drop(page, {"a.png": encoded(noise()), "b.png": b"broken", "c.png": encoded(noise(seed=2))})
    expect(page.locator("#tally")).to_have_text("3 images · 2 ng · 1 error")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#name")).to_have_text("b.png")
    expect(page.locator("#verdict")).to_have_class("error")
    expect(page.locator("#verdict-text")).to_contain_text("not an image of a known format")


def test_it_is_used_by_keyboard(page: Page) -> None:
    drop(page, {"a.png": encoded(noise()), "c.png": encoded(noise(seed=2))})
    expect(page.locator("#tally")).to_have_text("2 images · 2 ng")
    before = page.locator("#threshold-value").text_content()
    page.keyboard.press("]")
    expect(page.locator("#threshold-value")).not_to_have_text(before or "")
    page.keyboard.press("d")
    assert painted(page) == 0
    page.keyboard.press("m")
    dialog = page.locator("dialog#model")
    expect(dialog).to_be_visible()
    for text in ("DS-1.0.0", "C-01", "v0.0.1", "0.500"):
        expect(dialog).to_contain_text(text)
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_visible()


def test_on_a_phone_nothing_is_wider_than_the_screen(browser, live: LiveService) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, is_mobile=True)
    page = context.new_page()
    page.goto(live.address)
    drop(page, {"a.png": encoded(noise())})
    expect(page.locator("#verdict")).to_have_class("ng")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    context.close()


def test_dark_mode_is_dark(browser, live: LiveService) -> None:
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(live.address)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(c) for c in ground[4:-1].split(",")) < 50
    context.close()


def test_it_asks_for_a_key_where_one_is_needed(browser, tmp_path: Path) -> None:
    with live_service(tmp_path, api_keys="secret") as live:
        page = browser.new_page()
        page.goto(live.address)
        expect(page.locator("dialog#key")).to_be_visible()
        page.locator("#key-value").fill("secret")
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#model-name")).to_have_text("v0.0.1 · torch fp32")
        drop(page, {"a.png": encoded(noise())})
        expect(page.locator("#verdict")).to_have_class("ng")
        page.close()
