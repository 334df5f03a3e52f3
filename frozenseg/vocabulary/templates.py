"""The prompt templates that class names are put into: ViLD's set, as OpenSeg uses it."""

from collections.abc import Sequence

from frozenseg.errors import UserError
from frozenseg.io.text import quoted

# Full stops are as published: four of the first five have none, which changes the embeddings.
VILD_TEMPLATES: tuple[str, ...] = (
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    "a photo of a small {}.",
    "a photo of a medium {}.",
    "a photo of a large {}.",
    "This is a photo of a small {}.",
    "This is a photo of a medium {}.",
    "This is a photo of a large {}.",
    "There is a small {} in the scene.",
    "There is a medium {} in the scene.",
    "There is a large {} in the scene.",
)


def check_templates(templates: Sequence[str]) -> None:
    """Refuses templates that are no sentences with one place for a class name.

    Raises:
        UserError: there is none, or one has not exactly one ``{}``, or other braces.
    """
    if not isinstance(templates, list | tuple) or not templates:
        raise UserError('templates are a list of sentences, such as ["a photo of a {}."]')
    for template in templates:
        text = template if isinstance(template, str) else ""
        if text.count("{}") != 1 or set("{}") & set(text.replace("{}", "")):
            raise UserError(
                f"the template {quoted(template)} needs exactly one {{}} for the class name and no "
                "other brace"
            )
