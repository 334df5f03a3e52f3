"""Hook of ``mkdocs.yml``: adds the repository's own Markdown pages to those of ``docs/``.

Links between pages are written for readers of the repository. The hook redirects those that cross
the border of ``docs/``; links to files that are no pages become plain text.
"""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig  # pyright: ignore[reportMissingImports]
from mkdocs.structure.files import File, Files  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).parents[2]
PAGES = {  # in the repository: in the site
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "datasets/README.md": "datasets.md",
}
LINK = re.compile(
    r"(!?)\[((?:[^\]\[]|\[[^\]]*\])*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)"
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages outside ``docs/``."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page, files: Files, **_: object) -> str:
    """Redirects the links of a page."""
    name = page.file.src_uri
    source = next((key for key, value in PAGES.items() if value == name), f"docs/{name}")
    known = set(files.src_uris)
    return LINK.sub(lambda link: _redirected(link, source, name, known), markdown)


def _redirected(link: re.Match[str], source: str, page: str, known: set[str]) -> str:
    image, text, target, anchor = link.groups()
    in_repository = normpath(str(PurePosixPath(source).parent / target))
    in_site = PAGES.get(in_repository, in_repository.removeprefix("docs/"))
    if in_site not in known:
        return text
    return f"{image}[{text}]({relpath(in_site, str(PurePosixPath(page).parent))}{anchor or ''})"
