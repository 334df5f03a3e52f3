#!/usr/bin/env python
"""Screenshots of the web page, in a headless Chromium at 390 and 1440 pixels, light and dark.

    OMP_NUM_THREADS=1 python tools/screenshots.py --output output/screenshots

Needs the extra 'web', selenium, and Chromium with its driver (apt install chromium
chromium-driver). Each view of the page, before and after a segmentation, is one PNG.
"""

import argparse
import base64
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from web_checks.browser import chromium, missing
from web_checks.page import Page
from web_checks.server import running_server

WIDTHS = (390, 1440)
SCHEMES = ("light", "dark")


def main() -> int:
    parser = argparse.ArgumentParser(description="Screenshots of the web page.")
    parser.add_argument("--output", type=Path, default=Path("output/screenshots"))
    parser.add_argument("--url", help="a server that runs already (default: starts one)")
    options = parser.parse_args()
    if problem := missing():
        sys.stderr.write(f"error: {problem}\n")
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    if options.url:
        take_all(options.url, options.output)
    else:
        with running_server() as server:
            take_all(server.url, options.output)
    return 0


def take_all(url: str, folder: Path) -> None:
    """Writes all screenshots to a folder."""
    for width, scheme in product(WIDTHS, SCHEMES):
        with chromium(width=width, height=900) as driver:
            media = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
            page = Page(driver, url)
            for name in views(page):
                shot = driver.execute_cdp_cmd(
                    "Page.captureScreenshot", {"captureBeyondViewport": True}
                )
                path = folder / f"{name}_{width}_{scheme}.png"
                path.write_bytes(base64.b64decode(shot["data"]))
                sys.stdout.write(f"{path}\n")


def views(page: Page) -> Iterator[str]:
    """Brings the page into one state after the other; yields the name of each."""
    page.open()
    yield "start"
    page.segment()
    yield "panoptic"
    page.point_at(".legend li:nth-child(4) .entry")
    yield "highlighted"
    page.choose_task("instance")
    page.segment()
    yield "instance"
    page.type_words("red circle; dog; red circle")
    yield "mistake"


if __name__ == "__main__":
    sys.exit(main())
