"""ls runs, show, rm and export: what is on disk, looked at, removed and given away."""

import csv
import io
import json
import os
import pty
import re
import shlex
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from skipdit_cli import registry
from skipdit_cli.storage import lock
from skipdit_cli.storage.failures import write_failure

FEW = "--num-samples 2 --batch-size 2 --steps 3"


@pytest.fixture
def root(swept, tmp_path):
    """A copy of what a sweep made: none, n=2 and n=3 of digits-skip, three samples each."""
    copied = tmp_path / "results"
    shutil.copytree(swept[0], copied)
    return copied


def keys(root):
    """Run -> its key, of "none", "n=2" and "n=3"."""
    found = {}
    for path in (root / "samples").glob("*/run.json"):
        cache = json.loads(path.read_text())["run"]["cache"]
        found[cache.partition(",")[0].removeprefix("skip-cache(")] = path.parent.name
    return found


def content(root):
    found = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {path: data for path, data in found.items() if path.name not in lock.FILES}


def test_the_runs_are_listed(skipdit, swept, table):
    root, _ = swept
    runs = keys(root)
    lines = {line["key"]: line for line in table(skipdit("ls runs --results", root).ok().out)}
    assert lines.keys() == {key[:8] for key in runs.values()}
    two = lines[runs["n=2"][:8]]
    assert two["cache"].startswith("skip-cache(n=2,window=")
    assert (two["model"], two["sampler"], two["guidance"]) == ("digits-skip", "ddim 6", "2.0")
    assert two["samples"] == "3 / 3"
    assert {"psnr", "ssim", "latency"} <= set(two["scored"].split(", "))
    assert two["made (UTC)"].startswith(f"{datetime.now(UTC):%Y-}")
    sized = skipdit("ls runs --size --model digits-skip --results", root).ok().out
    assert {"samples (size)", "previews", "trajectory", "features", "all"} <= table(sized)[0].keys()
    assert "\n3 runs, " in sized
    content = json.loads(skipdit("ls runs --size --json --results", root).ok().out)
    folder = root / "samples" / runs["none"]
    (none,) = [run for run in content if run["key"] == folder.name]
    assert none["bytes"]["samples"] == sum(p.stat().st_size for p in folder.glob("*.png"))
    assert none["run"]["steps"] == "6"


def test_what_failed_and_what_is_not_there_is_told(skipdit, root, table):
    key = keys(root)["n=3"]
    write_failure(root, key, "lpips", reason="out of memory")
    (root / "samples" / key / "000001.png").unlink()
    (line,) = [
        run for run in table(skipdit("ls runs --results", root).out) if run["key"] == key[:8]
    ]
    assert line["samples"] == "2 / 3"
    assert line["scored"].endswith("; failed: lpips")
    shown = skipdit("show", key, "--results", root).ok().out
    assert "\nlpips failed: out of memory\n" in shown
    assert f"\nsamples: 2 of 3 in {root}" in shown
    done = skipdit("export", key, "--out", "out", "--results", root)
    assert (done.code, done.remarks) == (0, [f"run {key[:8]}: 2 of 3 samples"])


def test_where_there_are_no_runs(skipdit, swept):
    done = skipdit("ls runs --results nowhere")
    assert (done.code, done.out) == (0, "")
    assert done.err == "there are no runs in nowhere\n"
    assert json.loads(skipdit("ls runs --results nowhere --json").ok().out) == []
    assert "no runs of digits in" in skipdit("ls runs --model digits --results", swept[0]).err
    skipdit("ls models --size").failed(2, "--size is for `skipdit ls runs`")
    skipdit("show bogus --results", swept[0]).failed(2, "no run of bogus is here; name one of ")
    skipdit("show none --results nowhere").failed(2, "there are no runs here yet")


def test_a_run_is_explained(skipdit, swept, table):
    root, _ = swept
    runs = keys(root)
    shown = skipdit("show", "skip-cache(n=2)", "--results", root).ok().out
    assert shown.startswith(f"run {runs['n=2']}: digits-skip, skip-cache(n=2,")
    assert f"reference: {runs['none']}" in shown
    assert {line["setting"]: line["value"] for line in table(shown)}["steps"] == "6"
    scores = {line["metric"]: line for line in table(shown, 1)}
    timings = {line["timing"]: line for line in table(shown, 2)}
    known = json.loads((root / "scores" / runs["n=2"] / "psnr.json").read_text())
    low, high = known["interval"]
    assert scores["psnr"]["value"] == f"{known['value']:.5g} dB"
    assert scores["psnr"]["95 % interval"] == f"[{low:.5g}, {high:.5g}]"
    assert (scores["psnr"]["n"], scores["psnr"]["protocol"]) == ("3", known["protocol"])
    assert scores["psnr"]["compared with"] == runs["none"][:8]
    assert timings["latency"]["repetitions"] == "1"
    told = json.loads(skipdit("show", runs["none"][:6], "--json", "--results", root).ok().out)
    assert set(told["compared"]) == {runs["n=2"], runs["n=3"]}
    assert told["provenance"]["command"].startswith("skipdit cache-sweep --model digits-skip")


def test_the_command_that_is_told_makes_the_same_samples(skipdit, samples):
    given = f"sample --model digits --cache fora(n=2) --classes 3,5 --seed 7 {FEW}"
    key = json.loads(skipdit(f"{given} --json").ok().out)["key"]
    again = json.loads(skipdit(f"show {key} --json").ok().out)["again"]
    assert f"\nagain: {again}\n" in skipdit(f"show {key}").ok().out
    skipdit(*shlex.split(again)[1:], "--results", "other").ok()
    assert samples(Path("other")) == samples(Path("results")) != {}


def test_a_run_of_other_code_is_shown_with_what_changed(skipdit, root, monkeypatch):
    key = keys(root)["n=2"]
    version = registry.version

    def newer(kind, name):
        return 99 if name == "skip-cache" else version(kind, name)

    monkeypatch.setattr(registry, "version", newer)
    shown = skipdit("show", key, "--results", root).ok().out
    assert re.search(
        r"\nnote: it was made by code .* since: cache \d+, now 99\nanew: skipdit", shown
    )
    given = skipdit("export", key, "--out", "out", "--results", root).ok().out
    assert given == "3 samples of 1 run in out\n"
    assert skipdit("rm", key, "--results", root).ok().out.endswith(" removed\n")
    assert key not in keys(root).values()


def test_runs_are_removed_with_all_that_hangs_on_them(skipdit, root):
    runs, before = keys(root), content(root)
    options = ["--cache", "skip-cache(n=2)", "--results", root]
    would = skipdit("rm --dry-run", *options).ok().out
    assert would.splitlines()[-1].startswith("1 run, ")
    assert would.endswith(" would be removed\n")
    assert content(root) == before
    gone = skipdit("rm", *options).ok().out
    assert gone.endswith(" removed\n")
    assert gone.splitlines()[:-1] == would.splitlines()[:-1]
    assert content(root) == {p: d for p, d in before.items() if runs["n=2"] not in p.parts}
    assert not list(root.glob(f"*/{runs['n=2']}"))
    again = skipdit("rm", *options)
    assert (again.code, again.err) == (0, "no run is so; nothing is removed\n")


def test_a_reference_stays_as_long_as_it_is_needed(skipdit, root):
    runs, before = keys(root), content(root)
    needed = f"{runs['n=3'][:8]} (skip-cache(n=3,"
    skipdit("rm", runs["none"], runs["n=2"], "--results", root).failed(
        2, f"{runs['none'][:8]} is what {needed}", "name these as well"
    )
    kept = skipdit("rm --cache none --results", root)
    assert (kept.code, content(root)) == (0, before)
    assert f"{runs['none'][:8]} stays: " in kept.err
    assert skipdit("rm", *runs.values(), "--results", root).ok().out.startswith("|")
    assert keys(root) == {}
    assert list(root.rglob("sweep.csv"))  # tables stay


def test_what_is_old_goes(skipdit, root):
    assert "nothing is removed" in skipdit("rm --older-than 1h --results", root).err
    for path in (root / "samples").glob("*/run.json"):  # unreadable, so that its age is its files'
        path.write_text("{}")
        for each in path.parent.parent.parent.glob(f"*/{path.parent.name}/**/*"):
            os.utime(each, (1e9, 1e9))
    removed = skipdit("rm --older-than 30d --results", root)
    assert removed.out.splitlines()[-1].startswith("3 runs, ")
    assert keys(root) == {}


def test_what_cannot_be_removed_is_told(skipdit, root):
    before, key = content(root), keys(root)["n=2"]
    skipdit("rm --results", root).failed(2, "nothing says which runs", "--older-than")
    skipdit("rm --older-than soon --results", root).failed(2, "--older-than: cannot read", "30d")
    skipdit("rm --cache foar --results", root).failed(2, "--cache: unknown cache 'foar'")
    skipdit("rm skip-cache --results", root).failed(2, "skip-cache is ambiguous")
    with lock.held(root / "samples" / key):
        skipdit("rm --model digits-skip --yes --results", root).failed(
            1, f"process {os.getpid()} is working on run {key}", "wait for it to end, or stop it"
        )
        assert content(root) == before


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_a_terminal_asks_before_anything_is_removed(root, answer, code):
    command = [sys.executable, "-m", "skipdit_cli", "rm", "--model", "digits-skip"]
    child, terminal = pty.fork()
    if child == 0:
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
        os.execv(sys.executable, [*command, "--results", str(root)])
    said = ""
    while "[y/N]" not in said:
        said += os.read(terminal, 4096).decode()
    assert "Remove 3 runs, " in said
    os.write(terminal, f"{answer}\n".encode())
    while True:
        try:
            said += os.read(terminal, 4096).decode()
        except OSError:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    assert ("stopped before anything was removed" in said) == bool(code)
    assert len(keys(root)) == (3 if code else 0)


def test_samples_are_given_away(skipdit, swept, samples, tmp_path):
    root, _ = swept
    runs, before = keys(root), samples(root)
    given = ["--results", root, "--out", tmp_path / "out", "--name", "{index:02d}-{class}"]
    done = skipdit("export none", "skip-cache(n=3)", *given).ok()
    assert done.out == f"6 samples of 2 runs in {tmp_path / 'out'}\n"
    lines = list(csv.DictReader(io.StringIO((tmp_path / "out" / "manifest.csv").read_text())))
    assert len(lines) == 6
    for line in lines:
        sample = before[f"{line['run']}/{int(line['index']):06d}.png"]
        assert (tmp_path / "out" / line["file"]).read_bytes() == sample
        assert line["file"].endswith(f"/{int(line['index']):02d}-{line['class']}.png")
    known = json.loads((root / "scores" / runs["n=3"] / "psnr.json").read_text())["scores"]
    assert [float(line["psnr"]) for line in lines if line["psnr"]] == known
    assert not {"latency", "speedup"} & lines[0].keys()  # repetitions are no samples
    assert skipdit("export none", "skip-cache(n=3)", *given).ok().out == done.out
    skipdit("export none", *given).failed(2, "there are other files in it", "another folder")


def test_samples_are_given_away_blind(skipdit, swept, tmp_path):
    root, _ = swept
    folder = tmp_path / "judged"
    given = f"export none {keys(root)['n=2'][:6]} --blind --seed 4 --out {folder} --results"
    done = skipdit(given, root).ok()
    assert (
        done.out.splitlines()[1] == "which is which: judged-key.csv, beside it; drawn by --seed 4"
    )
    assert {path.name for path in folder.iterdir()} == {"A", "B", "manifest.csv"}
    assert (tmp_path / "judged-key.csv").is_file()
    for path in folder.rglob("*.*"):
        assert b"skip-cache" not in path.read_bytes()
    fresh = skipdit("export none --blind --out", tmp_path / "other", "--results", root).ok()
    assert "--seed 4\n" not in fresh.out


def test_what_cannot_be_given_away_is_told(skipdit, swept):
    root, _ = swept
    out = ["--out", "out", "--results", root]
    skipdit("export none --name {cash}", *out).failed(2, "no field {cash}", "{class}, {index}")
    skipdit("export none --blind --name {cache}", *out).failed(2, "no field {cache}")
    skipdit("export none --format jpg", *out).failed(2, "--format: unknown format 'jpg'", "png")
    skipdit("export none --format mp4", *out).failed(2, "--format mp4", "take png")
    skipdit("export none --seed 1", *out).failed(2, "--seed 1", "--blind")
    skipdit("export bogus", *out).failed(2, "no run of bogus is here")
    assert not Path("out").exists()


def test_the_samples_with_the_worst_scores(skipdit, root):
    """By PSNR the lowest, whose file and subject are told; without --worst none is listed."""
    told = json.loads(skipdit("show skip-cache(n=3) --worst 2 --json").ok().out)
    stored = json.loads((root / "scores" / told["key"] / "psnr.json").read_text())["scores"]
    by_psnr = [each for each in told["worst"] if each["metric"] == "psnr"]
    assert [each["score"] for each in by_psnr] == sorted(stored)[:2]
    assert [stored[each["sample"]] for each in by_psnr] == sorted(stored)[:2]
    assert by_psnr[0]["file"] == f"results/samples/{told['key']}/{by_psnr[0]['sample']:06d}.png"
    assert by_psnr[0]["about"].startswith("class ")
    shown = skipdit("show skip-cache(n=3) --worst 1").ok().out
    assert f"| psnr       | {min(stored):.5g} dB" in shown
    assert "worst" not in json.loads(skipdit("show skip-cache(n=3) --json").ok().out)
