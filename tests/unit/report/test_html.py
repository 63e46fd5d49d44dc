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
from skipdit_cli.report.sweep import build_sweep_table
from skipdit_cli.report.table import Cell, Heading, Line, Table
from skipdit_cli.score.sweep import SweepRow
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


def sources(element) -> list[bytes]:
    found = []
    for uri in element["data-sources"].split(" "):
        head, _, data = uri.partition(";base64,")
        assert head in ("data:image/png", "data:image/jpeg", "data:video/mp4")
        found.append(base64.b64decode(data, validate=True))
    return found


@pytest.mark.parametrize("name", ["compared", "small", "alone"])
def test_every_number_of_the_table_is_in_its_cell(name, request):
    table = request.getfixturevalue(name)
    text = to_html(table)
    body = text[text.index("<tbody>") : text.index("</tbody>")]
    rows = re.findall(r"<tr.*?</tr>", body, re.DOTALL)
    assert len(rows) == len(table.lines)
    for line, row in zip(table.lines, rows, strict=True):
        shown = [element["text"] for element in Page(f"<table>{row}</table>").found[2:]]
        assert all(any(text.startswith(name) for text in shown) for name in line.names)
        cells = re.findall(r'<td class="number">.*?</td>', row, re.DOTALL)
        theirs = re.findall(r'<td class="number paper">(.*?)</td>', row)
        assert theirs == [
            "–" if cell.paper is None else f"{cell.paper:.2f}"
            for heading, cell in zip(table.headings, line.cells, strict=True)
            if heading.paper
        ]
        for heading, cell, html in zip(table.headings, line.cells, cells, strict=True):
            said = Page(html).found[0]["text"]
            if cell.ours is not None:
                assert number(cell.ours, heading.decimals) in said
            if cell.paper is not None and table.published:
                assert f"{cell.paper:.2f} / " in said
            if cell.difference is not None:
                assert f"{abs(cell.difference):.{heading.decimals}f}" in said
            if table.published or cell.ours is None:
                assert cell.status in said
            if cell.n is not None:
                assert (f"n={cell.n}" in said) == (name != "small")  # there it is told once
            if cell.note:
                assert re.search(r'href="#note-\d+"', html)


def test_the_best_is_bold_and_baselines_are_marked(compared):
    found = Page(to_html(compared))
    assert [element["text"] for element in found.all("strong")] == ["28.04", "0.00123"]
    (baseline,) = found.all("tr", **{"class": "baseline"})
    assert baseline["text"].startswith("Skip-DiT")
    assert ranks.RULE in found.all("p", id="form")[0]["text"]


def test_headings_have_scope_and_controls_have_names(page, stored):
    found = page([stored(run()), stored(run("skip-cache(n=2)"))])
    assert all(element.get("scope") in ("col", "row") for element in found.all("th"))
    labels = " ".join(element["text"] for element in found.all("label"))
    for word in ("Sample", "Frame", "Method", "side by side", "overlay"):
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
            assert element.get(name, "#").startswith("#")
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
    runs = [stored(run()), stored(run("skip-cache(n=2)"))]
    found = page(runs)
    reference, cached = found.all("img")
    assert (reference["data-label"], cached["data-label"]) == (
        "no cache",
        "skip-cache(n=2, 1000-20",
    )
    for element, own in ((reference, runs[0]), (cached, runs[1])):
        shades = [np.asarray(Image.open(io.BytesIO(data)))[0, 0, 0] for data in sources(element)]
        assert shades == [20 * i + len(str(own.cache)) for i in range(gallery.SAMPLES)]
    (group,) = found.all("div", **{"class": "group small"})
    assert group["data-samples"].split("\n") == ["class 0", "class 1", "class 2", "class 3"]
    assert group["data-frames"] == "1"


def test_clips_stand_in_the_page_as_previews(page, stored, tmp_path):
    import av

    model = "moving-digits-skip"
    runs = [stored(run(c, model), frames=8) for c in ("none", "skip-cache(n=2)")]
    (tmp_path / "samples" / runs[0].key / "previews" / "000001.mp4").unlink()
    found = page(runs)
    (group,) = found.all("div", **{"class": "group small"})
    assert (group["data-frames"], group["data-rate"]) == ("8", "8")
    for element in found.all("video"):
        for data in sources(element):
            with av.open(io.BytesIO(data)) as container:
                assert len(list(container.decode(video=0))) == 8


def test_large_samples_are_shown_smaller(page, tmp_path):
    runs = [run(cache, num_samples=1) for cache in ("none", "skip-cache(n=2)")]
    for own in runs:
        noise = np.random.default_rng(0).integers(0, 256, (512, 768, 3), np.uint8)
        open_store(tmp_path, own).write(0, noise, meta={})
    found = page(runs)
    for element in found.all("img"):
        (data,) = sources(element)
        with Image.open(io.BytesIO(data)) as image:
            assert (image.size, image.format) == ((384, 256), "JPEG")
    assert found.all("div", **{"class": "group"})


def test_fewer_samples_where_they_would_be_too_much(page, stored, monkeypatch):
    runs = [stored(run()), stored(run("skip-cache(n=2)"))]
    whole = sum(len(element["data-sources"]) for element in page(runs).all("img"))
    monkeypatch.setattr(gallery, "BUDGET", whole * 0.6)
    assert [len(sources(element)) for element in page(runs).all("img")] == [2, 2]
    monkeypatch.setattr(gallery, "BUDGET", 0)
    assert [len(sources(element)) for element in page(runs).all("img")] == [1, 1]


def test_missing_and_damaged_samples_are_left_out(page, stored, tmp_path):
    runs = [stored(run(), count=3), stored(run("skip-cache(n=2)"))]
    (tmp_path / "samples" / runs[0].key / "000001.png").write_bytes(b"broken")
    reference, cached = page(runs).all("img")
    assert [uri == "-" for uri in reference["data-sources"].split(" ")] == [
        False,
        True,
        False,
        True,
    ]
    assert "-" not in cached["data-sources"].split(" ")


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
    assert "PSNR against the uncached samples (dB)" in text


def test_labels_that_would_cover_one_another_wait_to_be_pointed_at(alone):
    first, second, *_ = alone.lines
    same = [replace(second, point=f"a long label {i}") for i in range(6)]
    text = charts.scatter(replace(alone, lines=(first, *same)))
    assert 1 <= text.count('class="hidden"') < 6


def test_a_label_beside_the_reference_does_not_cover_what_is_said_of_it(alone):
    """The best point is at the top, a little right of the line: its label goes below."""
    first, second, third, _ = alone.lines
    near = replace(second, cells=(*second.cells[:1], Cell(ours=1.03, status=""), *second.cells[2:]))
    text = charts.scatter(replace(alone, lines=(first, near, third)))
    uncached = re.search(r'x="([\d.]+)" y="32">uncached', text)
    point = re.search(
        r'translate\(([\d.]+) ([\d.]+)\)"><title>skip-cache, n=2.*?y="(-?\d+)">n=2', text
    )
    assert abs(float(point[1]) - float(uncached[1])) < 60
    assert float(point[2]) + int(point[3]) - 11 >= charts.TOP + 16


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
    assert {"group", "absent", "stage"} <= classes
