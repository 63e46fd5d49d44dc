"""skipdit report"""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import _studies as studies
from skipdit_cli.cli import app
from skipdit_cli.cli._output import say, show, show_json, show_table, table

TRAINING = "training"
TABLE = "table"


class OfTraining(TyperGroup):
    """`skipdit report training` is a command of its own; all else is of a recipe or a study."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if args[:1] == [TRAINING] else [TABLE, *args])


class OfTable(TyperCommand):
    """The command that has no name beside that of its group."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **more: Any
    ) -> Any:
        return super().make_context(parent.info_name, args, parent=parent.parent, **more)


SAID = "Put what is on disk beside the paper's values, tabulate a study, or compare trainings."
reports = typer.Typer(help=SAID, cls=OfTraining)
app.add_typer(reports, name="report")


@reports.command(TABLE, cls=OfTable)
def report(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECIPE|STUDY]",
            help="A recipe (`skipdit ls recipes`) or a YAML file; or a study (`skipdit ls "
            "studies`).",
            autocompletion=complete.reported,
        ),
    ] = None,
    recipe: options.Recipe = None,
    runs: Annotated[
        str | None,
        typer.Option(
            "--runs",
            metavar="KEY,KEY",
            help="A table of these runs, by key or its beginning; --name makes it a study.",
        ),
    ] = None,
    add: Annotated[
        str | None,
        typer.Option("--add", metavar="KEY", help="Put these runs into the study as well."),
    ] = None,
    name: options.Study = None,
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
    figure: options.Figure = None,
    width: options.FigureWidth = None,
    scale: options.Scale = "auto",
    results: options.Root = "results",  # type: ignore[assignment]
    override: options.Override = None,
    json: options.Json = False,
) -> None:
    """Put what is on disk beside the paper's values, or tabulate a study; computes no new score.

    `skipdit report training RUN...` compares training runs; see its own --help.

    The table of a study is that which `cache-sweep` wrote, made again from what is on disk now. It
    stands on the timings that the study was made with, also where runs were timed again since.
    """
    from skipdit_cli.errors import StoreError, UsageError, warn
    from skipdit_cli.recipe.recipe import is_name
    from skipdit_cli.report import figures

    wanted = figures.wanted(figure, width)
    if target and recipe is None:
        target = studies.called_after(results, target)
    study_named = target and not is_name(target) and not studies.is_there(target)
    if recipe is None and (runs or add or study_named):
        given = {"check": check, "diff": diff, "set": override, "scale": scale != "auto"}
        options.refuse(given, "is for recipes", place="skipdit report")
        if target and is_name(target):
            fix = "write the rows into a recipe of your own, or leave --add and --runs out"
            raise UsageError(f"{target} is a recipe", place="--add" if add else "--runs", fix=fix)
        study = studies.reported(target, runs, add, name=name, root=results)
        studies.tabulate(study, root=results, formats=formats, figures=wanted, json=json)
        return
    options.refuse(
        {"runs": runs, "add": add, "name": name}, "is for studies", place="skipdit report"
    )
    recipe = options.recipe_named(target, recipe)
    if diff:
        if check or override or figure or width or scale != "auto":
            fix = "leave --check, --figure, --set and --scale out"
            raise UsageError("tables are compared as they were written", place="--diff", fix=fix)
        _diff(*diff, recipe=recipe, json=json)
        return
    if recipe is None:
        fix = "name one (skipdit ls recipes), or give --diff; see skipdit report --help"
        raise UsageError("no recipe", place="skipdit report", fix=fix)
    from skipdit_cli import report as tables
    from skipdit_cli.recipe import runs as known
    from skipdit_cli.report.check import check as compare
    from skipdit_cli.report.check import require
    from skipdit_cli.report.gallery import Behind
    from skipdit_cli.report.recipe import build_recipe_table

    chosen = options.recipe_at(recipe, scale, override)
    built = build_recipe_table(chosen, root=results)
    verdict = compare(built, chosen) if check else None
    behind = Behind(results, [run for _, _, run in known.of_recipe(chosen)])
    paths, unwritten = [], None
    try:
        tables.keep_numbers(built, results / chosen.folder, name=chosen.name)
        paths = tables.write_table(
            built,
            results / chosen.folder,
            name=chosen.name,
            formats=(formats or "md,csv").split(","),
            behind=behind,
        )
        if wanted:
            paths += figures.draw(
                built, behind, results / chosen.folder, name=chosen.name, figures=wanted
            )
    except StoreError as error:
        if results.exists() and not results.is_dir():
            raise
        unwritten = error
    checked = {"check": verdict.record()} if verdict else {}
    show_table(built, behind, paths, json=json, **checked)
    if unwritten and (formats or wanted):
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
    """Print what changed between tables, table by table; of what is new, rows and tables only."""
    from skipdit_cli.report.diff import LOST, diff, record, require

    difference = diff(old, new, name=Path(recipe).stem if recipe else "")
    if json:
        show_json(record(difference))
        require(difference)
        return
    show(f"{difference}.")
    headings = ("", "row", "column", "old", "new", "first changed")
    for name, changed in difference.by_table.items():
        rows = [
            (each.kind, each.row, each.column, _short(each.old), _short(each.new), each.cause)
            for each in changed.of(*LOST, "within", "new")
            if each.row and (each.kind != "new" or not each.column)
        ]
        whole = next((each.kind for each in changed.changes if not each.row), "")
        show(
            f"\n{name}: {whole or changed.counts}"
            + (f"\n\n{table(headings, rows)}" if rows else "")
        )
    if same := sorted(difference.shared.keys() - difference.by_table.keys()):
        show(f"\nthe same: {', '.join(same)}")
    if difference.left_out:
        where = "left out, for nothing of their runs is there; name a recipe or two files"
        show(f"\n{where}: {', '.join(difference.left_out)}")
    require(difference)


def _short(number: float | None) -> str:
    return "" if number is None else f"{number:.7g}"
