"""skipdit report"""

from typing import Annotated

import typer

from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import say, show, show_json


@app.command()
def report(
    recipe: Annotated[str, typer.Argument(help="A recipe or a YAML file.")],
    formats: Annotated[str, typer.Option("--format", help="md, csv; comma-separated.")] = "md,csv",
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Compare with the paper: exit code 5 if a number is outside the tolerance of its "
            "column, 3 if there is none to compare.",
        ),
    ] = False,
    scale: options.Scale = "auto",
    results: options.Root = "results",  # type: ignore[assignment]
    override: options.Override = None,
    json: options.Json = False,
) -> None:
    """Put what is on disk beside the paper's values; computes no new score."""
    from skipdit_cli import report as reports
    from skipdit_cli.report.check import check as compare
    from skipdit_cli.report.check import require
    from skipdit_cli.report.markdown import to_markdown
    from skipdit_cli.report.publish import records
    from skipdit_cli.report.table import build

    chosen = options.recipe_at(recipe, scale, override)
    table = build(chosen, root=results)
    found = compare(table, chosen) if check else None
    paths = reports.write(
        table, results / chosen.scale, name=chosen.name, formats=formats.split(",")
    )
    if json:
        content = {"rows": records(table), "files": [str(path) for path in paths]}
        show_json(content | ({"check": found.record()} if found else {}))
    else:
        show(to_markdown(table))
    for path in paths:
        say(f"wrote {path}")
    if found:
        if not json:
            show(f"{found}.")
        require(found, chosen)
