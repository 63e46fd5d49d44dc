"""skipdit report"""

from typing import Annotated

import typer

from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import say, show


@app.command()
def report(
    recipe: Annotated[str, typer.Argument(help="A recipe or a YAML file.")],
    formats: Annotated[
        str, typer.Option("--format", help="md, csv, tex, html; comma-separated.")
    ] = "md,csv",
    scale: options.Scale = "auto",
    results: options.Root = "results",  # type: ignore[assignment]
    override: options.Override = None,
) -> None:
    """Put what is on disk beside the paper's values; computes no new score."""
    from skipdit_cli import plan
    from skipdit_cli import report as reports
    from skipdit_cli.report.gallery import Behind
    from skipdit_cli.report.markdown import to_markdown
    from skipdit_cli.report.table import build

    chosen = options.recipe_at(recipe, scale, override)
    table = build(chosen, root=results)
    paths = reports.write(
        table,
        results / chosen.scale,
        name=chosen.name,
        formats=formats.split(","),
        behind=Behind(results, [run for _, _, run in plan.runs(chosen)]),
    )
    show(to_markdown(table))
    for path in paths:
        say(f"wrote {path}")
