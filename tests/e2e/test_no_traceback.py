"""Whatever goes wrong ends in one line and an exit code, never in a traceback."""

import functools
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from skipdit_cli import registry
from skipdit_cli.cli import _crash
from skipdit_cli.errors import SkipditWarning, StoreError

ROOT = Path(__file__).parents[2]
LONG = "x" * 300
RECIPE = (ROOT / "recipes" / "smoke.yaml").read_text(encoding="utf-8")


def piped(line: str, **environment: str) -> subprocess.CompletedProcess:
    """A line of bash in which `skipdit` is this one, in a process of its own."""
    program = f'skipdit() {{ {shlex.quote(sys.executable)} -m skipdit_cli "$@"; }}\n'
    return subprocess.run(
        ["bash", "-c", program + line],
        env=os.environ | {"PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["plan", ""], "skipdit"),
        (["plan", "  "], "skipdit"),
        (["plan", "--recipe", ""], "--recipe"),
        (["plan", "smoke", "--set", ""], "--set"),
        (["sample", "--steps", ""], "--steps"),
        (["sample", "--steps="], "--steps"),
        (["sample", "--results", ""], "--results"),
        (["sample", "--weights", ""], "--weights"),
        (["cache-sweep", "--cache", ""], "--cache"),
        (["report", "smoke", "--format", ""], "--format"),
        (["report", "--diff", "a", ""], "skipdit"),
        (["evaluate", "--npz", ""], "--npz"),
        (["ls", ""], "skipdit"),
    ],
)
def test_an_empty_value(skipdit, tmp_path, words, place):
    skipdit(*words).failed(2, f"skipdit: {place}: an empty value", "give one, or leave it out")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_prompt_is_a_prompt(skipdit):
    skipdit("sample --model painted-digits --steps 0 --prompt", "").failed(2, "--steps: ", "'0'")


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["plan", LONG], 2, ["unknown recipe 'xxx", "known: forecasting, smoke, table1, "]),
        (
            ["plan", f"{LONG}.yaml"],
            2,
            ["xxx.yaml: cannot be read (File name too long); see skipdit ls recipes"],
        ),
        (["sample", "--results", LONG, "--steps", "2", "--num-samples", "1"], 1, ["name too long"]),
        (
            ["sample", "--model", "digits", "--weights", f"{LONG}.pt"],
            2,
            ["--weights xxx", "xxx.pt: cannot be read (File name too long); give a file, .pt or "],
        ),
        (["sample", "--model", LONG], 2, ["--model: unknown model 'xxx"]),
        (["sample", "--model", "painted-digits", "--prompts", LONG], 2, ["unknown prompt list"]),
        (
            ["sample", "--model", "painted-digits", "--prompts", f"{LONG}.txt"],
            2,
            ["--prompts: prompt file xxx", "xxx.txt: cannot be read (File name too long); give a "],
        ),
        (
            ["evaluate", "--npz", f"{LONG}.npz"],
            2,
            ["xxx.npz: cannot be read (File name too long); give an npz"],
        ),
        (["report", "--diff", LONG, "b"], 2, ["xxx: file name too long; give a shorter one"]),
        (["plan", "a\0b"], 2, ["skipdit: 'a\\x00b' has a null byte in it"]),
        (["sample", "--results", "a\0b"], 2, ["--results: 'a\\x00b' has a null byte in it"]),
        (["sample", "--num-samples", "9" * 5000], 2, ["--num-samples", "not a valid int"]),
        (["sample", "--seed", str(2**63)], 2, ["--seed: seed 9223372036854775808 is too many"]),
        (["sample", "--steps", "9" * 5000], 2, ["--steps: cannot take steps '999"]),
        (["sample", "--guidance", "9" * 5000], 2, ["--guidance: guidance '999"]),
        (["plan", "--n", "9" * 5000], 2, ["--n: cannot read range '999"]),
        (["plan", "--window", f"{'9' * 5000}-50"], 2, ["--window: cannot read window '999"]),
        (["plan", "--cache", f"fora(n={'9' * 5000})"], 2, ["--cache n: '999"]),
        (["sample", "--model", "painted-digits", "--prompt", "\udcff"], 2, ["--prompt", "text"]),
        (["sample", "--batch-size", str(10**9)], 2, ["--batch-size: batch_size 1000000000 is too"]),
        (["train", "--model", "digits", "--seed", str(2**63)], 2, ["--seed"]),
    ],
)
def test_values_that_nobody_expects(skipdit, tmp_path, words, code, parts):
    skipdit(*words).failed(code, *parts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("num_samples: 2,", "num_samples: 2, num_samples: 1,", ["'num_samples' occurs twice"]),
        ("steps: 12", "steps: 010", ["line 14: '010'"]),
        ("seed: 0", "seed: 1:30", ["line 14: '1:30'"]),
        ("seed: 0", "seed: !!bool abc", ["line 14: tag"]),
        ("steps: 12", "steps: ²", ["'²'"]),
        ("groups: {digits: moving-digits}", "groups: {}", ["'groups' is empty"]),
        ("paper:\n  command", "table: ../../evil\npaper:\n  command", ["'../../evil'"]),
    ],
)
def test_recipes_that_say_another_thing(skipdit, tmp_path, old, new, parts):
    assert RECIPE.count(old)
    (tmp_path / "mine.yaml").write_text(RECIPE.replace(old, new, 1))
    for command in ("plan mine.yaml", "cache-sweep --recipe mine.yaml --scale tiny"):
        skipdit(command).failed(2, "mine.yaml", *parts)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_any_encoding_of_stdout(encoding):
    done = piped("skipdit report smoke --scale tiny", PYTHONIOENCODING=encoding)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert rb"\u2191" in done.stdout  # the arrow of a heading, which none of them has


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("command", ["skipdit ls models", "skipdit --help", "skipdit --version"])
def test_a_stdout_that_is_full(command):
    done = piped(f"{command} > /dev/full")
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "skipdit: stdout: what was printed cannot be written (no space left on device); what was "
        "finished is kept; the same command prints it again"
    ]


def test_a_reader_that_has_gone_and_a_stderr_that_is_full():
    done = piped("skipdit ls --json | true; echo ${PIPESTATUS[0]}")
    assert (done.stdout.strip() in (b"0", b"1"), done.stderr) == (True, b"")
    assert piped("skipdit plan nothing 2> /dev/full").returncode == 2


def test_a_report_on_a_folder_that_takes_no_file(skipdit, tmp_path, monkeypatch):
    def refuse(path, data):
        raise StoreError("read-only file system", place=str(path))

    monkeypatch.setattr("skipdit_cli.report.write_whole", refuse)
    for json in ("", " --json"):
        with warnings.catch_warnings():
            warnings.simplefilter("always", SkipditWarning)
            done = skipdit(f"report smoke --scale tiny{json}")
        assert done.code == 0
        assert done.remarks == [
            "skipdit: warning: results/tiny/smoke.md: no files (read-only file system); "
            "the table is printed all the same"
        ]
        assert "Skip-Cache n=2" in done.out or "Skip-DiT" in done.out or '"rows"' in done.out
    done = skipdit("report smoke --scale tiny --format csv")
    done.failed(1, "results/tiny/smoke.csv: read-only file system")
    assert "Skip-DiT" in done.out


@pytest.fixture
def crashes(tmp_path, monkeypatch):
    """crashes(): the files that crashes left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return lambda: sorted(folder.iterdir())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("x"), "a mistake in skipdit: KeyError ('x')"),
        (RecursionError("too deep"), "a mistake in skipdit: RecursionError (too deep)"),
        (MemoryError(), "out of memory"),
        (AssertionError(), "a mistake in skipdit: AssertionError"),
    ],
)
def test_what_nobody_foresaw(skipdit, crashes, monkeypatch, error, said):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("skipdit_cli.recipe.scales.recipe_at", fail)
    done = skipdit("plan smoke --scale tiny")
    (path,) = crashes()
    done.failed(1, f"skipdit: {said}; please report it with {path}, which tells where")
    assert done.out == ""
    text = path.read_text()
    assert "Traceback (most recent call last)" in text
    assert "arguments: ['plan', 'smoke', '--scale', 'tiny']" in text
    assert path.name.startswith(_crash.BEFORE)


def test_a_crash_where_nothing_can_be_written(skipdit, monkeypatch):
    def fail(*_, **__):
        raise KeyError("x")

    monkeypatch.setattr("skipdit_cli.recipe.scales.recipe_at", fail)
    monkeypatch.setattr("tempfile.tempdir", "/gone")
    skipdit("plan smoke").failed(1, "a mistake in skipdit: KeyError ('x')", "TMPDIR")


def test_ctrl_c_anywhere(skipdit, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("skipdit_cli.recipe.scales.recipe_at", interrupt)
    skipdit("plan smoke").failed(130, "interrupted")


FAULTY = '''"""A method that fails."""

from dataclasses import dataclass

from skipdit_cli.sites import Site


@dataclass(frozen=True)
class Config:
    """No settings."""


def resolve(config, layout):
    return config


def hooked(settings, layout):
    return [Site("layer", 0)]


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def forward(settings, layout, call, compute, hidden_states):
    compute(hidden_states)
    raise Odd("no luck", 2)
'''


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """A distribution whose cache `faulty` raises in `forward`; returns its file."""
    folder = tmp_path / "site"
    info = folder / "faulty_example-1.dist-info"
    info.mkdir(parents=True)
    (folder / "faulty_example.py").write_text(FAULTY)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty-example\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[skipdit.caches]\nfaulty = faulty_example\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{ROOT}")
    for name in ("_announced", "_load"):
        plain = getattr(registry, name).__wrapped__
        monkeypatch.setattr(registry, name, functools.cache(plain))
    yield folder / "faulty_example.py"
    sys.modules.pop("faulty_example", None)


@pytest.mark.slow
def test_a_method_of_somebody_else_that_fails(skipdit, tmp_path, faulty, crashes, table):
    given = "--model digits-skip --steps 2 --num-samples 2 --batch-size 1 --cache faulty"
    said = f"{faulty}, line {FAULTY.count(chr(10))}: Odd: no luck; mend the file"
    skipdit(f"sample {given}").failed(1, f"skipdit: {said}")
    done = skipdit(f"cache-sweep {given} --cache fora(n=2) --repeats 0")
    done.failed(3, "1 of 3 runs failed, first faulty", said)
    quality = {line["cache"]: line["PSNR (dB) ↑"] for line in table(done.out)}
    assert quality["faulty"].startswith("failed")
    assert re.search(r"^estimate: at least \S+ [kM]?B of memory, ", done.err, re.MULTILINE)
    assert float(quality["fora n=2"].split()[0]) > 0
    assert crashes() == []


@pytest.mark.slow
def test_a_method_of_somebody_else_that_fails_in_a_worker(skipdit, tmp_path, faulty):
    given = "--model digits-skip --steps 2 --num-samples 2 --batch-size 1 --workers 2"
    skipdit(f"sample {given} --cache faulty").failed(1, f"{faulty}, line ", "Odd: no luck")


@pytest.mark.slow
def test_a_sweep_waits_for_what_another_one_makes(skipdit, tmp_path, wait_for):
    """Two sweeps of one reference at once: the second says what it waits for, and goes on."""
    from skipdit_cli.recipe.runs import make_run
    from skipdit_cli.storage.store import open_store

    given = {"steps": "2", "num_samples": 2, "batch_size": 2}
    command = "cache-sweep --model digits-skip --steps 2 --num-samples 2 --batch-size 2"
    reference = open_store(tmp_path / "results", make_run("digits-skip", "none", given))
    with reference.lock():
        second = skipdit.start(f"{command} --n 2 --repeats 0")
        assert second.stderr.readline().startswith("estimate: ")
        held = f"process {os.getpid()} is working on run {reference.run.key}"
        lines = [second.stderr.readline() for _ in range(3)]
        assert lines[-1] == f"waiting: {held}\n"
        assert any(f"{held}; the other runs are made first" in line for line in lines)
        assert second.poll() is None
    assert skipdit.wait(second).code == 0
    assert reference.missing(range(2)) == []
