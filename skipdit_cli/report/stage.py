"""The samples of a page as HTML: side by side or over one another, and the scores of each.

Without a script the first samples stand below one another, and a link in the table of scores shows
another one; with it there is one at a time, chosen by its number or as the worst, median or best.
"""

from collections.abc import Sequence
from html import escape

from skipdit_cli import registry
from skipdit_cli.report.cells import number
from skipdit_cli.report.gallery import BUDGET, PIXELATED, SAMPLES, Group
from skipdit_cli.report.scores import PICKS
from skipdit_cli.report.table import decimals


def gallery(groups: Sequence[Group]) -> str:
    """All groups, with what chooses among them above."""
    if not groups:
        return "<p>No samples of these runs are on disk, so none are shown.</p>"
    choices = "".join(f"<option>{escape(group.title)}</option>" for group in groups)
    several = "" if len(groups) > 1 else " hidden"
    which = "".join(f'<option value="{each}">the {each}</option>' for each in PICKS)
    blocks = "\n".join(_group(i, group) for i, group in enumerate(groups))
    return f"""<div class="controls">
<label{several}>Reference <select id="group">{choices}</select></label>
<label>Method <select id="method"></select></label>
<span id="pick-controls" class="controls">
<label>Show <select id="which"><option value="">a sample</option>{which}</select></label>
<label>by <select id="metric"></select></label>
</span>
<label>Sample <select id="sample"></select></label>
<fieldset><legend>View</legend>
<label><input type="radio" name="view" value="side" checked> side by side</label>
<label><input type="radio" name="view" value="over"> overlay</label>
</fieldset>
<span id="clip-controls" class="controls">
<button type="button" id="play">Play</button>
<label>Frame <input type="range" id="frame" min="1" value="1">
<output id="frame-now"></output></label>
</span>
<span id="overlay-controls" class="controls">
<label>Reference <input type="range" id="mix" min="0" max="100" value="100"> method</label>
<button type="button" id="hold">Hold for the reference</button>
</span>
</div>
<p id="elsewhere" class="elsewhere" role="status" hidden></p>
{blocks}"""


def _group(place: int, group: Group) -> str:
    shown = "\n".join(_sample(place, group, index) for index in group.samples)
    small = " small" if group.side <= PIXELATED else ""
    scores = "".join(_scores(place, group, metric) for metric in group.metrics)
    if scores:
        scores = (
            '<details class="scores" open><summary>Scores of the samples</summary>'
            f"{_told(group)}{scores}</details>"
        )
    return (
        f'<div class="group{small}" data-frames="{group.frames}" data-rate="{group.rate:g}">'
        f"<h3>{escape(group.title)}</h3>\n{shown}\n"
        f'<p class="note">{_held(group)}</p>\n{scores}</div>'
    )


def _held(group: Group) -> str:
    """How many samples stand in the page, and which do not."""
    said = f"{len(group.samples)} of {group.count} samples are in this page"
    if not group.metrics:
        return f"{said}, the first."
    if not group.left:
        return f"{said}, with the worst, median and best of every run by every metric."
    return (
        f"{said}; {group.left} of those that are the worst, median or best of a run are not: "
        f"a page holds {BUDGET / 1e6:g} MB of samples."
    )


def _told(group: Group) -> str:
    if len(group.rows) == group.count:
        return ""
    return (
        f'<p class="note">Of {group.count} samples these are the first, and the worst, median and '
        "best of every run; the scores of all are in the results folder.</p>"
    )


def _name(group: Group, index: int) -> str:
    """A sample by its number and what it was to show: `#3, class 7`."""
    text = group.rows[index]
    return text if text == f"#{index}" else f"#{index}, {text}"


def _sample(place: int, group: Group, index: int) -> str:
    """One sample of all runs."""
    name = escape(_name(group, index))
    figures = []
    for i, column in enumerate(group.columns):
        source, label = group.media.get((index, i)), escape(column.label)
        if source is None:
            gone = "not on disk" if (index, i) in group.gone else "not in this page"
            media = f'<p class="absent">{gone}</p>'
        elif group.frames > 1:
            media = (
                f'<video src="{source}" aria-label="{name}, {label}" controls muted playsinline '
                'preload="none"></video>'
            )
        else:
            media = f'<img src="{source}" alt="{name}, {label}">'
        scores = ", ".join(
            _score(metric, own[index])
            for metric in group.metrics
            if (own := column.scores.get(metric))
        )
        note = f"<small>{escape(scores)}</small>" if scores else ""
        note += "<small>reference</small>" if i == 0 else ""
        figures.append(f"<figure>{media}<figcaption>{label}{note}</figcaption></figure>")
    hidden = "" if index < SAMPLES else " hidden"
    return (
        f'<div class="sample" id="sample-{place}-{index}" data-index="{index}"{hidden}>'
        f'<h4>{name}</h4><div class="stage">{"".join(figures)}</div></div>'
    )


def _score(metric: str, value: float) -> str:
    """A score with its name and unit."""
    unit = registry.load("metrics", metric).UNIT
    return f"{registry.label(metric)} {_number(metric, value)} {unit}".strip()


def _scores(place: int, group: Group, metric: str) -> str:
    """A table of one metric: a line per sample, a column per run that is scored by it."""
    module = registry.load("metrics", metric)
    runs = [(i, column) for i, column in enumerate(group.columns) if metric in column.scores]
    heads = []
    for i, column in runs:
        chosen = " ".join(f'data-{k}="{v}"' for k, v in group.picks[i, metric].items())
        heads.append(
            f'<th scope="col" class="number" data-column="{i}" data-run="{column.key}" {chosen}>'
            f"{escape(column.label)}</th>"
        )
    here, rows = set(group.samples), []
    for index, text in group.rows.items():
        link = f'<a href="#sample-{place}-{index}">{index}</a>' if index in here else str(index)
        rows.append(
            f'<tr data-index="{index}"><th scope="row" class="number">{link}</th>'
            + f"<td>{escape(text)}</td>"
            + "".join(_cell(metric, column.scores[metric], index) for _, column in runs)
            + "</tr>"
        )
    unit = f" ({module.UNIT})" if module.UNIT else ""
    name = registry.label(metric)
    label = escape(f"{name}{unit} of every sample")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">'
        f'<table class="results scores-of" data-metric="{escape(name)}" '
        f'data-better="{module.BETTER}"><caption>{label}</caption>'
        f'<thead><tr><th scope="col" class="number">sample</th><th scope="col">shows</th>'
        f"{''.join(heads)}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody></table></div>\n"
    )


def _cell(metric: str, scores: Sequence[float], index: int) -> str:
    return f'<td class="number">{_number(metric, scores[index])}</td>'


def _number(metric: str, score: float) -> str:
    return number(score, decimals(metric))
