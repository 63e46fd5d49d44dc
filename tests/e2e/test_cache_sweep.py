"""`skipdit cache-sweep`: the table, the files it leaves, and what a second call does."""

import csv
import io
import json
import re
import shutil

import pytest
from PIL import Image

HEADINGS = [
    "cache",
    "full",
    "cached",
    "MACs",
    "FLOPs",
    "ideal speedup",
    "speedup ↑",
    "latency of batch 2 (s) ↓",
    "latency per sample (s) ↓",
    "memory (MiB)",
    "PSNR (dB) ↑",
    "SSIM ↑",
    "Accuracy@digits ↑",
]
TABLES = ("sweep.md", "sweep.csv", "sweep.tex", "sweep.html")
FILES = (*TABLES, "sweep-psnr-speedup.png", "sweep-samples.png")
SWEEP = "cache-sweep --model digits-skip --n 2..3 --steps 6 --num-samples 3 --batch-size 2"


def number(cell: str) -> float:
    return float(cell.split(" ± ")[0])


def without_provenance(markdown: str) -> str:
    return re.sub(r"^Made with .*$", "", markdown, flags=re.MULTILINE)


@pytest.fixture
def copy(swept, tmp_path):
    """The results of the sweep, to be changed."""
    return shutil.copytree(swept[0], tmp_path / "results")


def test_the_table(swept, table):
    lines = table(swept[1].ok().out)
    assert [re.sub(r" \([MG]\)$", "", name) for name in lines[0]] == HEADINGS
    shown = [tuple(line[name] for name in HEADINGS[:3]) for line in lines]
    assert shown == [  # timesteps 999, 799, 599, 400, 200, 0: the window never ends before the last
        ("no cache (n=1)", "6", "0"),
        ("skip-cache n=2", "3", "3"),
        ("skip-cache n=3", "2", "4"),
    ]
    assert "\nThe same in all lines: window 1000-20.\n" in swept[1].out
    reference, *cached = lines
    assert reference["PSNR (dB) ↑"].startswith("reference")
    assert reference["ideal speedup"] == reference["speedup ↑"] == "1.00"
    assert all(0 < number(line["PSNR (dB) ↑"]) <= 100 for line in cached)
    assert all(-1 <= number(line["SSIM ↑"]) <= 1 for line in cached)
    assert all(0 <= number(line["Accuracy@digits ↑"]) <= 1 for line in lines)
    assert all(number(line["latency of batch 2 (s) ↓"]) > 0 for line in lines)
    assert all(number(line["memory (MiB)"]) > 0 for line in lines)
    ideal = [number(line["ideal speedup"]) for line in lines]
    assert ideal == sorted(ideal)
    assert 1 < ideal[1] < ideal[2] < 3


def test_what_is_said_on_the_way(swept):
    said = swept[1].err.splitlines()
    assert said[0].startswith("estimate: ")
    assert said[1:3] == ["timing digits-skip, 3 caches", "sampling digits-skip, 3 runs"]
    written = [line for line in said if line.startswith("wrote ")]
    assert written == [f"wrote {swept[0]}/sweeps/digits-skip/{name}" for name in FILES]
    assert said[-len(FILES) :] == written


def test_the_files(swept, table):
    folder, printed = swept[0] / "sweeps" / "digits-skip", swept[1].out
    assert {path.name for path in folder.iterdir()} == {*FILES, "study.json"}
    assert (folder / "sweep.md").read_text().strip() == printed.strip()
    records = list(csv.DictReader(io.StringIO((folder / "sweep.csv").read_text())))
    assert {record["cache"] for record in records} == {line["cache"] for line in table(printed)}
    for name in FILES[len(TABLES) :]:
        with Image.open(folder / name) as picture:
            colours = picture.convert("RGB").getcolors(maxcolors=1 << 20)
        assert min(picture.size) >= 300
        assert len(colours) > 30  # something is drawn


def test_the_report_says_how_it_was_made(swept):
    printed = swept[1].out
    assert printed.startswith(
        "# digits-skip: 3 samples, ddim 6, guidance 2, seed 0, batch size 2\n"
    )
    assert "Embedded model: compare the lines with one another, not with the paper." in printed
    assert re.search(r"^Made with skipdit \S+.* torch \S+", printed, re.MULTILINE)
    assert f"```\nskipdit {SWEEP} --repeats 1 --results results --no-fewer-steps\n```" in printed


def test_json(skipdit, copy):
    """As JSON, the numbers of the table in full; computed before, they come from the disk."""
    content = json.loads(skipdit(f"{SWEEP} --repeats 1 --json").ok().out)
    assert [row["cache"] for row in content["rows"]] == [
        "no cache (n=1)",
        "skip-cache n=2",
        "skip-cache n=3",
    ]
    reference, second, _ = content["rows"]
    assert reference["psnr"]["status"] == "reference"
    assert reference["psnr"]["ours"] is None
    stored = json.loads((copy / "scores" / second["runs"][0] / "psnr.json").read_text())
    assert second["psnr"]["ours"] == stored["value"]
    assert second["psnr"]["n"] == 3
    assert content["files"] == [f"results/sweeps/digits-skip/{name}" for name in FILES]


def test_again_makes_nothing_new(skipdit, swept, copy):
    def kept():
        found = [*copy.glob("samples/*/*.*"), *copy.glob("scores/*/*")]
        return {
            path: path.stat().st_mtime_ns for path in found if path.suffix not in (".lock", ".pid")
        }

    before = kept()
    again = skipdit(f"{SWEEP} --repeats 1 --results results").ok()
    assert kept() == before
    assert without_provenance(again.out) == without_provenance(swept[1].out)
    assert "timing" not in again.err


def test_more_rows_and_samples_keep_what_is_there(skipdit, copy, samples):
    before = samples(copy)
    wider = SWEEP.replace("2..3", "2..4").replace("samples 3", "samples 4")
    skipdit(f"{wider} --repeats 0").ok()
    after = samples(copy)
    assert len(after) == 4 * 4
    assert {name: after[name] for name in before} == before


def test_without_timing(skipdit, copy, table):
    lines = table(skipdit(f"{SWEEP} --repeats 0 --results", copy / "other").ok().out)
    assert {line["speedup ↑"] for line in lines} == {"not run"}
    assert lines[0]["ideal speedup"] == "1.00"
    assert (copy / "other" / "sweeps" / "digits-skip" / "sweep-psnr-speedup.png").is_file()


def test_windows_and_whole_specs(skipdit, table):
    done = skipdit(
        "cache-sweep --model digits-skip --steps 6 --num-samples 1 --batch-size 1 --repeats 0"
        " --n 2 --window 1000-20,800-300 --cache skip-cache(n=2,branch=1) --metrics ssim"
    ).ok()
    lines = table(done.out)
    assert [line["window"] for line in lines] == ["", "1000-20", "800-300", "1000-20"]
    # Of 999 799 599 400 200 0 and the window 800-300, steps 799 and 400 are cached: 999 is above
    # its start, 200 is the full one of its two and ends it, and 0 comes after that.
    assert [line["cached"] for line in lines] == ["0", "3", "2", "3"]
    assert len({(line["cache"], line["window"]) for line in lines}) == 4
    assert "PSNR (dB) ↑" not in lines[1]  # it was not asked for
    assert all(-1 <= number(line["SSIM ↑"]) <= 1 for line in lines[1:])


@pytest.mark.slow
def test_with_nothing_asked_for(skipdit, table, tmp_path):
    """No model and no range: the embedded video model and n = 2..6, as in `make demo`."""
    done = skipdit("cache-sweep --steps 6 --num-samples 1 --batch-size 1 --repeats 0").ok()
    assert done.err.startswith("scale tiny: the embedded model moving-digits-skip; name another")
    lines = table(done.out)
    assert [line["cache"] for line in lines] == [
        "no cache (n=1)",
        *(f"skip-cache n={n}" for n in (2, 3, 4, 5, 6)),
    ]
    assert "\nThe same in all lines: window 900-50.\n" in done.out
    clips = list((tmp_path / "results" / "samples").glob("*/000000.mkv"))
    assert len(clips) == 6
    assert all((clip.parent / "previews" / "000000.mp4").stat().st_size > 500 for clip in clips)


@pytest.mark.parametrize(
    ("model", "window", "digits"),
    [
        pytest.param(
            *("captioned-digits-skip", "700-50", ["Accuracy@digits ↑", "Motion@digits ↑"]),
            marks=pytest.mark.slow,
        ),
        pytest.param(*("painted-digits", "700-50", ["Accuracy@digits ↑"]), marks=pytest.mark.slow),
    ],
)
def test_a_text_model(skipdit, table, tmp_path, model, window, digits):
    """Two prompts and the empty one are encoded once for all rows, and shown with the samples."""
    given = (
        f"cache-sweep --model {model} --n 2..3 --steps ddim10+1 --num-samples 2 --batch-size 2"
        " --repeats 1"
    )
    prompts = ("--prompt", "a three moving up", "--prompt", "a one moving down")
    done = skipdit(given, *prompts).ok()
    lines = table(done.out)
    assert [re.sub(r" \([MG]\)$", "", name) for name in lines[0]] == [*HEADINGS[:12], *digits]
    assert [line["cache"] for line in lines][1:] == ["skip-cache n=2", "skip-cache n=3"]
    assert f"\nThe same in all lines: window {window}.\n" in done.out
    # timesteps 901, 801, 701 are full; of 601 501 401 301 201 101 1, counted on, every other one
    # for n = 2 (3 and 4: the steps counted so far decide) and two of three for n = 3 are cached
    assert [line["full"] for line in lines] == ["10", "6", "6"]
    assert all(number(line["speedup ↑"]) > 0 for line in lines)
    assert all(0 < number(line["PSNR (dB) ↑"]) <= 100 for line in lines[1:])
    assert all(0 <= number(line[name]) <= 1 for line in lines for name in digits)
    said = done.err.splitlines()
    assert said[1] == f"timing {model}, 3 caches"
    assert said[2] == f"encoding the prompts of {model}"
    embeddings = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "results" / "embeddings").rglob("*")
        if path.is_file()
    }
    skipdit(given.replace("2..3", "4").replace("repeats 1", "repeats 0"), *prompts).ok()
    again = [p for p in (tmp_path / "results" / "embeddings").rglob("*") if p.is_file()]
    assert {path: path.stat().st_mtime_ns for path in again} == embeddings
    assert len(embeddings) == 3 * (2 if model == "painted-digits" else 1)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("model", "tiny", "sampling"),
    [
        ("ucf101-skip", "moving-digits-skip", "ddim 2"),
        ("latte-skip", "captioned-digits-skip", "ddim 2"),
        ("hunyuan-dit", "painted-digits", "ddpm 2"),
    ],
)
def test_scale_tiny_takes_the_embedded_model(skipdit, model, tiny, sampling):
    done = skipdit(
        f"cache-sweep --model {model} --scale tiny --n 2 --steps 2 --num-samples 1"
        " --batch-size 1 --repeats 0"
    ).ok()
    assert f"# {tiny}: 1 sample, {sampling}" in done.out


def test_interval_one_is_the_reference(skipdit, table):
    lines = table(
        skipdit(
            "cache-sweep --model digits-skip --n 1 --steps 4 --num-samples 2 --batch-size 2"
            " --repeats 0"
        )
        .ok()
        .out
    )
    assert lines[1]["PSNR (dB) ↑"].startswith("100.00")
    assert lines[1]["SSIM ↑"].startswith("1.000")


METHODS = "t-gate,delta-dit,faster-diffusion"  # others: test_documented.py


@pytest.mark.slow
def test_methods_times_intervals_in_one_table(skipdit, table, tmp_path):
    done = skipdit(
        f"cache-sweep --model captioned-digits-skip --method {METHODS} --n 2..3 --steps 12"
        " --num-samples 1 --batch-size 1 --repeats 0 --prompt",
        "a three moving up",
    ).ok()
    lines = table(done.out)
    assert [line["cache"] for line in lines][1:] == [
        f"{method} n={n}" for method in METHODS.split(",") for n in (2, 3)
    ]
    assert all(int(line["cached"]) > 0 for line in lines[1:])
    assert all(number(line["ideal speedup"]) > 1.05 for line in lines[1:])
    assert all(0 < number(line["PSNR (dB) ↑"]) < 100 for line in lines[1:])
    plot = tmp_path / "results" / "sweeps" / "captioned-digits-skip" / "sweep-psnr-speedup.png"
    assert plot.is_file()


def test_a_method_without_meaning_ends_the_sweep_before_anything_is_computed(skipdit, tmp_path):
    line = "cache-sweep --model moving-digits --method fora,t-gate --n 2..3 --num-samples 1"
    skipdit(line).failed(2, "t-gate needs attention to text and latte has none")
    assert not (tmp_path / "results" / "samples").exists()
