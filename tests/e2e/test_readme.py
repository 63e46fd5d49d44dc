"""What the README and docs/ say is true: targets, links and tables are there, the cache is a cache
once it is a file, and the script samples. Commands are run by test_documented.py."""

import inspect
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))),
)
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}


COMMAND = re.compile(r"(?:^|`)make ([a-z0-9-]+)", re.MULTILINE)
TARGETS = {target for text in TEXTS.values() for target in COMMAND.findall(text)}


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_every_make_target_exists(target):
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", TEXTS[page]):
        assert target.startswith("http") or (ROOT / page).parent.joinpath(target).exists(), target


def test_what_an_index_shows_of_the_readme_leads_to_no_file():
    """By the substitutions that the build makes; `make release-check` looks at what was built."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        hooks = tomllib.load(file)["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    assert hooks["fragments"] == [{"path": "README.md"}]
    text = TEXTS["README.md"]
    for each in hooks["substitutions"]:
        assert re.search(each["pattern"], text)
        text = re.sub(each["pattern"], each["replacement"], text)
    assert "Questions (`docs/questions.md`): " in text
    assert "make of the same seeds" not in text
    assert {link for link in re.findall(r"\]\(([^)]+)", text) if "://" not in link} == set()
    assert re.findall(r"\[arXiv 2411.17616\]\(https", text)


def test_the_readme_is_short():
    assert len(TEXTS["README.md"].encode()) <= 8192


def test_the_locked_versions_of_vbench_are_those_of_its_environment():
    pins = set(re.findall(r"(?:\\n)?([a-z]+==[\d.]+)", TEXTS["docs/metrics.md"]))
    locked = (ROOT / "constraints-vbench.txt").read_text(encoding="utf-8").splitlines()
    assert pins & set(locked) == pins
    assert {pin.partition("=")[0] for pin in pins} == {
        *("pip", "setuptools", "torch", "torchvision", "vbench")
    }


def test_every_table_is_reproduced():
    for number in range(1, 9):
        for verb in ("download --recipe", "cache-sweep --recipe", "report"):
            assert f"skipdit {verb} table{number}" in TEXTS["docs/tables.md"]


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the package with the documented cache in it."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "skipdit_cli", folder / "skipdit_cli")
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    (source,) = re.findall(r'```python\n("""Every-other.*?)```', TEXTS["docs/caches.md"], re.DOTALL)
    (folder / "skipdit_cli" / "caches" / "every_other.py").write_text(source, encoding="utf-8")
    return folder


RUN = """
import sys
from skipdit_cli.cli import main

for line in sys.argv[1:]:
    sys.argv = ["skipdit", *line.split()]
    try:
        main()
    except SystemExit as end:
        assert not end.code
    print("=====")
"""


def run(folder: Path, *lines: str) -> list[str]:
    """What every command prints, all run by the package in that folder, in one process."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *lines], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("=====\n")[:-1]


@pytest.mark.slow
def test_a_cache_is_one_file(extended):
    listed, planned, swept = run(
        extended,
        "ls caches",
        "plan --model digits --cache every-other --steps 6",
        "cache-sweep --model digits --cache every-other --steps 6 --num-samples 2 --batch-size 2"
        " --repeats 1",
    )
    assert "Every-other: reuse all attention outputs" in listed
    (line,) = [line for line in planned.splitlines() if line.startswith("| every-other")]
    assert [cell.strip() for cell in line.split("|")][2:5] == ["whole", "3", "3"]
    (line,) = [line for line in swept.splitlines() if "every-other" in line and "|" in line]
    cells = [cell.strip() for cell in line.split("|")]
    assert (
        0 < float(cells[cells.index("every-other") + 1 :][10 - 1].split()[0].strip("*")) < 100
    )  # PSNR


@pytest.fixture
def converted(tmp_path, monkeypatch):
    """A home with a small official checkpoint converted under its documented name, and a
    pipeline of diffusers with small components beside it."""
    from diffusers import AutoencoderKL, DDIMScheduler, LattePipeline
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    from skipdit_cli.checkpoints import catalog, networks
    from skipdit_cli.checkpoints.download import convert
    from skipdit_cli.models.latte_t2v import LatteT2V

    golden = ROOT / "tests" / "parity" / "golden" / "t2v"
    case = json.loads((golden / "case.json").read_text(encoding="utf-8"))["ctor"]
    known = inspect.signature(LatteT2V.__init__).parameters
    small = {key: value for key, value in case.items() if key in known}
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    monkeypatch.setattr(networks, "arguments", lambda card: {**small, "skip": True})
    convert(catalog.card("latte-skip"), golden / "weights.safetensors")

    words = {word: i for i, word in enumerate(("<pad>", "</s>", "a", "dog"))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="</s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    LattePipeline(
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>"),
        text_encoder=T5EncoderModel(
            T5Config(vocab_size=8, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
        ),
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            norm_num_groups=4,
        ),
        transformer=LatteT2V(**small),
        scheduler=DDIMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=False),
    ).save_pretrained(tmp_path / "pipeline")
    return tmp_path


def test_a_converted_checkpoint_samples_in_a_plain_diffusers_script(converted):
    """The documented script, on a CPU, with a small pipeline in place of the published one."""
    marked = r"<!-- diffusers: begin -->\n```python\n(.*?)```"
    script = re.search(marked, TEXTS["docs/models.md"], re.DOTALL)[1]
    for old, new in {
        '"maxin-cn/Latte-1"': f"{str(converted / 'pipeline')!r}",
        '.to("cuda")': "",
        "torch.float16": "torch.float32",
        "video_length=16": "video_length=4, num_inference_steps=2, height=64, width=64",
    }.items():
        assert old in script
        script = script.replace(old, new)
    made: dict = {}
    exec(script, made)
    assert type(made["pipeline"].transformer) is made["LatteT2V"]
    assert made["pipeline"].transformer.config.skip
    clip = made["clip"]
    assert tuple(clip.shape) == (1, 4, 3, 64, 64)
    assert clip.isfinite().all()
    assert clip.std() > 0


@pytest.mark.parametrize(("name", "page"), [("demo", "README.md"), ("table3", "docs/tables.md")])
def test_tables_are_those_of_the_committed_results(name, page):
    """`make tables` writes them between the markers."""
    markers = rf"<!-- {name}: begin -->\n(.*?)<!-- {name}: end -->"
    shown = re.search(markers, TEXTS[page], re.DOTALL)[1].splitlines()
    written = (ROOT / "results" / "tiny" / f"{name}.md").read_text(encoding="utf-8").splitlines()
    assert shown == [line for line in written if line.startswith("|")]
