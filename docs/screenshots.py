"""Take the README's pictures: drive headless Chromium over the UI, a report and the service.

Needs a home in which the demo was run, and Chromium (Debian: ``apt-get install chromium``)::

    python docs/screenshots.py
"""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageChops, ImageFilter
from playwright.sync_api import Page, sync_playwright

PICTURES = Path(__file__).parent / "pictures"
HOME = Path(__file__).parents[1] / "home"
EXPERIMENT = "C-01%7CDS-1.1.0"


def main() -> None:
    """Write every picture into ``docs/pictures``."""
    PICTURES.mkdir(exist_ok=True)
    with browser_page() as page, tempfile.TemporaryDirectory() as folder:
        page.set_viewport_size({"width": 1000, "height": 620})
        page.goto(changed_masks(Path(folder)).as_uri())
        save(page, "changes")
    with server("dev", "server_info") as address, browser_page() as page:
        lineage(page, address)
        shoot(page, f"{address}/assets/trained_model?view=partitions", "experiments", "DS-1.1.0")
        raw = f"{address}/assets/raw_images?view=partitions&partition=line-1-week-46"
        shoot(page, raw, "raw-images", "digest", open_last_markdown=True)
        report = f"{address}/assets/evaluation_report?view=partitions&partition={EXPERIMENT}"
        shoot(page, report, "evaluation", "test Dice")
        shoot(page, f"{address}/automation", "automation", "new_images")
        page.goto((HOME / "reports" / "DS-1.1.0-C-01" / "report.html").as_uri())
        save(page, "report")
        page.locator("#misses + p + .gallery button, #labels + p + .gallery button").first.click()
        page.wait_for_timeout(500)
        save(page, "report-enlarged")
    with server("serve", "readyz") as address, browser_page() as page:
        service(page, address)


def changed_masks(folder: Path) -> Path:
    """Correct two masks of a small dataset; return the page that shows the difference."""

    def run(*arguments: str) -> None:
        command = [sys.executable, "-m", "defect_assets", "--home", str(folder), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    run("import", "synthetic", "--tiles", "12", "--name", "first")
    run("ingest")
    run("cut")
    masks = folder / "inbox" / "fix" / "masks"
    masks.mkdir(parents=True)
    for name, change in [
        ("tile-0012-exp1", lambda mask: mask.filter(ImageFilter.MaxFilter(9))),
        ("tile-0006-exp1", lambda mask: ImageChops.offset(mask, 25, 10)),
    ]:
        with Image.open(folder / "inbox" / "first" / "masks" / f"{name}.png") as mask:
            change(mask).save(masks / f"{name}.png")
    (masks.parent / "_COMPLETE").touch()
    run("ingest")
    run("cut")
    run("diff", "DS-1.0.0", "DS-1.0.1", "--html", str(folder / "changes.html"))
    return folder / "changes.html"


def lineage(page: Page, address: str) -> None:
    """Show the global lineage with every group open."""
    page.set_viewport_size({"width": 1440, "height": 1010})
    page.goto(f"{address}/asset-groups/")
    page.get_by_text("production").first.wait_for()
    page.get_by_text("Hide navigation").click()
    page.locator("xpath=//input[starts-with(@placeholder, 'Jump to')]/following::button[1]").click()
    page.wait_for_timeout(2000)
    page.keyboard.press("Alt+e")  # opens all groups
    page.wait_for_timeout(3000)
    save(page, "lineage")
    page.set_viewport_size({"width": 1440, "height": 860})


def service(page: Page, address: str) -> None:
    """Drop some tiles onto the service's page."""
    page.set_viewport_size({"width": 1360, "height": 850})
    page.goto(address)
    tiles = sorted((HOME / "inbox" / "line-1-week-46" / "images").iterdir())[:9]
    page.set_input_files("#files", tiles)
    page.get_by_text("9 images · 6 ng · 3 ok").wait_for()
    save(page, "service")


def shoot(
    page: Page, address: str, name: str, wait_for: str, open_last_markdown: bool = False
) -> None:
    """Open a page, wait for a text on it, and save the picture."""
    page.goto(address)
    page.get_by_text(wait_for).first.wait_for()
    page.wait_for_timeout(2000)
    if open_last_markdown:
        page.get_by_text("[Show Markdown]").last.click()
        page.wait_for_timeout(1500)
    save(page, name)


def save(page: Page, name: str) -> None:
    """Save what is seen."""
    page.screenshot(path=PICTURES / f"{name}.png")
    print(PICTURES / f"{name}.png")


@contextmanager
def server(command: str, ready: str) -> Iterator[str]:
    """Run the UI or the service on a free port; yield its address once a path of it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    start = [sys.executable, "-m", "defect_assets", "--home", str(HOME), command, "--port"]
    process = subprocess.Popen([*start, str(port)], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{address}/{ready}", timeout=1).close()
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def browser_page() -> Iterator[Page]:
    """Open a page in headless Chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser.new_page(viewport={"width": 1440, "height": 860})
        browser.close()


if __name__ == "__main__":
    main()
