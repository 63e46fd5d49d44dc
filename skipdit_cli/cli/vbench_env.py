"""skipdit vbench-env"""

from typing import Annotated

import typer

from skipdit_cli.cli import app
from skipdit_cli.cli._output import say, show


@app.command("vbench-env")
def vbench_env(
    python: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="A Python 3.11 or 3.10 to make it by; else one that is found."
        ),
    ] = None,
) -> None:
    """Make VBench's own environment, with the locked versions that ship; print its Python.

    It takes 3 GB to fetch and 6 GB of disk, in the folder of downloads ($SKIPDIT_HOME/vbench-env),
    and is found there by whatever scores by VBench. One that is there is left, unless other
    versions are locked now.
    """
    from skipdit_cli.metrics.vbench import installed

    show(str(installed.make(python, tell=say)))
