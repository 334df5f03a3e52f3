"""``frozenseg figure``: the paper's figures and a diagnosis of errors, as PNG files."""

import typer

from frozenseg.cli.figure.attention import attention
from frozenseg.cli.figure.clusters import clusters
from frozenseg.cli.figure.compare import compare
from frozenseg.cli.figure.diagnosis import diagnosis

app = typer.Typer(
    no_args_is_help=True,
    help="Draw the paper's figures as PNG files.\n\nExample: frozenseg figure compare",
)
app.command()(compare)
app.command()(attention)
app.command()(clusters)
app.command()(diagnosis)
