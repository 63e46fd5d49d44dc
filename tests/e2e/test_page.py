"""The HTML page in a browser: its script runs without errors and builds what it promises.

Without Chromium on this machine the tests are skipped; what the page holds is tested elsewhere.
"""

import json
import re
import shutil
import subprocess
from html import escape, unescape

import pytest

from skipdit_cli.report.page import to_html
from skipdit_cli.report.table import Cell, Heading, Line, Table

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def browse(path):
    """What Chromium makes of a page: (document, what its console has)."""
    done = subprocess.run(
        [
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={path.parent / 'profile'}",
            "--virtual-time-budget=3000",
            "--window-size=1400,1000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def seen(path, script, *, width=1280, height=900):
    """What a script in the page returns; the page is in a frame, for a window has a least width."""
    text = path.read_text(encoding="utf-8")
    told = f"document.body.dataset.seen = JSON.stringify((() => {{{script}}})())"
    framed = escape(text.replace("</body>", f"<script>{told}</script></body>"))
    frame = path.with_name("frame.html")
    frame.write_text(
        f'<iframe srcdoc="{framed}" style="width: {width}px; height: {height}px; border: 0">'
        "</iframe>"
        '<script>onload = () => { document.body.dataset.seen = document.querySelector("iframe")'
        ".contentDocument.body.dataset.seen; };</script>",
        encoding="utf-8",
    )
    dom, said = browse(frame)
    assert said == []
    return json.loads(unescape(re.search(r'<body data-seen="([^"]*)"', dom)[1]))


@pytest.fixture(scope="module")
def page(skipdit, tmp_path_factory):
    """The page of a small sweep of clips."""
    if not CHROMIUM:
        pytest.skip("there is no Chromium here")
    root = tmp_path_factory.mktemp("page")
    recipe = root / "clips.yaml"
    recipe.write_text(RECIPE)
    given = f"cache-sweep --recipe {recipe} --scale tiny --repeats 0 --results {root}"
    skipdit(given).ok()
    return root / "tiny" / "clips.html"


RECIPE = """
title: Two clips
scales:
  tiny: &scale
    groups: {digits: moving-digits-skip}
    settings: {num_samples: 5, batch_size: 5, sampler: ddim, steps: "4"}
    columns:
      - {label: PSNR, metric: psnr, group: digits, unit: dB, better: higher}
  paper: *scale
rows:
  - {id: none, label: Uncached, model: "{model}"}
  - {id: cached, label: Skip-Cache n=2, model: "{model}", cache: "skip-cache(n=2,window=1000-0)"}
"""


def test_the_script_has_built_the_gallery(page):
    """Without an error: one sample of both runs is shown, and nothing that only plays by itself."""
    dom, said = browse(page)
    assert said == []
    shown = [
        block
        for block in re.findall(r'<div class="sample"[^>]*>.*?<h4>', dom)
        if "hidden" not in block
    ]
    assert len(shown) == 1
    assert len(re.findall(r"<video[^>]*src=\"data:", dom)) >= 4
    assert not re.search(r"<video[^>]* controls", dom)
    assert "Skip-Cache n=2" in dom
    assert "<svg" in dom


def test_the_worst_median_and_best_are_shown_and_columns_sort(page):
    """Against the scores in the table; a number in it shows its sample."""
    found = seen(
        page,
        """
        const find = (id) => document.getElementById(id);
        const choose = (id, value) => {
          find(id).value = value;
          find(id).dispatchEvent(new Event("change"));
        };
        const shown = () => [...document.querySelectorAll(".sample")]
          .filter((each) => each.offsetHeight > 0).map((each) => each.dataset.index);
        const table = document.querySelector("table[data-metric]");
        const column = (i) => [...table.tBodies[0].rows].map((row) => row.cells[i].textContent);
        const result = { first: shown(), scores: column(2) };
        for (const which of ["worst", "median", "best"]) {
          choose("which", which);
          result[which] = shown();
        }
        choose("sample", "1");
        result.chosen = [shown(), find("which").value];
        [...table.querySelectorAll("a")].find((each) => each.textContent === "0").click();
        result.linked = shown();
        for (const name of ["up", "down"]) {
          table.tHead.rows[0].cells[2].firstChild.click();
          result[name] = [column(2), table.tHead.rows[0].cells[2].getAttribute("aria-sort")];
        }
        return result;
        """,
    )
    scores = [float(text) for text in found["scores"]]
    order = sorted(range(5), key=lambda i: scores[i])
    assert len(set(scores)) == 5
    assert found["first"] == found["linked"] == ["0"]
    for which, place in {"worst": 0, "median": 2, "best": 4}.items():
        assert found[which] == [str(order[place])]
    assert found["chosen"] == [["1"], ""]
    assert [*map(float, found["up"][0])] == sorted(scores)
    assert [*map(float, found["down"][0])] == sorted(scores, reverse=True)
    assert (found["up"][1], found["down"][1]) == ("ascending", "descending")


@pytest.fixture(scope="module")
def eleven(tmp_path_factory):
    """The page of a table like that of a sweep, of eleven lines."""
    if not CHROMIUM:
        pytest.skip("there is no Chromium here")

    def cell(value, margin=None):
        return Cell(
            ours=value,
            interval=margin and (value - margin, value + margin),
            n=24 if margin else None,
            status="measured",
        )

    headings = (
        Heading("macs_m", "macs", "MACs", "M"),
        Heading("flops_g", "flops", "FLOPs", "G"),
        Heading("ideal", "ideal", "ideal speedup"),
        Heading("speedup", "speedup", "speedup", better="higher"),
        Heading("latency_s", "latency", "latency of batch 12", "s", "lower"),
        Heading("each_s", "each", "latency per sample", "s", "lower"),
        Heading("memory_mib", "memory", "memory", "MiB", decimals=1),
        Heading("psnr", "psnr", "PSNR", "dB", "higher"),
        Heading("ssim", "ssim", "SSIM", "", "higher", 3),
        Heading("accuracy@digits", "accuracy@digits", "Accuracy@digits", "", "higher", 3),
    )
    names = ["no cache (n=1)"]
    names += [f"skip-cache n={n} branch={b}" for n in range(2, 7) for b in (1, 2)]
    numbers = (
        *(cell(677.55), cell(1.39), cell(1.19), cell(1.28, 0.15), cell(0.68, 0.06)),
        *(cell(0.05, 0.01), cell(1.6), cell(44.78, 0.85), cell(0.998, 0.001), cell(1.0)),
    )
    lines = tuple(
        Line((name, "1000-20", str(i), str(50 - i)), numbers, reference=i == 0)
        for i, name in enumerate(names)
    )
    table = Table("eleven", ("cache", "window", "full", "cached"), headings, lines, published=False)
    path = tmp_path_factory.mktemp("eleven") / "eleven.html"
    path.write_text(to_html(table), encoding="utf-8")
    return path


MEASURED = """
const table = document.querySelector("#results .scroll");
table.scrollLeft = 10000;
const place = (cell) => cell.getBoundingClientRect();
const before = place(table.querySelector("tbody th")).left;
table.scrollLeft = 0;
return {
  width: innerWidth, page: document.documentElement.scrollWidth,
  over: table.scrollWidth - table.clientWidth, height: table.clientHeight,
  heads: [...table.querySelectorAll("thead th")].map((each) => each.textContent),
  ends: [...table.querySelectorAll("thead th")].map((each) => place(each).right),
  stays: before === place(table.querySelector("tbody th")).left,
};
"""


def test_eleven_lines_fit_on_a_screen(eleven):
    found = seen(eleven, MEASURED)
    assert (found["width"], found["over"]) == (1280, 0)
    assert found["height"] < 500
    assert found["heads"][1].startswith("speedup")


def test_on_a_phone_the_numbers_come_first(eleven):
    """A line's name stays, speedup and PSNR are beside it, and only the table is wider."""
    found = seen(eleven, MEASURED, width=390, height=844)
    assert found["page"] <= found["width"] == 390
    first = ("speedup", "PSNR", "SSIM", "Accuracy@digits")
    assert all(map(str.startswith, found["heads"][1:5], first))
    assert found["ends"][2] < found["page"]
    assert found["over"] > 0
    assert found["stays"]
