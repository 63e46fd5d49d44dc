"""Starting: what is there at once, and what a wrong command line says."""

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from skipdit_cli import __version__
from skipdit_cli.generate.footprint import footprint
from skipdit_cli.profiling import counts

ROOT = Path(__file__).parents[2]
COMMANDS = (
    *("ls", "plan", "sample", "cache-sweep", "evaluate", "report", "profile", "train"),
    *("show", "rm", "export", "latents"),
)
HEAVY = {
    *("torch", "diffusers", "transformers", "tokenizers", "sentencepiece", "huggingface_hub"),
    *("matplotlib", "scipy", "skimage", "sklearn", "pandas"),
}


IDLE = 0.14  # CPU seconds that `LIBRARIES` takes on a machine that does nothing else
LIBRARIES = ("-c", "import typer.main, tabulate, importlib.metadata")


def cpu_seconds(*arguments: str) -> float:
    """CPU time of Python with these arguments, its start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


QUICK = pytest.mark.parametrize("arguments", [("--help",), ("ls",), ("cache-sweep", "--help")])


@QUICK
def test_starting_takes_less_than_300_ms_of_cpu(arguments):
    """Of ten starts one has to, on an idle machine; a busy one is slower at all it does."""
    taken: list[float] = []
    while len(taken) < 10 and min(taken, default=1) >= 0.3:
        slower = max(1, cpu_seconds(*LIBRARIES) / IDLE)
        taken.append(cpu_seconds("-m", "skipdit_cli", *arguments) / slower)
    assert min(taken) < 0.3


def imported(skipdit, *arguments):
    """The modules that are there when a command ends."""
    probe = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('\\nimported:', *sys.modules))\n"
        "from skipdit_cli.cli import main\n"
        "main()"
    )
    done = skipdit.wait(skipdit.start(*arguments, program=("-c", probe))).ok()
    found = set(done.out.rpartition("imported: ")[2].split())
    assert "skipdit_cli.cli" in found
    return found


@QUICK
def test_starting_imports_nothing_heavy(skipdit, arguments):
    assert imported(skipdit, *arguments) & HEAVY == set()


@pytest.mark.parametrize("arguments", [("ls",), ("cache-sweep", "--help")])
def test_starting_imports_no_other_command(skipdit, arguments):
    there = imported(skipdit, *arguments)
    assert "skipdit_cli.cli.train" not in there
    assert not {"skipdit_cli.cli.ls", "skipdit_cli.cli.sweep"} <= there


def test_every_command_is_there_where_none_is_asked_for(skipdit):
    files = {path.stem for path in (ROOT / "skipdit_cli" / "cli").glob("[!_]*.py")}
    assert {f"skipdit_cli.cli.{file}" for file in files} <= imported(skipdit, "--help")


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "arguments",
    [
        ("report", "table3", "--scale", "tiny"),
        ("plan", "--model", "ucf101-skip", "--n", "2..6"),
        ("plan", "table1", "--scale", "paper"),
    ],
)
def test_what_was_counted_once_needs_no_network(skipdit, arguments):
    """Importing torch and diffusers is most of the time that these commands could take."""
    counted = (counts.layout, counts.places, counts.costs, counts.sizes, counts.decoding)
    for each in (*counted, footprint):
        each.cache_clear()  # whatever other tests counted, under homes of their own
    first, again = skipdit(*arguments).ok(), skipdit(*arguments).ok()
    assert again.out.splitlines()[:9] == first.out.splitlines()[:9]
    assert imported(skipdit, *arguments) & HEAVY == set()


def test_help_lists_the_commands(skipdit):
    for shown in (skipdit("--help").ok().out, skipdit("").ok().out):
        assert "Usage: skipdit" in shown
        assert all(f"\n  {name} " in shown for name in COMMANDS)


def test_version(skipdit):
    assert skipdit("--version").ok().out == f"{__version__}\n"


def test_ls(skipdit):
    listed = skipdit("ls").ok().out
    for line in (
        "| ucf101-skip           | class-to-video: Latte-XL/2 with skip branches (download 2.7",
        "| painted-digits        | text-to-image: HunyuanDiT-digits/4 (embedded)",
        "| latte-skip            | text-to-video: LatteT2V-XL/2 with skip branches (download ",
        "| skip-cache       | Skip-Cache: keep the hidden state entering the last layers",
        "| psnr              | Peak signal-to-noise ratio against the uncached sample, in dB.",
        "| table1      | Table 1: class-to-video generation with caching",
    ):
        assert line in listed
    only = skipdit("ls caches").ok().out
    assert re.search(r"\| moving-digits-skip +\| class-to-video: .* branches \(embedded\)", listed)
    assert "skip-cache" in only
    assert "psnr" not in only


def test_ls_of_a_cache_tells_its_settings(skipdit, table):
    listed = skipdit("ls caches delta-dit").ok().out
    assert listed.startswith("Delta-DiT")
    lines = {line["delta-dit"]: line for line in table(listed)}
    assert list(lines) == ["n", "part", "layers", "boundary", "window"]
    assert lines["n"]["default"] == "2"
    assert lines["layers"]["default"] == ""  # three quarters of the model's
    assert lines["boundary"][""].endswith("the original chooses it for each model.")  # two lines
    assert table(skipdit("ls caches pab").ok().out)[4]["default"] == "800-100"
    assert "|" not in skipdit("ls caches none").ok().out
    content = json.loads(skipdit("ls caches taylorseer --json").ok().out)
    assert [each["default"] for each in content["settings"]] == ["5", "", "1", "authors"]


def test_every_setting_of_every_cache_is_told(skipdit):
    for cache in json.loads(skipdit("ls caches --json").ok().out)["caches"]:
        told = json.loads(skipdit(f"ls caches {cache['name']} --json").ok().out)
        assert all(each["meaning"] for each in told["settings"]), told


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ls sa", ["samplers"]),
        ("plan table", [f"table{i}" for i in range(1, 9)]),
        ("plan own", ["own.yaml"]),
        ("cache-sweep --model moving", ["moving-digits", "moving-digits-skip"]),
        ("cache-sweep --metrics psnr,ss", ["psnr,ssim", "psnr,ssim@videosys"]),
        ("cache-sweep --method fora,pa", ["fora,pab"]),
        ("sample --cache skip", ["skip-cache"]),
        ("sample --sampler dd", ["ddim", "ddpm"]),
        ("download coc", ["coco"]),
        ("download trai", ["training-clips"]),
        ("download gen", ["geneval"]),
        ("evaluate 0a", ["0a1b"]),
        ("ana", ["analyze"]),
    ],
)
def test_the_shell_completes_names(skipdit, monkeypatch, words, offered):
    Path("own.yaml").write_text("")
    Path("results/samples/0a1b").mkdir(parents=True)
    Path("results/samples/0a1b/run.json").write_text("")
    monkeypatch.setenv("_SKIPDIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"skipdit {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    assert skipdit("").out.split() == offered


def test_completion_is_light(skipdit, monkeypatch):
    monkeypatch.setenv("_SKIPDIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "skipdit evaluate ")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert imported(skipdit, "") & HEAVY == set()


def test_ls_says_which_weights_are_here(skipdit, tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    folder = tmp_path / "weights" / "taichi-skip"
    folder.mkdir(parents=True)
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    lines = skipdit("ls models").ok().out.splitlines()
    (line,) = [line for line in lines if line.startswith("| taichi-skip ")]
    assert "with skip branches (here)" in line


def test_ls_json(skipdit):
    listed = json.loads(skipdit("ls --json").ok().out)
    assert list(listed) == ["models", "caches", "samplers", "metrics", "recipes"]
    names = {kind: [entry["name"] for entry in entries] for kind, entries in listed.items()}
    assert {"digits", "digits-skip", "dit-xl-2-skip", "ucf101"} <= set(names["models"])
    assert {"captioned-digits-skip", "painted-digits", "latte", "hunyuan-dit"} <= set(
        names["models"]
    )
    assert {"none", "skip-cache", "fora", "pab"} <= set(names["caches"])
    assert names["samplers"] == ["ddim", "ddpm"]
    assert {"psnr", "ssim", "fid@digits"} <= set(names["metrics"])
    assert {"smoke", *(f"table{i}" for i in (1, 2, 3, 4, 5, 8))} <= set(names["recipes"])
    assert all(entry["summary"] for entries in listed.values() for entry in entries)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("bogus", ["'bogus'", "skipdit --help"]),
        ("--bogus", ["--bogus", "skipdit --help"]),
        ("sample --modle digits", ["--modle", "skipdit sample --help"]),
        ("sample --num-samples x", ["--num-samples", "valid int", "skipdit sample --help"]),
        ("sample --seed", ["--seed", "requires an argument"]),
        ("cache-sweep --repeats 1.5", ["--repeats", "valid int"]),
        ("evaluate", ["target", "skipdit evaluate --help"]),
        ("report", ["recipe", "skipdit report --help"]),
        ("ls models caches", ["caches", "skipdit ls --help"]),
        ("ls caches fora pab", ["pab", "skipdit ls --help"]),
        ("ls caches foar", ["unknown cache 'foar'", "did you mean 'fora'?"]),
        ("ls model", ["unknown list 'model'", "did you mean 'models'?"]),
        ("ls bogus", ["unknown list 'bogus'", "known: caches, metrics, models, recipes, runs, "]),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(skipdit, arguments, parts):
    assert skipdit(arguments).failed(2, *parts).out == ""


def test_a_reader_that_leaves_is_no_error(skipdit):
    process = skipdit.start("ls")
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(120) == 1
