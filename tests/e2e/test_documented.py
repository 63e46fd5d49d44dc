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
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skipdit_cli import registry
from skipdit_cli.checkpoints import catalog, local
from skipdit_cli.cli import command_line
from skipdit_cli.embedded import shipped
from skipdit_cli.recipe import published, recipe
from skipdit_cli.storage import training
from tests.tiny_pipelines import make

ROOT = Path(__file__).parents[2]
COMMANDS = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = ("README.md", *(f"docs/{path.name}" for path in DOCS))  # test_outside: CONTRIBUTING.md
SHORT = "--num-samples 2 --batch-size 2"
LOOKS = "--steps 2 --eval-samples 4 --eval-steps 2 --batch-size 4 --log-every 2"
DIGITS = ("accuracy@digits", "fid@digits", "psnr", "ssim")


@dataclass(frozen=True)
class Then:
    """What comes of a line.

    Attributes:
        code: exit code. shows: parts of stdout; of an error's one line where the code is not 0.
        writes: files that are there afterwards.
        more: appended to the line. before: commands that it stands on, or a function.
        check: looks at stdout, and says what is wrong by an assertion.
        whole: with the rows of fewer steps.
    """

    code: int = 0
    shows: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    more: str = ""
    before: str | Callable[[], object] = ""
    check: Callable[[str], object] = lambda out: None
    whole: bool = False


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


def beaten(best: str, *others: str) -> Callable[[str], None]:
    """One cache is nearer to the reference than others, and all samples show their digits."""

    def check(out: str) -> None:
        found = {row["cache"]: row for row in rows(out)}
        psnr = {name: float(found[name]["PSNR (dB) ↑"].split(" ± ")[0]) for name in (best, *others)}
        assert max(psnr, key=lambda name: psnr[name]) == best
        assert all(float(row["Accuracy@digits ↑"]) == 1 for row in found.values())

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


def what_others_made() -> None:
    """Images and clips of some tools, beside those without a cache."""
    random = np.random.default_rng(0)
    full = random.integers(20, 236, (3, 24, 24, 3))
    for place in ("full", "teacache", "taylorseer", "made/cat"):
        Path(place).mkdir(parents=True)
        for i, image in enumerate(full + random.integers(-5, 6, full.shape)):
            Image.fromarray(image.astype(np.uint8)).save(Path(place, f"{i}.png"))
    np.savez("teacache.npz", arr_0=full.astype(np.uint8))
    np.savez("real.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    for place in ("clips", "full-clips"):
        Path(place).mkdir()
        for i in range(2):
            np.save(Path(place, f"{i}.npy"), np.full((16, 24, 24, 3), 9 * i, np.uint8))
    Path("prompts.txt").write_text("a cat\na dog\na bird\n")


def a_vbench_environment() -> None:
    """One that was made to its end, but for its packages."""
    python = shipped.home() / "vbench-env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    shutil.copy(shipped.vbench_pins(), python.parents[1] / "locked.txt")


def runs_are_gone(folder: str) -> None:
    assert not list(Path(folder).glob("samples/*")) + list(Path(folder).glob("scores/*"))


def a_copy_of_results() -> None:
    shutil.copytree("results", "released")


def all_kept(out: str) -> None:
    assert {row["change"] for row in rows(out)} == {"+0 dB", "+0 %"}


def own_prompts() -> None:
    Path("mine.csv").write_text(
        "prompt,seed,name\na two moving up,7,two\na seven moving down,8,seven\n"
    )


def photos() -> None:
    """Images of two classes."""
    for place, name in enumerate(("circle", "cross")):
        folder = Path("photos", name)
        folder.mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (20, 24), (90 * place + 9 * i, 40, 0)).save(folder / f"{i}.png")


def a_training() -> None:
    """A run folder as `train --eval` leaves it."""
    score = {"step": 200, "metric": "fid@digits", "value": 20.0, "samples": 500}
    training.append(Path("run", training.SCORES), score)


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
        "skipdit cache-sweep --n 2..6": Then(
            more=f"{SHORT} --steps 6 --repeats 0",
            check=swept("skip-cache", intervals=(2, 3, 4, 5, 6)),
        ),
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
        "skipdit cache-sweep --pipeline flow-digits --method fora,taylorseer --n 2..3": Then(
            more=f"{SHORT} --steps 6 --repeats 0", shows=("| fora n=2 ", "| taylorseer n=3 ")
        ),
        "skipdit evaluate smoke": SMOKE,
        "skipdit report table1": REPORT,
        'skipdit compare "skip-cache(n=2,window=700-50)" "skip-cache(n=3,window=700-50)"': Then(
            check=column("metric", "psnr", "ssim")
        ),
        "skipdit ls runs": Then(shows=("| digits-skip ", "| skip-cache(n=3,", " 10 / 10 ")),
        "skipdit status": Then(shows=("| done ", " done\n")),
        "skipdit doctor": DOCTOR,
    },
    "docs/pipelines.md": {
        'skipdit sample --pipeline flow-digits --prompt "a three" --prompt "the digit seven" '
        "--num-samples 4": Then(shows=("4 samples of run ",), writes=("results/samples/*/*3.png",)),
        "skipdit ls caches --pipeline flow-digits": Then(shows=("| fora             | fits ",)),
        "skipdit plan --pipeline flow-digits --method fora,taylorseer --n 2..4": Then(
            check=column("full", "28", "15", "10", "8", "15", "10", "8")
        ),
        "skipdit cache-sweep --pipeline flow-digits --method fora,taylorseer --n 2..3 "
        '--cache "first-block(threshold=0.1|0.2)" --cache "dp-cache(full=15|10)" '
        "--num-samples 30 --batch-size 10": Then(
            more="--repeats 0 --no-fewer-steps",
            check=beaten(
                "dp-cache full=10", "fora n=2", "taylorseer n=2", "first-block threshold=0.2"
            ),
            writes=("results/sweeps/flow-digits/sweep.html",),
        ),
        "skipdit report flow-digits": Then(shows=("| taylorseer n=3 ", "Accuracy@digits")),
        "skipdit analyze dynamics --pipeline flow-digits": Then(
            more="--num-samples 2", shows=("dynamics of flow-digits",)
        ),
        "skipdit ls caches --pipeline my-pipeline": Then(
            before=lambda: make("flux", Path("my-pipeline")),
            shows=("| fora             | fits ", "| skip-cache       | no: "),
        ),
        "skipdit plan --pipeline my-pipeline --method fora,delta-dit --n 2..4 --steps 8 "
        "--call height=32 --call width=16": Then(
            check=column("full", "8", "5", "4", "3", "4", "3", "2")
        ),
        "skipdit cache-sweep --pipeline my-pipeline "
        "--method fora,pab,taylorseer,first-block,delta-dit --n 2..3 --steps 8 "
        '--call height=32 --call width=16 --prompt "a cat" --prompt "a red dog" '
        "--num-samples 4": Then(
            more="--repeats 0", shows=("| fora n=2 ", "| first-block threshold=0.05 ")
        ),
        'skipdit sample --pipeline my-pipeline --cache "fora(n=2,window=90%-10%)" --steps 8 '
        '--call height=32 --call width=16 --prompt "a cat" --num-samples 2': Then(
            shows=("2 samples of run ",)
        ),
        "skipdit profile --pipeline my-pipeline --weights random --method delta-dit --n 2 "
        "--steps 8 --call height=32 --call width=16 --repeats 1": Then(shows=("| delta-dit n=2 ",)),
    },
    "docs/forecasting.md": {
        "skipdit cache-sweep forecasting --sampler ddpm": Then(
            more="--num-samples 1 --batch-size 1",
            shows=(
                "| dp-cache K=17 - skip-cache n=3 ",
                "| fewer steps, MACs of n=6 ",
                "skip-cache with ddpm: ",
            ),
            writes=("results/tiny/forecasting-captioned_psnr-speedup.png",),
        ),
        "skipdit analyze calibrate --model latte-skip --method dp-cache --full 25,17,13,9": Then(
            code=4, shows=("skipdit download latte-skip",)
        ),
        "skipdit cache-sweep --model latte-skip --n 2..4 "
        '--cache "dp-cache(full=25|17|13)" --num-samples 64': Then(
            code=4, shows=("skipdit download latte-skip",)
        ),
    },
    "docs/analysis.md": {
        "skipdit analyze digits-skip": Then(
            more="--num-samples 1 --steps 4",
            shows=("smoothness of digits and digits-skip", "sensitivity of digits and digits-skip"),
            writes=("results/analysis/digits+digits-skip/analysis.html",),
        ),
        "skipdit analyze smoothness --model digits --model digits-skip --at 10,40": Then(
            more="--num-samples 1 --steps 40 --grid 3 --directions 1",
            check=column("step", "10", "40", "10", "40"),
            writes=("results/analysis/digits+digits-skip/smoothness-1.png",),
        ),
        "skipdit analyze dynamics --model digits --model digits-skip "
        '--cache "skip-cache(n=3)" --layer 0,2,5': Then(
            more="--num-samples 1 --steps 6",
            shows=("reused by skip-cache(n=3,",),
            check=column("half", "conditional", "null", "conditional", "null"),
        ),
        "skipdit analyze similarity --model digits-skip "
        '--cache "skip-cache(n=2..3)" --cache "fora(n=2)"': Then(
            more="--num-samples 2 --steps 6", check=column("layer", "5", "5", "5")
        ),
        "skipdit analyze spectra --model digits --model digits-skip --stacks 1,3": Then(
            more="--num-samples 1 --steps 3 --at 2", check=column("step", "2", "2")
        ),
        "skipdit analyze sensitivity --model digits-skip --layers 3 --every 5": Then(
            more="--num-samples 1 --steps 6", check=column("model", "digits-skip")
        ),
        "skipdit analyze smoothness --model taichi --model taichi-skip "
        "--at 10,250 --num-samples 4": Then(code=4, shows=("skipdit download taichi",)),
        "skipdit analyze dynamics --model taichi --model taichi-skip --num-samples 4": Then(
            code=4, shows=("skipdit download taichi",)
        ),
    },
    "docs/anything.md": {
        "skipdit evaluate --samples teacache --reference full": Then(
            before=what_others_made,
            check=column("metric", "psnr", "ssim"),
            shows=("Pairs: teacache with full, by name.",),
        ),
        "skipdit evaluate --samples teacache --samples taylorseer --reference full --out scores": (
            Then(
                check=column("samples", *["teacache"] * 2, *["taylorseer"] * 2),
                writes=("scores/scores.md", "scores/scores.csv", "scores/scores.html"),
            )
        ),
        'skipdit evaluate --samples "made/*/[0-9].png" --metrics fid': Then(
            4, check=column("n", "3"), shows=("Compared as sets: FID with imagenet256.",)
        ),
        "skipdit evaluate --samples teacache --metrics fid --reference real.npz": Then(
            4, check=column("metric", "fid"), shows=("Compared as sets: FID with real.npz.",)
        ),
        "skipdit evaluate --samples teacache --reference full --metrics dinov2-similarity,kid": (
            Then(
                4,
                check=column("metric", "dinov2-similarity", "kid"),
                shows=("download --metrics dinov2`", "download --metrics inception`"),
            )
        ),
        "skipdit evaluate --samples teacache --metrics clip-score --prompts prompts.txt": Then(
            4, check=column("metric", "clip-score"), shows=("needs weights [1]",)
        ),
        "skipdit evaluate --samples clips --reference full-clips --metrics psnr,fvd": Then(
            4,
            check=column("metric", "psnr", "fvd"),
            shows=("| psnr     | 100 dB ", "download --metrics i3d"),
        ),
        "skipdit evaluate --samples teacache.npz --reference full --json": Then(
            shows=('"compared_with": "full, by order"',)
        ),
    },
    "docs/caches.md": {
        "skipdit ls caches": Then(check=column("caches", *registry.names("caches"))),
        "skipdit cache-sweep --model captioned-digits-skip "
        "--method skip-cache,fora,pab,t-gate --n 2..4": Then(
            more="--num-samples 1 --batch-size 1 --steps 12 --repeats 0",
            check=swept("skip-cache", "fora", "pab", "t-gate", intervals=(2, 3, 4)),
            writes=("results/sweeps/captioned-digits-skip/sweep-samples.png",),
        ),
        "skipdit cache-sweep --model digits "
        '--cache "dbcache(Fn_compute_blocks=1..2,Bn_compute_blocks=1,threshold=0.08|0.3)"': Then(
            more=f"{SHORT} --steps 12 --repeats 0",
            shows=("| dbcache threshold=0.3 Fn_compute_blocks=2 Bn_compute_blocks=1 ",),
        ),
        "skipdit cache-sweep --model moving-digits --cache "
        '"adacache(cache_rates=6/5/4/3/2/1|3/2/1/1/1/1,apply_moreg=false|true)"': Then(
            more=f"{SHORT} --steps 12 --repeats 0",
            shows=(
                "| adacache cache_rates=3/2/1/1/1/1 apply_moreg=true ",
                "for 30 steps of Open-Sora",
            ),
        ),
        "skipdit cache-sweep --model moving-digits "
        '--cache "seacache(threshold=0.25|0.5,max_consecutive_cached=2|4)"': Then(
            more=f"{SHORT} --steps 12 --repeats 0",
            shows=("| seacache threshold=0.5 max_consecutive_cached=4 ",),
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
        'skipdit cache-sweep --model digits-skip --cache "skip-cache(n=2..4,order=0|1)"': Then(
            more=f"{SHORT} --steps 6 --repeats 0",
            shows=("| skip-cache n=4 order=1 ", "order=1 extrapolates what the paper's repeats"),
        ),
        "skipdit plan --model captioned-digits-skip --target-speedup 1.5": Then(
            more="--steps 12",
            shows=("nearest to 1.5x by counting: ", "left out: adacache decides "),
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
        "skipdit cache-sweep --model digits-skip --n 2..3 --window 1000-0": Then(
            more=f"{SHORT} --steps 10 --repeats 0",
            shows=("| no cache, 8 steps ", "- At equal cost an uncached run of fewer steps is "),
            whole=True,
        ),
        "skipdit plan --model dit-xl-2-skip --n 2..4 --no-fewer-steps": Then(
            check=column("full", "250", "128", "87", "67")
        ),
        "skipdit analyze calibrate --model digits-skip": Then(
            more=f"{SHORT} --steps 8", shows=("teacache on digits-skip, from 14 observations: ",)
        ),
        "skipdit analyze calibrate --model digits-skip --method dp-cache --full 25,17,13,9": Then(
            more=f"{SHORT} --steps 8 --full 4,2",
            shows=("dp-cache on digits-skip, full=2, branch=2: ", " is best; dB of the others: "),
        ),
        'skipdit cache-sweep --model digits-skip --n 2..4 --cache "dp-cache(full=17)"': Then(
            more=f"{SHORT}", shows=("| dp-cache full=17 ", "| skip-cache n=4 ")
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
        "skipdit report smoke --figure pdf,svg --width page": Then(
            shows=("| Skip-Cache n=3 ",),
            writes=tuple(
                f"results/tiny/smoke-{each}.{form}"
                for each in ("psnr-speedup", "ssim-speedup", "errors")
                for form in ("pdf", "svg")
            ),
        ),
        "skipdit report --diff before/results results": Then(
            5,
            before="cache-sweep --recipe smoke --repeats 0 --steps 6 --results before/results",
            shows=("numbers in 1 table moved", "| macs ", "| digits_psnr ", "(steps 6 -> 12)"),
        ),
        "skipdit cache-sweep --model digits-skip --n 2..3 --name mine": Then(
            more=f"{SHORT} --steps 6 --repeats 1", writes=("results/sweeps/mine/sweep.html",)
        ),
        'skipdit cache-sweep --name mine --cache "fora(n=2)" --num-samples 6': Then(
            more="--repeats 1",
            shows=("# digits-skip: 6 samples, ddim 6,",),
            check=column("cache", "no cache (n=1)", "skip-cache n=2", "skip-cache n=3", "fora n=2"),
        ),
        "skipdit report mine": Then(
            shows=("# digits-skip: 6 samples, ddim 6,", "| fora n=2 ", "- Timings: series ")
        ),
        "skipdit ls studies": Then(check=column("study", "mine")),
        "skipdit status mine": Then(check=column("state", *["done"] * 4), shows=("4 done\n",)),
        "skipdit status table1 --scale paper --gpu h100": Then(
            3, shows=("| waiting ", "hours on H100: sampling ", "runs are not done (")
        ),
        "skipdit status": Then(shows=("| done ", " done\n")),
        'skipdit gate --baseline released --candidate results --rule "psnr >= -0.3 dB" '
        '--rule "ssim >= -1 %"': Then(
            before=a_copy_of_results, check=all_kept, shows=("| psnr >= -0.3 dB ",)
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
        "skipdit rm --cache fora --results study --dry-run": Then(shows=("1 run, ", "would be")),
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
        "skipdit plan table3 --scale paper --gpu h100 --workers 8": Then(
            shows=("hours on 8 x H100: of one of them sampling ",)
        ),
        "skipdit plan --model dit-xl-2-skip --n 2..4 --gpu a100": Then(
            check=column("full", "250", "128", "87", "67"),
            shows=("on A100", "of memory at batch 4"),
        ),
        "skipdit plan --all": Then(check=column("table", *(f"Table {i}" for i in range(1, 9)))),
        "skipdit profile --calibrate --model digits": Then(
            check=column("precision", "float32"), more="--repeats 1"
        ),
        "skipdit sample --model dit-xl-2-skip --weights random --steps 2 --num-samples 1": Then(
            more="--scale tiny", shows=("1 sample of run ", "mean nothing")
        ),
        "skipdit plan table1 --scale paper --weights random": Then(
            shows=("(paper scale, random weights)", "nothing")
        ),
        "skipdit cache-sweep table1 --scale paper --weights random --num-samples 2 "
        "--batch-size 2 --steps 4": Then(
            more="--scale tiny --repeats 0",
            shows=("(tiny scale, random weights)", "mean nothing"),
        ),
    },
    "docs/machines.md": {
        "skipdit sample --model moving-digits-skip --num-samples 8 --batch-size 2 --workers 2": (
            Then(
                more="--steps 2",
                shows=("8 samples of run ",),
                writes=("results/samples/*/000007.mkv",),
            )
        ),
        "skipdit cache-sweep --model digits-skip --n 2..3 --num-samples 8 --batch-size 2 "
        "--engine ray --workers 2": Then(
            more="--steps 4 --repeats 0",
            check=column("cache", "no cache (n=1)", "skip-cache n=2", "skip-cache n=3"),
        ),
        "skipdit cache-sweep table3 --scale paper --device cuda --repeats 0 --engine slurm "
        "--slurm partition=gpu --slurm time=240": Then(2, shows=("there is no sbatch here",)),
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
        "skipdit vbench-env": Then(
            before=a_vbench_environment, shows=("home/vbench-env/bin/python\n",)
        ),
        "skipdit evaluate 3f9c21 --npz ours.npz": Then(writes=("ours.npz",)),
        "skipdit evaluate --npz samples.npz": Then(
            before=an_npz,
            check=column(
                "metric",
                *("clip-iqa", "cmmd", "fd-dinov2"),
                *("fid", "inception-score", "kid", "precision", "recall", "sfid"),
            ),
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
        "skipdit sample --model painted-digits --prompts mine.csv": Then(
            shows=("2 samples of run ",), more="--batch-size 2 --steps ddim4+1", before=own_prompts
        ),
        "skipdit cache-sweep --model painted-digits "
        "--prompts digits-image --seeds 0..4 --n 2": Then(
            shows=("painted-digits: 4 samples, ", ", seeds 0..4"),
            more="--num-samples 4 --batch-size 2 --steps ddim4+1 --repeats 0",
        ),
    },
    "docs/python.md": {
        "skipdit cache-sweep --n 2..6": Then(
            more=f"{SHORT} --steps 6 --repeats 0",
            check=swept("skip-cache", intervals=(2, 3, 4, 5, 6)),
        ),
    },
    "docs/questions.md": {
        "skipdit cache-sweep --model captioned-digits-skip --target-speedup 1.5 --name equal "
        "--figure pdf": Then(
            more=f"{SHORT} --steps 12 --repeats 1 --method skip-cache,fora,t-gate",
            shows=("| skip-cache", "| fora n=", "| t-gate n="),
            writes=("results/sweeps/equal/sweep.tex", "results/sweeps/equal/sweep-*.pdf"),
        ),
        "skipdit compare fora t-gate --study equal": Then(check=column("metric", "psnr", "ssim")),
        "skipdit cache-sweep --model digits-skip "
        '--cache "skip-cache(n=2..4,window=700-50|1000-0)" --name grid': Then(
            more=f"{SHORT} --steps 12 --repeats 1",
            shows=("Windows differ",),
            writes=(
                "results/sweeps/grid/sweep-heat-psnr.png",
                "results/sweeps/grid/sweep-heat-speedup.png",
                "results/sweeps/grid/sweep.html",
            ),
        ),
        'skipdit cache-sweep --name grid --num-samples 32 --cache "fora(n=3)"': Then(
            more="--num-samples 4 --repeats 1",
            shows=("# digits-skip: 4 samples, ddim 12,", "| fora n=3 ", "| skip-cache n=4 "),
        ),
        "skipdit report --diff before/results results": Then(
            before="cache-sweep --name grid --model digits-skip --steps 12 --num-samples 2 "
            "--cache skip-cache(n=2,window=700-50) --repeats 0 --results before/results",
            shows=("sweeps/grid/sweep", "new"),
        ),
        "skipdit compare before/results results": Then(),
        'skipdit show "skip-cache(n=4,window=1000-0)" --model digits-skip --worst 5': Then(
            shows=("| worst by ", "| psnr ", "results/samples/")
        ),
        "skipdit cache-sweep --model captioned-digits-skip --n 2..3 --prompts mine.csv "
        "--name mine": Then(
            before=own_prompts,
            more="--steps 6 --repeats 0",
            shows=("# captioned-digits-skip: 2 samples, ",),
        ),
        'skipdit cache-sweep --model captioned-digits-skip --n 2 --prompt "a two moving up" '
        "--seeds 0..4": Then(
            more="--steps 6 --repeats 0", shows=("# captioned-digits-skip: 5 samples, ",)
        ),
        "skipdit plan table3 --scale paper --gpu h100 --workers 8": Then(
            shows=("hours on 8 x H100: of one of them sampling ", "75520 samples of 16 runs")
        ),
        "skipdit plan table3 --scale paper --gpu h100 --workers 8 --num-samples 47": Then(
            shows=("752 samples of 16 runs",)
        ),
        "skipdit export --study equal --out judged --blind --seed 1": Then(
            writes=("judged/D/0001.mp4", "judged/manifest.csv", "judged-key.csv")
        ),
        "skipdit ls runs --size": Then(shows=("| captioned-digits-skip ", " runs, ")),
        "skipdit rm --cache t-gate --dry-run": Then(shows=("1 run, ", "would be")),
        "skipdit rm --cache t-gate": Then(shows=("1 run, ", " removed")),
        'skipdit show "skip-cache(n=2,window=700-50)" --model digits-skip': Then(
            shows=("| psnr ", "again: skipdit sample --model digits-skip")
        ),
    },
    "docs/tables.md": {
        **{
            f"skipdit analyze {each}": Then(code=4, shows=("skipdit download taichi",))
            for each in (
                "smoothness --model taichi --model taichi-skip --at 10,250",
                "dynamics --model taichi --model taichi-skip",
            )
        },
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
        "skipdit train --model digits-skip --data photos --steps 2000 --out "
        "results/train/mine": Then(
            more="--steps 2 --batch-size 4",
            before=photos,
            writes=("results/train/mine/*.safetensors", "results/train/mine/card.json"),
        ),
        "skipdit cache-sweep --model results/train/mine --n 2..4": Then(
            more=f"{SHORT} --steps 4 --repeats 0",
            writes=("results/sweeps/mine-*/sweep.md",),
        ),
        "skipdit latents --model ucf101-skip --data clips --crops 4 --out results/latents/clips": (
            Then(2, shows=("clips: no such",))
        ),
        "skipdit train --model ucf101-skip --data results/latents/clips --images-per-clip 8": Then(
            2, shows=("results/latents/clips: no such",)
        ),
        "skipdit train --model latte-skip --data pairs.csv --start latte --stage skip --steps 5000 "
        "--out first": Then(4, shows=("the weights of latte are not here",)),
        "skipdit train --model latte-skip --data pairs.csv --start ./first --steps 20000 --out "
        "second": Then(2, shows=("--start: ", "./first")),
        "skipdit train --model dit-xl-2-skip --data imagenet/train --config official --processes "
        "8": Then(2, shows=("imagenet/train: no such",)),
        **{
            f"skipdit train --model {model} --steps 1200 --eval fid@digits --eval-every 200 "
            f"--out {out}": Then(more=LOOKS, writes=(f"{out}/scores.jsonl",))
            for model, out in (("digits", "vanilla"), ("digits-skip", "skip"))
        },
        **{
            f"skipdit report training vanilla skip{paper}": Then(
                shows=("FID@digits against training steps", *shown),
                writes=("results/training/training.png",),
            )
            for paper, shown in {"": (), " --paper": ("4.38x",)}.items()
        },
        "skipdit train --model digits --steps 2400 --batch-size 128 --learning-rate 0.006": Then(
            more="--steps 2 --batch-size 4", writes=("results/train/digits/*.safetensors",)
        ),
        "skipdit train --model flow-digits --steps 5000 --learning-rate 0.003": Then(
            more="--steps 2 --batch-size 4", writes=("results/train/flow-digits/model_index.json",)
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
def test_every_line_does_what_the_page_says(skipdit, whole, documented, machine, tmp_path, page):
    for line in documented(page):
        if line in LINES[page]:
            try:
                then = LINES[page][line]
                follow(whole if then.whole else skipdit, line, then, tmp_path)
            except AssertionError as error:
                error.add_note(f"{page}: {line}")
                raise


@pytest.mark.slow
def test_the_python_of_the_questions(skipdit, capsys):
    page = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    skipdit("cache-sweep --model digits-skip --n 2..3 --steps 4 --num-samples 3 --repeats 0").ok()
    capsys.readouterr()
    names: dict = {}
    exec(compile(code, "questions.md", "exec"), names)
    assert len(names["worst"]) == 5
    assert names["worst"].value.is_monotonic_increasing
    assert capsys.readouterr().out.count("skip-cache(n=") == 5


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
    assert all(float(row["latency of batch 1 (s) ↓"]) > 0 for row in timed)
    assert "PSNR (dB) ↑" not in timed[0]
    assert " (random weights): batch 1, " in done.out


LITTLE = "--model digits --num-samples 1 --steps 2"
JSON = {
    "ls": "",
    "plan": "--model digits",
    "sample": f"--model digits {SHORT} --steps 2",
    "latents": "--model digits --data photos",
    "cache-sweep": f"--model digits {SHORT} --steps 2 --method fora --n 2 --repeats 0",
    "status": "digits",
    "evaluate": "smoke --scale tiny --set steps=2",
    "show": "fora --model digits",
    "report": "smoke --scale tiny",
    "report training": "run",
    "compare": "results results",
    "gate": "--baseline results --candidate results --rule psnr>=0",
    "profile": "--model digits --weights random --steps 2 --batch-size 1 --repeats 1",
    "analyze calibrate": f"--model digits --method mag-cache {SHORT} --steps 2",
    "analyze smoothness": f"{LITTLE} --at 2 --grid 3 --directions 1",
    "analyze dynamics": LITTLE,
    "analyze similarity": LITTLE,
    "analyze spectra": f"{LITTLE} --at 2 --stacks 3",
    "analyze sensitivity": f"{LITTLE} --layers 1",
    "doctor": "",
}


@pytest.mark.slow
def test_the_commands_that_take_json_do(skipdit, machine):
    """Every command takes --help; those that the page names print JSON and nothing else."""
    (named,) = re.findall(r"takes `--help`; (.*?)\s+take `--json`", COMMANDS, re.DOTALL)
    assert re.findall(r"`([a-z -]+)`", named.replace("\n", " ")) == list(JSON)
    skipdit("cache-sweep --recipe smoke --scale tiny --steps 2 --repeats 0").ok()
    photos()
    a_training()
    for command, given in JSON.items():
        done = skipdit(f"{command} {given} --json")
        assert done.code == 0, done
        assert json.loads(done.out), command
    for command in [*command_line().commands, *JSON, "analyze page"]:
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
    text = re.sub(r"`(pip|ray) [^`]*`", "", text)
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    missing = {option for option in options if not re.search(rf"(?<!\S){option}(?!\S)", given)}
    assert missing == set()
    inline = re.findall(r"`skipdit ([a-z-]+)[^`]*`", text)
    assert set(inline) <= set(command_line().commands)


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
