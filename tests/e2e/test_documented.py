"""Every `skipdit` line of the pages, run as it is written, gives what the page says of it.

The lines of a page run in its order in one folder, on a machine without weights, network and GPU.
What a line stands on is made by `before`. Where a line would take minutes, `more` is appended to
it: fewer samples, steps and repetitions, or the embedded model for a full-size one. The downloads
are in download/test_documented.py.
"""

import ast
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import typer

from skipdit_cli import registry
from skipdit_cli.checkpoints import catalog, local
from skipdit_cli.cli import app
from skipdit_cli.recipe import published, recipe

ROOT = Path(__file__).parents[2]
COMMANDS = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = ("README.md", *(f"docs/{path.name}" for path in DOCS))  # test_outside: CONTRIBUTING.md
SHORT = "--num-samples 2 --batch-size 2"
DIGITS = ("accuracy@digits", "fid@digits", "psnr", "ssim")


@dataclass(frozen=True)
class Then:
    """What comes of a line.

    Attributes:
        code: exit code. shows: parts of stdout; of an error's one line where the code is not 0.
        writes: files that are there afterwards.
        more: appended to the line. before: commands that it stands on, or a function.
        check: looks at stdout, and says what is wrong by an assertion.
    """

    code: int = 0
    shows: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    more: str = ""
    before: str | Callable[[], object] = ""
    check: Callable[[str], object] = lambda out: None


def rows(out: str) -> list[dict[str, str]]:
    """The first table in a text, one dictionary per line."""
    plain = out.replace("**", "")  # bold: the best of a column
    lines = re.search(r"(?:^\|.*\n?)+", plain, re.MULTILINE)[0].splitlines()
    headings, _, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(headings, line, strict=True)) for line in body]


def column(name: str, *values: str) -> Callable[[str], None]:
    def check(out: str) -> None:
        assert [row[name] for row in rows(out)] == list(values)

    return check


def swept(*methods: str, intervals: tuple[int, ...], windows: tuple[str, ...] = ()):
    """The table has the reference and every method x interval x window, each with its scores."""

    def check(out: str) -> None:
        reference, *cached = rows(out)
        assert reference["PSNR (dB) ↑"] == "reference"
        expected = [
            (f"{method} n={n}", window)
            for method in methods
            for n in intervals
            for window in windows or (None,)
        ]
        shown = [(row["cache"], row["window"] if windows else None) for row in cached]
        assert shown == expected
        for row in cached:
            assert float(row["ideal speedup"]) > 1
            assert 0 < float(row["PSNR (dB) ↑"].split()[0]) < 100

    return check


def paper_table(name: str) -> Then:
    """Every published number stands in its row and column, and it says what would give ours."""

    def check(out: str) -> None:
        asked, shown = recipe.load_recipe(name, scale="paper"), []
        for row, told in zip(asked.rows, rows(out), strict=True):
            method, *cells = told.values()
            assert method == row.label
            papers = (cell.partition(" / ")[0] for cell in cells)
            keys = (column.key for column in asked.columns)
            found = numbers(dict(zip(keys, papers, strict=True)))
            lines = [
                line for line in published.lines(name) if row.published.items() <= line.items()
            ]
            expected = [numbers(line, without=row.published) for line in lines if row.published]
            assert [found] == (expected or [{}]), row.label
            shown += lines if row.published else []
        assert sorted(map(str, shown)) == sorted(map(str, published.lines(name)))

    return Then(shows=("needs weights", "skipdit download "), check=check)


def numbers(line: dict[str, str], *, without: Iterable[str] = ()) -> dict[str, float]:
    return {
        key: float(text)
        for key, text in line.items()
        if key not in without and re.fullmatch(r"[\d.]+", text)
    }


def an_npz() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    np.savez("samples.npz", arr_0=images)


def runs_are_gone(folder: str) -> None:
    assert not list(Path(folder).glob("samples/*")) + list(Path(folder).glob("scores/*"))


def own_weights() -> None:
    shutil.copy(local.weights_file(catalog.card("digits-skip")), "mine.safetensors")


LS = Then(
    shows=(
        *("| models", "| digits-skip ", "| caches", "| skip-cache ", "| metrics", "| psnr "),
        *("| recipes", *(f"| table{i} " for i in range(1, 9))),
    )
)
DOCTOR = Then(
    shows=(
        *("| torch ", "| recipe table8 ", "| HF_HUB_OFFLINE "),
        "lacks dit-xl-2, dit-xl-2-skip, inception, imagenet256: skipdit download --recipe",
    ),
)
SWEEP = Then(
    more=f"{SHORT} --steps 6 --repeats 1",
    check=swept("skip-cache", intervals=(2, 3, 4), windows=("1000-20", "700-50")),
    writes=("results/sweeps/digits-skip/sweep.html",),
)
SMOKE = Then(
    before="cache-sweep --recipe smoke --repeats 0",
    check=column("metric", *("psnr", "ssim") * 3),
    shows=("reference", " dB"),
)
REPORT = Then(
    shows=("Left out: UCF101 FVD", "| Skip-Cache n=6 ", "not run", "FVD@digits"),
    writes=("results/tiny/table1.md", "results/tiny/table1.csv"),
)
NO_GPU = Then(2, shows=("--device: there is no CUDA device; take cpu",))
TABLES = ("table1", "table2", "table3", "table5", "table6", "table4", "table8", "table7")
LINES = {
    "README.md": {
        "skipdit ls": LS,
        "skipdit plan --model ucf101-skip --n 2..6": Then(
            shows=(
                "ucf101-skip: ddim 50, guidance 7.0",
                "skipdit download ucf101-skip --accept-license (about 3.11 GB)",
            ),
            check=column("full", "50", "28", "21", "17", "16", "14"),
        ),
        "skipdit sample --model digits-skip "
        '--cache "skip-cache(n=3)" --classes 0..9 --num-samples 10': Then(
            shows=("10 samples of run ",), writes=("results/samples/*/000009.png",)
        ),
        "skipdit cache-sweep --model digits-skip --n 2..4 --window 1000-20,700-50": SWEEP,
        "skipdit evaluate smoke": SMOKE,
        "skipdit report table1": REPORT,
        'skipdit compare "skip-cache(n=2,window=700-50)" "skip-cache(n=3,window=700-50)"': Then(
            check=column("metric", "psnr", "ssim")
        ),
        "skipdit ls runs": Then(shows=("| digits-skip ", "| skip-cache(n=3,", " 10 / 10 ")),
        "skipdit doctor": DOCTOR,
    },
    "docs/caches.md": {
        "skipdit ls caches": Then(check=column("caches", *registry.names("caches"))),
        "skipdit cache-sweep --model captioned-digits-skip "
        "--method skip-cache,fora,pab,t-gate --n 2..4": Then(
            more="--num-samples 1 --batch-size 1 --steps 12 --repeats 0",
            check=swept("skip-cache", "fora", "pab", "t-gate", intervals=(2, 3, 4)),
            writes=("results/sweeps/captioned-digits-skip/sweep-samples.png",),
        ),
        'skipdit plan --model latte-skip --cache "pab(spatial=2,temporal=4,cross=6)"': Then(
            shows=("latte-skip: ", "| pab(", "skipdit download latte-skip")
        ),
        "skipdit plan --model latte-skip "
        '--cache "skip-cache(n=2..4,window=700-50|1000-0,branch=1..2)"': Then(
            check=column(
                "run",
                "none",
                *(
                    f"skip-cache(n={n},window={window},branch={branch})"
                    for n in (2, 3, 4)
                    for window in ("700-50", "1000-0")
                    for branch in (1, 2)
                ),
            )
        ),
        "skipdit cache-sweep --model digits-skip "
        '--cache "skip-cache(n=2..4,window=700-50|1000-0,branch=1..2)"': Then(
            more=f"{SHORT} --steps 6 --repeats 0",
            shows=("| skip-cache n=4 branch=2 ", "Windows differ"),
            writes=tuple(
                f"results/sweeps/digits-skip/sweep-heat-{each}.png" for each in ("ideal", "psnr")
            ),
        ),
        "skipdit plan --model captioned-digits-skip --target-speedup 1.5": Then(
            more="--steps 12",
            shows=("nearest to 1.5x by counting: ", "left out: first-block decides "),
        ),
        "skipdit plan --model latte-skip --target-macs 60% --method skip-cache,fora,pab "
        "--window 700-50": Then(
            more="--steps 12",
            shows=("| skip-cache(", "| fora(", "| pab(", "nearest to 60 % of MACs by counting: "),
        ),
        "skipdit cache-sweep --model captioned-digits-skip --target-speedup 1.5 "
        "--method skip-cache,fora,pab": Then(
            more="--num-samples 1 --batch-size 1 --steps 12 --repeats 0",
            shows=("| skip-cache", "| fora n=", "| pab n=", "ideal speedup"),
        ),
        "skipdit analyze calibrate --model digits-skip": Then(
            more=f"{SHORT} --steps 8", shows=("teacache on digits-skip, from 14 observations: ",)
        ),
    },
    "docs/checkpoints.md": {"skipdit doctor": DOCTOR},
    "docs/commands.md": {
        "skipdit cache-sweep --recipe smoke": Then(shows=("| Skip-Cache n=3 ", "PSNR (dB)")),
        "skipdit plan --target-speedup 1.5": Then(
            more="--steps 12", shows=("| skip-cache(", "nearest to 1.5x by counting: ")
        ),
        "skipdit evaluate smoke": replace(SMOKE, before=""),
        "skipdit evaluate table8 --metrics all": Then(
            before=f"cache-sweep --recipe table8 {SHORT} --steps 4 --repeats 0",
            more="--set num_samples=2 --set batch_size=2 --set steps=4",
            shows=(
                *("| accuracy@digits ", "| fid@digits ", "| psnr@videosys ", "| sfid "),
                *("run `skipdit download --metrics inception`", "lpips cannot score 16x16"),
            ),
        ),
        "skipdit cache-sweep smoke --weights random": Then(
            more="--steps 4 --repeats 0", shows=("(tiny scale, random weights)", "mean nothing")
        ),
        "skipdit report table1 --format html,tex": Then(
            shows=("| Skip-Cache n=6 ",),
            writes=("results/tiny/table1.html", "results/tiny/table1.tex"),
        ),
        "skipdit report --diff before/results results": Then(
            5,
            before="cache-sweep --recipe smoke --repeats 0 --steps 6 --results before/results",
            shows=("numbers in 1 table moved", "| macs ", "| digits_psnr ", "(steps 6 -> 12)"),
        ),
        "skipdit cache-sweep --model digits-skip --method skip-cache,fora --n 2 "
        "--results study": Then(
            more=f"{SHORT} --steps 6 --repeats 1", check=swept("skip-cache", "fora", intervals=(2,))
        ),
        "skipdit ls runs --size --results study": Then(
            check=column("samples", "2 / 2", "2 / 2", "2 / 2"), shows=("\n3 runs, ",)
        ),
        'skipdit show "skip-cache(n=2)" --results study': Then(
            shows=(
                "digits-skip, skip-cache(n=2,",
                "| psnr ",
                "again: skipdit sample --model digits",
            )
        ),
        'skipdit export none fora --results study --out figures --name "{index:04d}-{class}"': Then(
            writes=("figures/none/0001-*.png", "figures/fora*/0000-*.png", "figures/manifest.csv")
        ),
        "skipdit export none fora skip-cache --results study --out judged --blind --seed 1": Then(
            writes=("judged/C/0001.png", "judged/manifest.csv", "judged-key.csv")
        ),
        "skipdit rm --cache fora --results study --dry-run": Then(shows=("1 runs, ", "would be")),
        "skipdit rm fora none skip-cache --results study": Then(
            shows=("3 runs, ", " removed"), check=lambda out: runs_are_gone("study")
        ),
    },
    "docs/gpus.md": {
        "skipdit profile --model latte-skip --weights random --steps 2 --device cuda": NO_GPU,
        "skipdit profile --model ucf101-skip --n 2..6 --weights random --device cuda "
        "--precision float16": NO_GPU,
        "skipdit profile --model latte-skip --n 2 --weights random --steps 4 --device cuda "
        "--compile": NO_GPU,
        "skipdit cache-sweep --recipe table8 --scale paper --precision float32": Then(
            more="--scale tiny --num-samples 2 --batch-size 2 --steps 4 --repeats 0",
            shows=("(tiny scale)",),
        ),
        "skipdit plan table1 --scale paper --gpu h100": Then(shows=("hours on H100", "of disk")),
        "skipdit plan --model dit-xl-2-skip --n 2..4 --gpu a100": Then(
            check=column("full", "250", "128", "87", "67"),
            shows=("on A100", "of memory at batch 4"),
        ),
        "skipdit plan --all": Then(check=column("table", *(f"Table {i}" for i in range(1, 9)))),
        "skipdit profile --calibrate --model digits": Then(
            check=column("precision", "float32"), more="--repeats 1"
        ),
        "skipdit sample --model dit-xl-2-skip --weights random --steps 2 --num-samples 1": Then(
            more="--scale tiny", shows=("1 samples of run ", "mean nothing")
        ),
        "skipdit plan table1 --scale paper --weights random": Then(
            shows=("(paper scale, random weights)", "nothing")
        ),
        "skipdit cache-sweep table1 --scale paper --weights random --num-samples 2 "
        "--batch-size 2 --steps 4": Then(
            more="--scale tiny --repeats 0",
            shows=("(tiny scale, random weights)", "mean nothing"),
        ),
        "skipdit sample --model moving-digits-skip --num-samples 8 --batch-size 2 --workers 2": (
            Then(
                more="--steps 2",
                shows=("8 samples of run ",),
                writes=("results/samples/*/000007.mkv",),
            )
        ),
    },
    "docs/metrics.md": {
        "skipdit ls metrics": Then(check=column("metrics", *registry.names("metrics"))),
        "skipdit sample --model digits-skip --num-samples 10": Then(
            more="--steps 4", writes=("results/samples/*/000009.png",)
        ),
        'skipdit compare "skip-cache(n=2)" "skip-cache(n=3)" --metric psnr,ssim': Then(
            before=f"cache-sweep --model digits-skip --n 2..3 --steps 4 {SHORT} --repeats 0",
            check=column("metric", "psnr", "ssim"),
        ),
        "skipdit evaluate 3f9c21": Then(check=column("metric", *DIGITS)),
        "skipdit evaluate 3f9c21 --npz ours.npz": Then(writes=("ours.npz",)),
        "skipdit evaluate --npz samples.npz": Then(
            before=an_npz,
            check=column("metric", "fid", "inception-score", "precision", "recall", "sfid"),
            shows=("needs weights [1]", "run `skipdit download --metrics inception`"),
        ),
    },
    "docs/models.md": {
        "skipdit sample --model digits-skip --weights mine.safetensors --num-samples 2": Then(
            before=own_weights, more="--steps 4", shows=("2 samples of run ",)
        ),
        "skipdit cache-sweep --model digits-skip --weights mine.safetensors --n 2..3": Then(
            more=f"{SHORT} --steps 6 --repeats 0", check=swept("skip-cache", intervals=(2, 3))
        ),
        "skipdit profile --model ucf101-skip --weights random --steps 2 --batch-size 1": Then(
            more="--scale tiny --repeats 1",
            check=column("model", "moving-digits-skip (random weights)"),
        ),
        "skipdit sample --model captioned-digits-skip --prompt "
        '"a three moving to the left" --num-samples 4': Then(
            shows=("4 samples of run ",),
            writes=("results/samples/*/000003.mkv", "results/samples/*/previews/000003.mp4"),
            more="--batch-size 4 --steps 12",
        ),
    },
    "docs/python.md": {
        "skipdit cache-sweep --n 2..6": Then(
            more=f"{SHORT} --steps 6 --repeats 0",
            check=swept("skip-cache", intervals=(2, 3, 4, 5, 6)),
        ),
    },
    "docs/tables.md": {
        **{
            f"skipdit cache-sweep --recipe {name} --scale paper": Then(
                4, shows=("the weights of ", "skipdit download ")
            )
            for name in TABLES
        },
        **{f"skipdit report {name} --scale paper": paper_table(name) for name in TABLES},
        "skipdit plan table3 --scale paper": Then(
            shows=("(paper scale)", "| 1587.25 ", "| 852.38 ", "skipdit download latte-skip")
        ),
        "skipdit report table3 --scale paper --check": Then(
            shows=("14 of 92 published values compared, 14 within tolerance",)
        ),
        "skipdit evaluate table1 --scale paper --metrics fvd@latte": Then(3, shows=("missing",)),
        "skipdit cache-sweep --recipe table8 --scale paper --num-samples 1000": Then(
            4, shows=("skipdit download dit-xl-2",)
        ),
    },
    "docs/training.md": {
        "skipdit train --model digits --steps 2400 --batch-size 128 --learning-rate 0.006": Then(
            more="--steps 2 --batch-size 4", writes=("results/train/digits/*.safetensors",)
        ),
        "skipdit train --model digits-skip --start digits --skip-steps 150 --steps 1400 "
        "--batch-size 128": Then(
            more="--skip-steps 1 --steps 1 --batch-size 4",
            writes=("results/train/digits-skip/*.safetensors",),
        ),
    },
}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """No GPU, no VBench, a home of its own."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SKIPDIT_VBENCH_PYTHON", str(tmp_path / "none"))


@pytest.mark.parametrize("page", PAGES)
def test_every_line_has_an_expectation(documented, page):
    """In this table, or, for downloads, in that of download/test_documented.py."""
    lines = {line for line in documented(page) if not line.startswith("skipdit download")}
    assert lines == set(LINES.get(page, {}))


@pytest.mark.slow
@pytest.mark.parametrize("page", LINES)
def test_every_line_does_what_the_page_says(skipdit, documented, machine, tmp_path, page):
    for line in documented(page):
        if line in LINES[page]:
            try:
                follow(skipdit, line, LINES[page][line], tmp_path)
            except AssertionError as error:
                error.add_note(f"{page}: {line}")
                raise


def follow(skipdit, line: str, then: Then, folder: Path) -> None:
    if callable(then.before):
        then.before()
    elif then.before:
        skipdit(then.before).ok()
    line = line.replace("3f9c21", a_run_of_images(folder))  # a key of the reader's own
    done = skipdit(*shlex.split(f"{line} {then.more}")[1:])
    assert done.code == then.code, done
    text = done.out
    if then.code:
        told = [remark for remark in done.remarks if remark.startswith("skipdit: ")]
        assert told, done
        text += told[-1]
    assert [part for part in then.shows if part not in text] == [], text
    assert [path for path in then.writes if not list(folder.glob(path))] == []
    then.check(done.out)


def a_run_of_images(folder: Path) -> str:
    found = sorted(path.parent.name for path in folder.glob("results/samples/*/000009.png"))
    return found[0][:6] if found else ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", [line for line in LINES["docs/gpus.md"] if line.startswith("skipdit profile --model")]
)
def test_the_timings_of_full_size_models_run_on_small_ones(skipdit, machine, tmp_path, line):
    """The same lines with the embedded model, on the processor, for a few steps."""
    more = "--scale tiny --device cpu --steps 2 --batch-size 1 --repeats 1"
    done = skipdit(*shlex.split(f"{line} {more}")[1:]).ok()
    timed = rows(done.out)
    assert len(timed) == (6 if "--n 2..6" in line else 2 if "--n 2" in line else 1)
    assert all(float(row["latency (s) ↓"]) > 0 for row in timed)
    assert "PSNR (dB) ↑" not in timed[0]
    assert all(row["model"].endswith(" (random weights)") for row in timed)


JSON = {
    "ls": "",
    "plan": "--model digits",
    "sample": f"--model digits {SHORT} --steps 2",
    "cache-sweep": f"--model digits {SHORT} --steps 2 --method fora --n 2 --repeats 0",
    "evaluate": "smoke --scale tiny --set steps=2",
    "show": "fora --model digits",
    "report": "smoke --scale tiny",
    "compare": "fora fora --model digits",
    "profile": "--model digits --weights random --steps 2 --batch-size 1 --repeats 1",
    "analyze calibrate": f"--model digits --method mag-cache {SHORT} --steps 2",
    "doctor": "",
}


@pytest.mark.slow
def test_the_commands_that_take_json_do(skipdit, machine):
    """Every command takes --help; those that the page names print JSON and nothing else."""
    (named,) = re.findall(r"takes `--help`; (.*?)\s+take `--json`", COMMANDS, re.DOTALL)
    assert re.findall(r"`([a-z -]+)`", named.replace("\n", " ")) == list(JSON)
    skipdit("cache-sweep --recipe smoke --scale tiny --steps 2 --repeats 0").ok()
    for command, given in JSON.items():
        done = skipdit(f"{command} {given} --json")
        assert done.code == 0, done
        assert json.loads(done.out), command
    for command in [*typer.main.get_command(app).commands, "analyze calibrate"]:
        assert f"Usage: skipdit {command}" in skipdit(f"{command} --help").ok().out


@pytest.mark.slow
def test_offload_changes_no_bit(skipdit, samples, machine):
    given = f"sample --model painted-digits {SHORT} --steps 2"
    skipdit(f"{given} --results one").ok()
    skipdit(f"{given} --results other --offload").ok()
    assert samples(Path("one")) == samples(Path("other"))


def test_previews_can_be_left_out(skipdit, machine):
    given = f"sample --model moving-digits-skip {SHORT} --steps 2"
    for more, previews in (("--results bare --no-previews", 0), ("--results whole", 2)):
        skipdit(f"{given} {more}").ok()
        folder = Path(more.split()[1], "samples")
        assert len([*folder.glob("*/*.mkv")]) == 2
        assert len([*folder.glob("*/previews/*.mp4")]) == previews


def test_half_the_precision_of_decoding_takes_half_its_memory(skipdit, machine):
    given = "plan --model dit-xl-2-skip --batch-size 2 --json"
    fine = json.loads(skipdit(given).ok().out)["left"]["memory"]
    coarse = json.loads(skipdit(f"{given} --decode-precision float16").ok().out)["left"]["memory"]
    assert coarse["run"] != fine["run"]
    assert coarse["autoencoder"] * 2 == fine["autoencoder"] > 1e8
    assert coarse["decoding"] * 2 == fine["decoding"] > 1e8
    assert coarse["weights"] == fine["weights"]


@pytest.mark.parametrize("page", PAGES)
def test_every_option_and_command_in_the_text_is_run(page):
    """By a line above, or by another test here: it stands in an argument list of tests/e2e.

    Crude: it is looked for in the strings of the tests, without docstrings, assertions and what is
    expected of errors.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    given = " ".join(
        words for path in sorted(Path(__file__).parent.rglob("*.py")) for words in arguments(path)
    )
    text = re.sub(r"`pip [^`]*`", "", text)
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    missing = {option for option in options if not re.search(rf"(?<!\S){option}(?!\S)", given)}
    assert missing == set()
    inline = re.findall(r"`skipdit ([a-z-]+)[^`]*`", text)
    assert set(inline) <= set(typer.main.get_command(app).commands)


def arguments(path: Path) -> list[str]:
    """The strings of a test file that may be arguments of a command."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Assert):
            return
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if name in ("failed", "Then"):  # of the latter, `more` and `before`
                children = [node.func, *node.args[:1], *node.keywords]
                for child in children:
                    if not isinstance(child, ast.keyword) or child.arg in ("more", "before"):
                        visit(child)
                return
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found
