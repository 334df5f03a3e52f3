"""What a visitor does on the page, for tests and screenshots."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver
    from selenium.webdriver.remote.webelement import WebElement

PATIENCE = 60  # seconds for one step on a loaded machine


class Page:
    """The page in a browser.

    Args:
        driver: the browser.
        url: of the server.
    """

    def __init__(self, driver: "WebDriver", url: str) -> None:
        self.driver, self.url = driver, url

    def open(self, query: str = "") -> None:
        """Loads the page and waits until the class names are checked."""
        self.driver.get(self.url + query)
        self.wait(lambda: self.text("#words-check"))

    def find(self, selector: str) -> "WebElement":
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> "list[WebElement]":
        return self.driver.find_elements("css selector", selector)

    def text(self, selector: str) -> str:
        return self.find(selector).text

    def wait(self, condition: Callable[[], object]) -> None:
        """Waits until a condition holds."""
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, PATIENCE, poll_frequency=0.1).until(lambda _: condition())

    def point_at(self, selector: str, x: int = 0, y: int = 0) -> None:
        """Moves the mouse to an element, ``x`` and ``y`` pixels from its centre."""
        from selenium.webdriver import ActionChains

        mouse = ActionChains(self.driver)
        mouse.move_to_element_with_offset(self.find(selector), x, y).perform()

    def type_words(self, words: str) -> None:
        """Replaces the class names and waits for the check of the new ones."""
        field = self.find("#words")
        self.driver.execute_script("document.querySelector('#words-check').textContent = ''")
        field.clear()
        field.send_keys(words)
        self.wait(lambda: self.text("#words-check"))

    def upload(self, *paths: Path) -> None:
        """Chooses image files."""
        self.find("#files").send_keys("\n".join(str(path) for path in paths))
        self.wait(lambda: len(self.all(".thumbnail")) >= len(paths))

    def choose_task(self, task: str) -> None:
        self.driver.execute_script(
            "document.querySelector(arguments[0]).click()", f"input[value={task}]"
        )

    def segment(self) -> str:
        """Presses the button and waits for the end; returns the status."""
        self.wait(lambda: self.find("#run").is_enabled())
        self.find("#run").click()
        self.wait(lambda: self.text("#run") == "Segment")
        return self.text("#status")

    def summary(self) -> str:
        return self.text("#summary")

    def shown_names(self) -> list[str]:
        """Names of the legend's entries that are not hidden."""
        return [each.text for each in self.all(".entry[aria-pressed=true] .name")]
