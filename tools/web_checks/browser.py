"""A headless Chromium for the page's tests and screenshots."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def missing() -> str | None:
    """What a browser session lacks on this machine, with the next step; None if nothing."""
    if find_spec("selenium") is None:
        return "needs selenium: pip install selenium"
    if _browser() is None or shutil.which("chromedriver") is None:
        return "needs Chromium and its driver: apt install chromium chromium-driver"
    return None


@contextmanager
def chromium(*, width: int, height: int, downloads: Path | None = None) -> "Iterator[WebDriver]":
    """A browser whose page has ``width`` x ``height`` CSS pixels.

    Requests and console messages are logged (``performance`` and ``browser``).

    Args:
        width: of the page.
        height: of the page.
        downloads: folder of downloads.
    """
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = _browser() or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    if downloads is not None:
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        yield driver
    finally:
        driver.quit()


def _browser() -> str | None:
    return next(filter(None, map(shutil.which, _BROWSERS)), None)
