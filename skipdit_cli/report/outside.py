"""The table of what other tools made: a line for each place, a column for each metric."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.report import notes
from skipdit_cli.report.gallery import (
    GalleryColumn,
    Group,
    draft,
    filled,
    picture,
    sample_label,
)
from skipdit_cli.report.table import (
    Cell,
    Line,
    Table,
    commands,
    in_order,
    known_to,
    metric_heading,
    one_protocol,
    score_status,
    summary,
)

if TYPE_CHECKING:
    from skipdit_cli.score.outside import Outside
    from skipdit_cli.score.sources import Source
    from skipdit_cli.storage.results import Result

    Scored = Sequence[tuple[Outside, Result]]


def build_outside_table(scored: "Scored") -> Table:
    """The table of scores, in the order in which samples and metrics come."""
    headings = tuple(map(metric_heading, in_order(result.metric for _, result in scored)))
    by_place: dict[str, dict[str, Result]] = {}
    for given, result in scored:
        by_place.setdefault(str(given.samples.path), {})[result.metric] = result
    lines = one_protocol(
        Line(
            names=(place,),
            cells=tuple(_cell(results.get(heading.metric)) for heading in headings),
            runs=tuple(dict.fromkeys(result.run for result in results.values())),
            point=place,
        )
        for place, results in by_place.items()
    )
    facts = [result.provenance for _, result in scored]
    return Table(
        title=f"Scores of {', '.join(by_place)}",
        names=("samples",),
        headings=headings,
        lines=lines,
        published=False,
        notes=(
            *compared(scored),
            *_lossy(scored),
            *notes.protocols(headings, lines),
            *notes.margins(lines),
        ),
        provenance=summary(facts),
        command=commands(facts),
    )


def groups(scored: "Scored") -> list[Group]:
    """The samples of all that pair with the reference, beside it; none where nothing does."""
    paired: dict[str, list[tuple[Outside, Result]]] = {}
    for given, result in scored:
        if registry.load("metrics", result.metric).NEEDS == "pairs":
            paired.setdefault(str(given.samples.path), []).append((given, result))
    if not paired:
        return []
    (first, _), *_ = next(iter(paired.values()))
    assert first.originals is not None  # or there would be no pairs
    columns = [GalleryColumn(str(first.reference), "", {})]
    samples = [Taken(first.originals, first.prompts)]
    for place, results in paired.items():
        scores = {result.metric: result.scores for _, result in results if result.scores}
        columns.append(GalleryColumn(place, results[0][1].run, scores))
        samples.append(Taken(results[0][0].samples, ()))
    made = draft(f"beside {first.reference}", columns, samples, count=len(first.originals))
    return filled([made]) if made else []


@dataclass(frozen=True)
class Taken:
    """The samples of a source in a gallery, called as their files are, or by their prompts."""

    source: "Source"
    prompts: tuple[str, ...]

    def label(self, index: int) -> str | None:
        if self.prompts:
            return sample_label(index, {"prompt": self.prompts[index]})
        return self.source.names[index] if self.source.names else None

    def shown(self, index: int) -> tuple[bytes, str]:
        return picture(self.source.read(index))


def compared(scored: "Scored") -> tuple[str, ...]:
    """Notes that tell how samples pair with others, and what a set is compared with."""
    pairs: dict[str, None] = {}
    sets: dict[str, dict[str, None]] = {}
    for given, result in scored:
        metric = registry.load("metrics", result.metric)
        if metric.NEEDS == "pairs":
            pairs[f"{given.samples.path} with {given.beside(metric)}"] = None
        elif beside := given.beside(metric):
            sets.setdefault(beside, {})[registry.label(result.metric)] = None
    said = "; ".join(f"{', '.join(labels)} with {beside}" for beside, labels in sets.items())
    return (
        *((f"Pairs: {'; '.join(pairs)}.",) if pairs else ()),
        *((f"Compared as sets: {said}.",) if said else ()),
    )


def _lossy(scored: "Scored") -> tuple[str, ...]:
    """One note that names the places of pairs whose files lost detail when they were coded."""
    said: dict[str, None] = {}
    for given, result in scored:
        if registry.load("metrics", result.metric).NEEDS == "pairs":
            for source in filter(None, (given.samples, given.originals)):
                if coded := source.lossy():
                    said[f"{source.path} ({coded})"] = None
    return (f"Coded with loss, which costs decibels: {', '.join(said)}.",) if said else ()


def records(scored: "Scored") -> list[dict[str, Any]]:
    """The scores as JSON can hold them: each as it is kept, with what was named."""
    from dataclasses import asdict

    return [
        {
            "samples": str(given.samples.path),
            "names": list(given.samples.names),
            "compared_with": given.beside(registry.load("metrics", result.metric)),
            **asdict(result),
        }
        for given, result in scored
    ]


def _cell(result: "Result | None") -> Cell:
    if result is None or result.value is None:
        return Cell(status=score_status(result), note=result.note if result else "")
    return Cell(
        ours=result.value,
        **known_to(result, result.unit),
        n=result.n,
        status="measured",
        protocol=result.protocol,
    )
