"""Whatever a person writes or has on disk is read, or refused by an error for people.

A kind of input is a strategy and what reads it, in `KINDS`. Each gets up to 200 examples, always
the same ones, in the default tier and ten times as many new ones in the slow tier; none may take
long, and all of them together no more memory than a network does.
"""

import copy
import functools
import io
import json
import resource
import warnings
import zipfile
from contextlib import suppress
from dataclasses import asdict

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skipdit_cli.embedded import shipped
from skipdit_cli.errors import SkipditError, SkipditWarning
from skipdit_cli.recipe import calibration, prompts, recipe, runs
from skipdit_cli.report import delimited, latex, markdown, page
from skipdit_cli.report.recipe import build_recipe_table
from skipdit_cli.spec import parse_cache, parse_range, parse_window
from skipdit_cli.storage import failures, journal, kept, results, store
from skipdit_cli.storage.npz import NpzSamples

SECONDS = 20  # for one example, on a machine that does other things too
BYTES = 600e6

# What people write where something else is meant, as it stands in a file.
ODD = st.sampled_from(
    [
        *("010", "1:30", "1_000", "²", "٣", "-1", "0", "1e999", ".nan", "9" * 400, str(2**63)),
        *("no", "null", "''", "[]", "{}", "[[[[]]]]", "{a: {b: c}}", "!!bool abc", "2024-01-01"),
        *("&a [*a]", "*a", "'\\0'", '"\\0"', '"\\ud800"', '"\\x1b[31m"', "x" * 300, "'<b>'"),
        *("../../evil", "/etc/passwd", "'{model}'", "'{model}-skip-skip'", "'[a](b)'", "'```'"),
        *("skip-cache(n=2)", "skip-cache(n=0)", "fora", "'=1+1'", "'none'", "digits", "psnr"),
    ]
)  # fmt: skip
TEXTS = ODD | st.text(max_size=12).map(json.dumps) | st.integers().map(str) | st.floats().map(str)


def places(content, at=()):
    """The path of every value of lists and mappings within one another."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield (*at, key)
        if isinstance(value, dict | list):
            yield from places(value, (*at, key))


@st.composite
def recipes(draw):
    """A recipe that is right but for a few values, keys or lines."""
    content = yaml.safe_load((shipped.recipes() / "smoke.yaml").read_text(encoding="utf-8"))
    raw = {}
    for number in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(list(places(content))))
        around = content
        for key in path[:-1]:
            around = around[key]
        deed = draw(st.sampled_from(["odd", "odd", "gone", "named", "again"]))
        if deed == "odd":
            around[path[-1]] = f"@{number}@"
            raw[f"@{number}@"] = draw(TEXTS)
        elif deed == "gone":
            del around[path[-1]]
        elif deed == "again" and isinstance(around, list):
            around.append(around[path[-1]])
        elif isinstance(around, dict):
            around[f"@{number}@"] = around[path[-1]]
            raw[f"@{number}@"] = draw(TEXTS)
        if not list(places(content)):
            break
    text = yaml.safe_dump(content, sort_keys=False)
    for mark, value in raw.items():
        text = text.replace(f"'{mark}'", value)
    lines = text.split("\n")
    for _ in range(draw(st.integers(0, 1))):
        at = draw(st.integers(0, len(lines) - 1))
        lines.insert(at, draw(st.sampled_from([lines[at - 1], "\t", "- x", "  ? ", "...", "---"])))
    return "\n".join(lines)


def read_recipe(text, folder):
    """As `report` reads it, at both scales, with the table in every format."""
    path = folder / "mine.yaml"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    for scale in recipe.SCALES:
        loaded = recipe.load_recipe(str(path), scale=scale)
        if scale == "tiny":
            assert runs.of_recipe(loaded)
            table = build_recipe_table(loaded, root=folder / "results")
            for written in (markdown.to_markdown, delimited.to_csv, latex.to_latex, page.to_html):
                assert written(table)


NUMBERS = st.sampled_from(["0", "1", "2", "999", "1000", "-1", "²", "1_0", "9" * 30, "", " ", "x"])
NAMES = ("skip-cache", "fora", "pab", "t-gate", "delta-dit", "teacache", "first-block", "none")
SETTINGS = ("n", "window", "branch", "threshold", "coefficients", "offset", "x", "")
VALUES = NUMBERS | st.sampled_from(["700-50", "50-700", "0.1", "nan", "1/2/3", "true", "1e9", "("])


@st.composite
def specs(draw):
    """`name(key=value,...)`, more or less."""
    parts = draw(st.lists(st.tuples(st.sampled_from(SETTINGS), VALUES), max_size=3))
    inside = ",".join(f"{key}={value}" for key, value in parts)
    form = draw(st.sampled_from(["{}({})", "{}({})", "{} ( {} )", "{}({}", "{}{}", "({}){}"]))
    return form.format(draw(st.sampled_from(NAMES) | st.text(max_size=5)), inside)


def read_spec(text, folder):
    spec = parse_cache(text)
    assert parse_cache(str(spec)) == spec
    with suppress(SkipditError):
        run = runs.make_run("digits-skip", spec)
        assert run.cache.reused(run.timesteps, guided=run.guided) or run.cache.method.DYNAMIC


SPANS = st.lists(NUMBERS | st.sampled_from(["..", ",", "-"]), max_size=6).map("".join)


def read_span(text, folder):
    for parse in (parse_range, parse_window):
        with suppress(SkipditError):
            assert parse(text)


@st.composite
def prompt_files(draw):
    """(ending, content) of a list of prompts in any form that people have."""
    ending = draw(st.sampled_from([".txt", ".csv", ".tsv", ".json", ".jsonl"]))
    values = st.text(max_size=8) | st.sampled_from(["", "# no", '"', "\ud800", "\0", "a,b\tc"])
    junk = st.none() | st.booleans() | st.integers() | st.floats() | st.lists(st.text(), max_size=2)
    keys = st.sampled_from(["prompt", "caption", "text", "prompt_en", "x"])
    entries = draw(st.lists(st.dictionaries(keys, values | junk, max_size=2) | values, max_size=4))
    if ending == ".json":
        text = json.dumps(draw(st.sampled_from([entries, {"prompts": entries}, entries[:1]])))
    elif ending == ".jsonl":
        text = "\n".join(map(json.dumps, entries))
    else:
        mark = draw(st.sampled_from([",", "\t", ";"]))
        rows = [entry.values() if isinstance(entry, dict) else [entry] for entry in entries]
        head = draw(st.sampled_from(["prompt", "id,caption", "text\tx", "", '"']))
        text = "\n".join([head, *(mark.join(map(str, row)) for row in rows)])
    content = text.encode("utf-8", errors="surrogatepass")
    cut = draw(st.integers(0, len(content)))
    whole = draw(
        st.sampled_from([content, content, content[:cut], content + b"\xff", b"\xef\xbb\xbf"])
    )
    return ending, whole


def read_prompt_file(given_file, folder):
    ending, content = given_file
    path = folder / f"mine{ending}"
    path.write_bytes(content)
    assert prompts.read_prompts(str(path)).texts


@st.composite
def npz_files(draw):
    """An npz whose header says something else than what is in it."""
    shapes = st.lists(st.sampled_from([0, 1, 2, 3, 8, -1, True, 2**31, 2**63, "x"]), max_size=5)
    header = {
        "descr": draw(
            st.sampled_from(["|u1", "<f4", "|O", "<U3", "|V0", "x", ["a"], [("a", "|u1")]])
        ),
        "fortran_order": draw(st.sampled_from([False, True, 0, None])),
        "shape": tuple(draw(st.just([1, 8, 8, 3]) | shapes)),
    }
    text = draw(st.sampled_from([repr(header), repr(header)[:-1], "{}", "(" * 99, "\0"])).encode()
    version = draw(
        st.sampled_from([b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x09\x00", b"\x03\x00"])
    )
    size = draw(st.sampled_from([len(text), 0, 65535]))
    width = 2 if version == b"\x01\x00" else 4
    array = b"\x93NUMPY" + version + size.to_bytes(width, "little") + text
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", draw(st.sampled_from([zipfile.ZIP_STORED, 8]))) as archive:
        archive.writestr(draw(st.sampled_from(["arr_0.npy", "arr_0.npy", "x"])), array + bytes(192))
        if draw(st.booleans()):
            labels = io.BytesIO()
            odd = draw(st.sampled_from([[1.5], ["a"], [[1]], [], 3, [2**62]]))
            np.save(labels, np.array(odd))
            archive.writestr("arr_1.npy", labels.getvalue())
    content = file.getvalue()
    at = draw(st.integers(0, len(content) - 1))
    broken = bytes([draw(st.integers(0, 255))])
    return draw(st.sampled_from([content, content[:at] + broken + content[at + 1 :], content[:at]]))


def read_npz(content, folder):
    path = folder / "mine.npz"
    path.write_bytes(content)
    samples = NpzSamples(path)
    for index in range(min(2, len(samples))):
        assert samples.read(index).dtype == np.uint8
        assert isinstance(samples.meta(index), dict)


def sound_npz():
    file = io.BytesIO()
    np.savez(file, np.zeros((2, 8, 8, 3), np.uint8), np.arange(2))
    return file.getvalue()


RUN = runs.make_run("digits", settings={"num_samples": 2})


@functools.cache
def own_files():
    """By name: (place in the folder, kind, whose, content) of files of ours in JSON."""
    key = RUN.key
    result = results.Result(metric="psnr", value=30.0, unit="dB", n=2, run=key, spread=1.0)
    interval = {"interval": [29.0, 31.0], "assets": {"a": "b"}}
    (shipped_file,) = calibration.files(RUN.card, "teacache-*.json")
    fitted = json.loads(shipped_file.read_text(encoding="utf-8"))
    entry = {"index": 0, "file": "000000.png", "sha256": "0" * 64, "meta": {"class": 3}}
    failure = {"run": key, "what": "psnr", "reason": "no", "provenance": {}}
    described = {"run": RUN.to_dict(), "provenance": {"command": "skipdit sample"}}
    calibrated = f"calibration/digits/{shipped_file.name}"
    return {
        "score": (
            f"scores/{key}/psnr.json",
            results.RESULT,
            f"run {key}, psnr",
            asdict(result) | interval,
        ),
        "run": (f"samples/{key}/run.json", store.DESCRIPTION, key, described),
        "entry": (f"samples/{key}/samples.jsonl", journal.ENTRY, key, entry | {"device": "cpu"}),
        "failure": (f"failures/{key}/psnr.json", failures.FAILURE, f"run {key}, psnr", failure),
        "calibration": (calibrated, calibration.CALIBRATION, fitted.pop("seal")["of"], fitted),
    }


@st.composite
def kept_files(draw):
    """(name, content) of a file of ours that is right but for a value or two."""
    name = draw(st.sampled_from(sorted(own_files())))
    content = copy.deepcopy(own_files()[name][3])
    junk = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=3)
        | st.floats(allow_nan=False, allow_infinity=False)
    )
    for _ in range(draw(st.integers(0, 2))):
        path = draw(st.sampled_from(list(places(content)) or [()]))
        around = content
        for key in path[:-1]:
            around = around[key]
        if path and draw(st.booleans()):
            around[path[-1]] = draw(junk | st.just([]) | st.just({}) | st.lists(junk, max_size=2))
        elif path:
            del around[path[-1]]
    return name, content


def read_kept(example, folder):
    """Sealed by somebody who can, so that nothing but what it says is wrong."""
    name, content = example
    for place, kind, of, sound in own_files().values():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        wanted = content if place == own_files()[name][0] else sound
        line = None if path.suffix == ".jsonl" else 1
        path.write_bytes(kept.sealed_json(wanted, kind, of=of, indent=line))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SKIPDIT_HOME", str(folder))
        result = results.read_result(folder, RUN.key, "psnr")
        assert result is None or isinstance(result.value, int | float | None)
        assert isinstance(failures.why(folder, RUN, "psnr"), str)
        known = store.open_store(folder, RUN)
        assert known.missing(range(2)) == [0, 1]
        assert known.count() in (0, 1)
        for reader in (lambda: runs.find_run(folder, RUN.key), lambda: known.meta(0)):
            with suppress(SkipditError):
                reader()
        with known.lock():
            assert known.missing(range(2)) == [0, 1]
        assert runs.make_run("digits", "teacache").cache.settings.coefficients


# By kind: the strategy, what reads an example, and one that is read without any error.
KINDS = {
    "recipe": (recipes(), read_recipe, (shipped.recipes() / "smoke.yaml").read_text("utf-8")),
    "cache spec": (specs(), read_spec, "skip-cache(n=2,window=700-50)"),
    "range or window": (SPANS, read_span, "2..6"),
    "prompt file": (prompt_files(), read_prompt_file, (".txt", b"a horse\n")),
    "npz": (npz_files(), read_npz, sound_npz()),
    "kept file": (kept_files(), read_kept, ("score", own_files()["score"][3])),
}
FEW = {"recipe": 40}  # in the default tier, where each takes a tenth of a second


def hold(kind, folder, *, examples, same):
    """Read many examples of a kind; an error that is none for people fails, and shows the example.

    Args:
        same: the same examples every time.
    """
    strategy, read, sound = KINDS[kind]
    read(sound, folder)  # also loads what is loaded once

    @settings(
        max_examples=examples,
        derandomize=same,
        database=None,
        deadline=SECONDS * 1000,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def only_errors_for_people(example):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SkipditWarning)
            with suppress(SkipditError):
                read(example, folder)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    only_errors_for_people()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < BYTES


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", KINDS)
def test_some_of_each_kind(kind, tmp_path):
    hold(kind, tmp_path, examples=FEW.get(kind, 200), same=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_of_each_kind(kind, tmp_path):
    hold(kind, tmp_path, examples=4 * FEW.get(kind, 200), same=False)


def test_what_is_no_error_for_people_is_found(tmp_path, monkeypatch):
    """The harness itself: a reader that fails on one value in a hundred is caught."""

    def read(number, folder):
        if number == 42:
            raise KeyError(number)

    monkeypatch.setitem(KINDS, "own", (st.integers(0, 99), read, 1))
    with pytest.raises(KeyError):
        hold("own", tmp_path, examples=500, same=True)
