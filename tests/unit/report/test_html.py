"""The page says what the table says, needs nothing beside it, and shows the samples themselves."""

import base64
import io
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from skipdit_cli.plan import plan
from skipdit_cli.recipe import runs
from skipdit_cli.report import charts, gallery, ranks
from skipdit_cli.report.cells import number
from skipdit_cli.report.gallery import Behind
from skipdit_cli.report.page import to_html
from skipdit_cli.report.plots import scatters
from skipdit_cli.report.scores import PICKS
from skipdit_cli.report.sweep import build_sweep_table
from skipdit_cli.report.table import Cell, Heading, Line, Table
from skipdit_cli.score.sweep import SweepRow
from skipdit_cli.storage.results import Result, write_result
from skipdit_cli.storage.store import open_store

VOID = {"meta", "img", "input", "br"}


class Page(HTMLParser):
    """Every element with its attributes and text; tags have to close in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.found = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.found.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.found.append({"tag": tag, "text": "", **dict(attrs)})

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def text(self):
        return self.all("html")[0]["text"]

    def all(self, tag, **attributes):
        return [
            element
            for element in self.found
            if element["tag"] == tag and attributes.items() <= element.items()
        ]


def run(cache="none", model="digits-skip", **settings):
    return runs.make_run(model, cache, {"num_samples": 5, "steps": 4, **settings})


def picture(shade: int, frames: int = 0) -> np.ndarray:
    shape = (frames, 16, 16, 3) if frames else (16, 16, 3)
    return np.full(shape, shade, np.uint8)


@pytest.fixture
def page(tmp_path):
    """page(runs) -> the page of their sweep, with what is on disk."""

    def make(runs, failures=None, **changes):
        failures = failures or {}
        rows = [
            SweepRow(
                "no cache" if r.is_reference else str(r.cache).partition(",")[0],
                r,
                plan.plan(r),
                {},
                failures.get(r.key, ""),
            )
            for r in runs
        ]
        table = replace(build_sweep_table(rows), **changes)
        return Page(to_html(table, Behind(tmp_path, runs)))

    return make


@pytest.fixture
def stored(tmp_path):
    """stored(run) -> the run, with its samples on disk."""

    def store(run, count=None, frames=0):
        into = open_store(tmp_path, run)
        for i in range(run.num_samples if count is None else count):
            into.write(i, picture(20 * i + len(str(run.cache)), frames), meta={"class": i})
        return run

    return store


def content(element) -> bytes:
    """What an <img> or <video> shows."""
    head, _, data = element["src"].partition(";base64,")
    assert head in ("data:image/png", "data:image/jpeg", "data:video/mp4")
    return base64.b64decode(data, validate=True)


def shade(element) -> int:
    return int(np.asarray(Image.open(io.BytesIO(content(element))))[0, 0, 0])


@pytest.fixture
def score(tmp_path):
    """score(run, metric, scores): a result on disk."""

    def write(run, metric, scores):
        result = Result(
            metric=metric, value=1.0, unit="", n=len(scores), run=run.key, scores=scores
        )
        write_result(tmp_path, result)

    return write


# Speedup, then quality, then the rest: which column of the table is where on the page.
ORDER = {"compared": (1, 2, 0), "small": (1, 0), "alone": (1, 2, 0)}


@pytest.mark.parametrize("name", ORDER)
def test_every_number_of_the_table_is_in_its_cell(name, request):
    table = request.getfixturevalue(name)
    text = to_html(table)
    body = text[text.index("<tbody>") : text.index("</tbody>")]
    rows = re.findall(r"<tr.*?</tr>", body, re.DOTALL)
    heads = re.findall(r'<th scope="col" class="number">(.*?)</th>', text)
    assert len(rows) == len(table.lines)
    for line, row in zip(table.lines, rows, strict=True):
        shown = [element["text"] for element in Page(f"<table>{row}</table>").found[2:]]
        names = [line.names[place] for place in table.shown]
        assert all(any(own in text for text in shown) for own in names)
        cells = re.findall(r'<td class="number">.*?</td>', row, re.DOTALL)
        theirs = re.findall(r'<td class="number paper">(.*?)</td>', row)
        assert theirs == [
            "–" if cell.paper is None else f"{cell.paper:.2f}"
            for heading, cell in zip(table.headings, line.cells, strict=True)
            if heading.paper
        ]
        for place in range(len(table.headings)):
            column = ORDER[name][place]
            heading, cell, html = table.headings[column], line.cells[column], cells[place]
            said = Page(html).found[0]["text"]
            if cell.ours is not None:
                assert number(cell.ours, heading.decimals) in said
            if cell.paper is not None and table.published:
                assert f"{cell.paper:.2f} / " in said
            if cell.difference is not None:
                assert f"{abs(cell.difference):.{heading.decimals}f}" in said
            if table.published or cell.ours is None:
                assert cell.status in said
            if cell.n is not None and cell.ours is not None and name != "small":
                alike = {other.cells[column].n for other in table.lines} <= {cell.n, None}
                assert f"n={cell.n}" in (heads[place] if alike else said)
            if cell.note:
                assert re.search(r'href="#note-\d+"', html)


def test_the_best_is_bold_and_baselines_are_marked(compared):
    found = Page(to_html(compared))
    assert [element["text"] for element in found.all("strong")] == ["28.04", "0.00123"]
    (baseline,) = found.all("tr", **{"class": "baseline"})
    assert baseline["text"].startswith("Skip-DiT")
    assert ranks.RULE in [element["text"] for element in found.all("p", **{"class": "note"})]


def test_headings_have_scope_and_controls_have_names(page, stored):
    found = page([stored(run()), stored(run("skip-cache(n=2)"))])
    assert all(element.get("scope") in ("col", "row") for element in found.all("th"))
    labels = " ".join(element["text"] for element in found.all("label"))
    for word in ("Sample", "Frame", "Method", "Show", "by", "side by side", "overlay"):
        assert word in labels
    assert len(found.all("label")) == len(found.all("input") + found.all("select"))
    assert all(element["text"].strip() for element in found.all("button"))
    assert all(element["type"] == "button" for element in found.all("button"))
    assert all(element["alt"] for element in found.all("img"))
    named = [*found.all("svg", role="img"), *found.all("g", role="img")]
    assert all(element["aria-label"] for element in named)
    ids = [element["id"] for element in found.found if "id" in element]
    assert len(ids) == len(set(ids))
    assert found.all("html", lang="en")


def test_nothing_comes_from_elsewhere(page, stored):
    found = page([stored(run()), stored(run("skip-cache(n=2)"))])
    for element in found.found:
        assert element["tag"] not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "poster", "action", "xlink:href"):
            own = "data:" if name == "src" else "#"
            assert element.get(name, own).startswith(own)
    (style,), scripts = found.all("style"), found.all("script")
    assert not re.search(r"url\(|@import|http", style["text"])
    assert not re.search(r"fetch|import\(|http|XMLHttp", " ".join(s["text"] for s in scripts))


def test_texts_are_escaped(tmp_path):
    evil = "<script>alert('&')</script>"
    heading = Heading("psnr", "psnr", "<b>PSNR", "d&B", "higher")
    line = Line((evil,), (Cell(ours=1.0, status="failed", note=f"{evil} `a<b`"),))
    table = Table(evil, ("<i>",), (heading,), (line,), notes=(evil,), provenance={evil: evil},
                  command=f"skipdit {evil}")  # fmt: skip
    text = to_html(table)
    assert "<script>alert" not in text
    assert "<code>a&lt;b</code>" in text
    assert [element["text"] for element in Page(text).all("h1")] == [evil]
    assert len(Page(text).all("script")) == 1


def test_images_stand_in_the_page_as_they_are_on_disk(page, stored):
    """The first four of each run; one after another where there is no script."""
    runs = [stored(run()), stored(run("skip-cache(n=2)"))]
    found = page(runs)
    images = found.all("img")
    assert [element["alt"] for element in images[:3]] == [
        "#0, class 0, no cache",
        "#0, class 0, skip-cache(n=2",
        "#1, class 1, no cache",
    ]
    expected = [20 * i + len(str(own.cache)) for i in range(gallery.SAMPLES) for own in runs]
    assert [shade(element) for element in images] == expected
    assert [element["text"] for element in found.all("h4")] == [
        f"#{i}, class {i}" for i in range(4)
    ]
    assert not any("hidden" in element for element in found.all("div", **{"class": "sample"}))
    (group,) = found.all("div", **{"class": "group small"})
    assert group["data-frames"] == "1"
    assert "4 of 5 samples are in this page, the first." in group["text"]
    assert not found.all("details", **{"class": "scores"})


def test_clips_stand_in_the_page_as_previews(page, stored, tmp_path):
    import av

    model = "moving-digits-skip"
    runs = [stored(run(c, model, num_samples=2), frames=8) for c in ("none", "skip-cache(n=2)")]
    (tmp_path / "samples" / runs[0].key / "previews" / "000001.mp4").unlink()
    found = page(runs)
    (group,) = found.all("div", **{"class": "group small"})
    assert (group["data-frames"], group["data-rate"]) == ("8", "8")
    videos = found.all("video")
    assert len(videos) == 4
    for element in videos:
        assert {"controls", "muted"} <= element.keys()
        with av.open(io.BytesIO(content(element))) as container:
            assert len(list(container.decode(video=0))) == 8


def test_large_samples_are_shown_smaller(page, tmp_path):
    runs = [run(cache, num_samples=1) for cache in ("none", "skip-cache(n=2)")]
    for own in runs:
        noise = np.random.default_rng(0).integers(0, 256, (512, 768, 3), np.uint8)
        open_store(tmp_path, own).write(0, noise, meta={})
    found = page(runs)
    for element in found.all("img"):
        with Image.open(io.BytesIO(content(element))) as image:
            assert (image.size, image.format) == ((384, 256), "JPEG")
    assert found.all("div", **{"class": "group"})


def shown(found) -> dict[int, list[str]]:
    """By sample: what stands there of every run, "shown" or why nothing does."""
    by_index, index = {}, None
    for element in found.found:
        if element.get("class") == "sample":
            index = int(element["data-index"])
        elif element["tag"] == "img":
            by_index.setdefault(index, []).append("shown")
        elif element.get("class") == "absent" and index is not None:
            by_index.setdefault(index, []).append(element["text"])
    return by_index


@pytest.fixture
def scored(stored, score):
    """An uncached run of eight samples and two cached ones, scored by PSNR and LPIPS."""
    runs = [stored(run(cache, num_samples=8)) for cache in ("none", "skip-cache(n=2)", "fora(n=2)")]
    score(runs[1], "psnr", (30.0, 31.0, 32.0, 33.0, 34.0, 35.0, 29.0, 36.0))  # 6, 2, 7
    score(runs[1], "lpips", (0.4, 0.3, 0.2, 0.1, 0.9, 0.5, 0.6, 0.7))  # 4, 5, 3
    score(runs[2], "psnr", (1.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0))  # 0, 5, 1
    return runs


def test_the_worst_median_and_best_of_every_run_by_every_metric_are_among_them(page, scored):
    found = page(scored)
    assert shown(found) == {i: ["shown"] * 3 for i in range(8)}
    tables = [each for each in found.all("table") if "data-metric" in each]
    assert [(each["data-metric"], each["data-better"]) for each in tables] == [
        ("PSNR", "higher"),
        ("LPIPS", "lower"),
    ]
    heads = [each for each in found.all("th") if "data-worst" in each]
    chosen = [
        tuple(int(each[f"data-{key}"]) for key in ("column", "worst", "median", "best"))
        for each in heads
    ]
    assert chosen == [(1, 6, 2, 7), (2, 0, 5, 1), (1, 4, 5, 3)]
    assert [each["data-run"] for each in heads[:2]] == [own.key for own in scored[1:]]
    hidden = [each["data-index"] for each in found.all("div") if "hidden" in each]
    assert hidden == ["4", "5", "6", "7"]
    assert "8 of 8 samples are in this page, with the worst, median and best" in Page.text(found)


def test_scores_stand_below_each_sample_and_in_a_table(page, scored):
    found = page(scored)
    notes = [each["text"] for each in found.all("small")]
    assert "PSNR 29.00 dB, LPIPS 0.600" in notes
    psnr, lpips = (each["text"].strip() for each in found.all("tbody")[-2:])
    assert psnr.startswith("0class 030.001.001class 131.008.00")
    assert lpips.startswith("0class 00.4001class 10.300")
    links = {each["href"] for each in found.all("a") if each["href"].startswith("#sample-")}
    assert links == {f"#sample-0-{i}" for i in range(8)}
    ids = {each.get("id") for each in found.found}
    assert links <= {f"#{each}" for each in ids}


def test_fewer_samples_where_they_would_be_too_much(page, scored, monkeypatch):
    """The first of all runs, then the worst ones beside the reference, then the others."""
    one = len(page(scored).all("img")[0]["src"])
    monkeypatch.setattr(gallery, "BUDGET", one * 3)
    found = page(scored)
    assert shown(found) == {0: ["shown"] * 3}
    text = Page.text(found)
    assert "1 of 8 samples are in this page; 8 of those that are the worst, median or best" in text
    assert len([each for each in found.all("a") if each["href"].startswith("#sample-")]) == 2
    monkeypatch.setattr(gallery, "BUDGET", one * 5 + 10)
    assert shown(page(scored)) == {
        0: ["shown"] * 3,
        6: ["shown", "shown", "not in this page"],
    }
    monkeypatch.setattr(gallery, "BUDGET", 0)
    assert list(shown(page(scored))) == [0]


def test_a_table_of_scores_is_bounded(page, scored, monkeypatch):
    """The first few, and those that are chosen."""
    monkeypatch.setattr(gallery, "ROWS", gallery.SAMPLES)
    monkeypatch.setattr(gallery, "picks", lambda scores, better: dict.fromkeys(PICKS, 6))
    found = page(scored)
    rows = [each["data-index"] for each in found.all("tr") if "data-index" in each]
    assert rows == ["0", "1", "2", "3", "6"] * 2
    assert "Of 8 samples these are the first, and the worst" in Page.text(found)


def test_missing_and_damaged_samples_are_left_out(page, stored, tmp_path):
    runs = [stored(run(), count=3), stored(run("skip-cache(n=2)"))]
    (tmp_path / "samples" / runs[0].key / "000001.png").write_bytes(b"broken")
    assert shown(page(runs)) == {
        0: ["shown", "shown"],
        1: ["not on disk", "shown"],
        2: ["shown", "shown"],
        3: ["not on disk", "shown"],
    }


def test_without_samples_the_gallery_says_so(page, compared):
    for found in (page([run(), run("skip-cache(n=2)")]), Page(to_html(compared))):
        (samples,) = found.all("section", id="samples")
        assert "No samples of these runs are on disk" in samples["text"]
        assert not found.all("img")
        assert not found.all("select")


def test_a_failed_run_keeps_its_line_and_its_reason(page, stored):
    failed = run("skip-cache(n=3)")
    reason = "out of memory at batch size 16"
    found = page([stored(run()), failed], {failed.key: reason})
    (line,) = [row for row in found.all("tr") if "n=3" in row["text"] and "failed" in row["text"]]
    assert f"failed: {reason}" in line["text"]


def test_schedules(page):
    found = page([run(steps=10), run("skip-cache(n=2,window=1000-50)", steps=10)])
    strips = found.all("svg", **{"class": "strip"})
    first, second = (element["aria-label"] for element in strips)
    assert first == "10 full, 0 partly, 0 reused of 10 steps"
    row = plan.plan(run("skip-cache(n=2,window=1000-50)", steps=10))
    assert second.startswith(f"{row.full_steps} full")
    (ruler,) = found.all("svg", **{"class": "ruler"})
    assert ruler["aria-label"] == "timesteps 999 to 0"


def test_the_schedule_of_a_method_that_decides_while_it_runs(page, tmp_path):
    own = run("first-block(threshold=0.1)", steps=4, num_samples=1)
    (section,) = page([own]).all("section", id="what-every-step-computes")
    assert "at run" in section["text"]
    open_store(tmp_path, own).write(0, picture(9), meta={"reused_steps": [1, 2]})
    (strip,) = page([own]).all("svg", **{"class": "strip"})
    assert strip["aria-label"].startswith("2 full")


def test_shares_add_up_to_the_plan():
    for cache in ("none", "skip-cache(n=2)", "fora(n=2)", "delta-dit(n=2,layers=2)"):
        own = run(cache, steps=10)
        done = [share for _, share in plan.shares(own)]
        assert sum(done) / len(done) == pytest.approx(1 / plan.plan(own).ideal_speedup)


def test_the_plot_has_a_marker_per_point_and_the_front(alone):
    found = Page(to_html(alone))
    points = [g["aria-label"] for g in found.all("g") if g["class"].startswith("point")]
    assert points == [
        "skip-cache, n=2: 30.00 ± 2.13 dB at 1.46 ± 0.03×, on the Pareto front",
        "skip-cache, n=3: 26.00 dB at 1.90 ± 0.02×, on the Pareto front",
    ]
    (line,) = found.all("polyline")
    assert len(line["points"].split()) == 2
    text = found.all("svg", **{"class": "plot"})[0]["text"]
    assert "measured speedup (×)" in text
    assert "PSNR against the uncached samples (dB) ↑" in text


def test_labels_that_would_cover_one_another_wait_to_be_pointed_at(alone):
    first, second, *_ = alone.lines
    same = [replace(second, point=f"a long label {i}") for i in range(6)]
    (one,) = scatters(replace(alone, lines=(first, *same)))
    text = charts.scatter(one)
    assert 1 <= text.count('class="hidden"') < 6


def test_a_label_beside_the_reference_does_not_cover_what_is_said_of_it(alone):
    """The best point is at the top, a little right of the line: its label goes below."""
    first, second, third, _ = alone.lines
    near = replace(second, cells=(*second.cells[:1], Cell(ours=1.03, status=""), *second.cells[2:]))
    (one,) = scatters(replace(alone, lines=(first, near, third)))
    text = charts.scatter(one)
    uncached = re.search(r'x="([\d.]+)" y="32">uncached', text)
    point = re.search(
        r'translate\(([\d.]+) ([\d.]+)\)"><title>skip-cache, n=2.*?y="(-?[\d.]+)">n=2', text
    )
    assert abs(float(point[1]) - float(uncached[1])) < 60
    assert float(point[2]) + float(point[3]) - 11 >= charts.TOP + 16


def test_a_table_without_points_says_so(compared):
    assert "No line of this table has both" in to_html(compared)


def test_provenance_and_commands(compared):
    (made,) = Page(to_html(compared)).all("section", id="how-this-was-made")
    assert "0.1.0 (commit 0123456789)" in made["text"]
    assert "skipdit cache-sweep --recipe table0" in made["text"]


@pytest.mark.skipif(not shutil.which("node"), reason="no node here")
def test_the_script_parses():
    script = files("skipdit_cli.report").joinpath("page.js")
    done = subprocess.run(["node", "--check", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_script_finds_what_the_page_has(page, stored):
    """Every id that the script asks for is on a page with samples, once."""
    found = page([stored(run()), stored(run("skip-cache(n=2)"))])
    script = files("skipdit_cli.report").joinpath("page.js").read_text()
    asked = set(re.findall(r'find\("([\w-]+)"\)', script))
    assert asked <= {element["id"] for element in found.found if "id" in element}
    classes = {name for element in found.found for name in (element.get("class") or "").split()}
    assert {"group", "sample", "stage"} <= classes
