"""skipdit report"""

from pathlib import Path
from typing import Annotated

import typer

from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import say, show, show_json, table


@app.command()
def report(
    target: options.RecipeArgument = None,
    recipe: options.Recipe = None,
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="md, csv, tex, html; comma-separated. Else md and csv, if the folder takes them.",
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Compare with the paper: exit code 5 if a number is outside the tolerance of its "
            "column, 3 if there is none to compare.",
        ),
    ] = False,
    diff: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--diff",
            metavar="OLD NEW",
            help="Compare two results folders, two folders of tables or two CSV or JSON files, as "
            "they were written; of RECIPE only, if one is given. Exit code 5 if a number moved by "
            "more than its uncertainty or is gone.",
        ),
    ] = None,
    scale: options.Scale = "auto",
    results: options.Root = "results",  # type: ignore[assignment]
    override: options.Override = None,
    json: options.Json = False,
) -> None:
    """Put what is on disk beside the paper's values; computes no new score."""
    from skipdit_cli.errors import StoreError, UsageError, warn

    recipe = options.recipe_named(target, recipe)
    if diff:
        if check or override or scale != "auto":
            fix = "leave --check, --set and --scale out"
            raise UsageError("tables are compared as they were written", place="--diff", fix=fix)
        _diff(*diff, recipe=recipe, json=json)
        return
    if recipe is None:
        fix = "name one (skipdit ls recipes), or give --diff; see skipdit report --help"
        raise UsageError("no recipe", place="skipdit report", fix=fix)
    from skipdit_cli import report as reports
    from skipdit_cli.recipe import runs
    from skipdit_cli.report.check import check as compare
    from skipdit_cli.report.check import require
    from skipdit_cli.report.gallery import Behind
    from skipdit_cli.report.markdown import to_markdown
    from skipdit_cli.report.publish import records
    from skipdit_cli.report.recipe import build_recipe_table

    chosen = options.recipe_at(recipe, scale, override)
    built = build_recipe_table(chosen, root=results)
    verdict = compare(built, chosen) if check else None
    behind = Behind(results, [run for _, _, run in runs.of_recipe(chosen)])
    paths, unwritten = [], None
    try:
        reports.keep_numbers(built, results / chosen.folder, name=chosen.name)
        paths = reports.write_table(
            built,
            results / chosen.folder,
            name=chosen.name,
            formats=(formats or "md,csv").split(","),
            behind=behind,
        )
    except StoreError as error:
        if results.exists() and not results.is_dir():
            raise
        unwritten = error
    if json:
        content = {"rows": records(built, behind), "files": [str(path) for path in paths]}
        show_json(content | ({"check": verdict.record()} if verdict else {}))
    else:
        show(to_markdown(built))
    if unwritten and formats:
        raise unwritten
    if unwritten:
        fix = "the table is printed all the same"
        warn(f"no files ({unwritten.problem})", place=unwritten.place, fix=fix)
    for path in paths:
        say(f"wrote {path}")
    if verdict:
        if not json:
            show(f"{verdict}.")
        require(verdict, chosen)


def _diff(old: Path, new: Path, *, recipe: str | None, json: bool) -> None:
    """Print what changed between tables; of what is new, rows and tables only."""
    from skipdit_cli.report.diff import LOST, diff, record, require

    difference = diff(old, new, name=Path(recipe).stem if recipe else "")
    changes = difference.of(*LOST, "within", "new")
    headings = ("", "table", "row", "column", "old", "new", "first changed")
    rows = [
        (
            *(each.kind, each.table, each.row, each.column),
            *(_short(each.old), _short(each.new), each.cause),
        )
        for each in changes
        if each.kind != "new" or not each.column
    ]
    if json:
        show_json(record(difference))
    else:
        show(f"{table(headings, rows)}\n\n{difference}." if rows else f"{difference}.")
    require(difference)


def _short(number: float | None) -> str:
    return "" if number is None else f"{number:.7g}"
