"""A store keeps what was finished, whatever happens, and hands out nothing else."""

import errno
import hashlib
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from skipdit_cli import registry
from skipdit_cli.errors import IncompleteError, SkipditWarning, StoreError, UsageError
from skipdit_cli.recipe import runs
from skipdit_cli.recipe.runs import find_run
from skipdit_cli.storage import kept
from skipdit_cli.storage import store as store_module
from skipdit_cli.storage.store import Store, open_store


@dataclass(frozen=True)
class TinyRun:
    """The part of plan.Run that a store knows of."""

    seed: int = 0
    classes: tuple[int, ...] | None = (1, 2)
    num_samples: int = 4

    @property
    def key(self) -> str:
        text = json.dumps([self.seed, self.classes])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, known: dict) -> "TinyRun":
        return cls(**known | {"classes": tuple(known["classes"])})


def sample(index: int, kind: str = "image") -> np.ndarray:
    shape = (24, 17, 3) if kind == "image" else (4, 16, 16, 3)
    return np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)


def fill(root: Path, n: int, kind: str = "image") -> Store:
    """What a run does: make what is missing, under the lock."""
    store = open_store(root, TinyRun(num_samples=n))
    with store.lock():
        for index in store.missing(range(n)):
            store.write(index, sample(index, kind), meta={"class": index % 10}, device="cpu")
    return store


def rewrite(path: Path, **changes) -> None:
    """A run.json with other content, and a seal that fits."""
    content = json.loads(path.read_text()) | changes
    of = content.pop("seal")["of"]
    path.write_bytes(kept.sealed_json(content, store_module.DESCRIPTION, of=of))


def lines(store: Store) -> list[bytes]:
    return (store.path / "samples.jsonl").read_bytes().splitlines()


def temporaries(root: Path) -> list[Path]:
    return list(root.rglob("*.tmp"))


def in_process(code: str, *arguments: object) -> subprocess.Popen:
    """Another Python process that has imported everything from this file."""
    here = os.pathsep.join(filter(None, [str(Path(__file__).parent), *sys.path]))
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys; from test_store import *\n{code}"]
        + [str(argument) for argument in arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": here},
    )


# --- what is kept ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["image", "clip"])
def test_samples_come_back_bit_by_bit(tmp_path, kind):
    fill(tmp_path, 3, kind)
    store = open_store(tmp_path, TinyRun())
    for index in range(3):
        read = store.read(index)
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, sample(index, kind))
        read[...] = 0  # a copy, and writable
        assert store.meta(index) == {"class": index}


def test_the_layout_of_the_folder(tmp_path):
    store = fill(tmp_path, 2, "clip")
    store.write(7, sample(7), meta={}, device="cuda:0")
    assert store.path == tmp_path / "samples" / TinyRun().key
    names = sorted(str(p.relative_to(store.path)) for p in store.path.rglob("*") if p.is_file())
    assert [name for name in names if name != "run.lock"] == [
        "000000.mkv",
        "000001.mkv",
        "000007.png",
        "previews/000000.mp4",
        "previews/000001.mp4",
        "run.json",
        "samples.jsonl",
    ]
    entry = json.loads(lines(store)[2])
    assert entry.pop("seal")["of"] == TinyRun().key
    assert entry == {
        "index": 7,
        "file": "000007.png",
        "sha256": hashlib.sha256((store.path / "000007.png").read_bytes()).hexdigest(),
        "meta": {},
        "device": "cuda:0",
    }


def test_run_json_holds_the_run_and_where_it_comes_from(tmp_path):
    store = fill(tmp_path, 2)
    known = json.loads((store.path / "run.json").read_text())
    assert known["run"] == {"seed": 0, "classes": [1, 2], "num_samples": 2}
    assert {"skipdit", "command", "time"} <= known["provenance"].keys()


def test_run_json_grows_with_the_run_and_keeps_its_provenance(tmp_path):
    path = fill(tmp_path, 2).path / "run.json"
    rewrite(path, provenance={"marked": 1})
    fill(tmp_path, 5)
    after = json.loads(path.read_text())
    provenance = {"marked": 1, "device": "cpu"}
    assert (after["run"]["num_samples"], after["provenance"]) == (5, provenance)
    fill(tmp_path, 3)
    assert json.loads(path.read_text()) == after


def test_run_json_names_what_computed_the_first_sample(tmp_path):
    """It is written before anything is computed, by a process that may compute nothing."""

    def device():
        return json.loads((store.path / "run.json").read_text())["provenance"]["device"]

    store = open_store(tmp_path, TinyRun())
    with store.lock():
        assert device() == ""
        elsewhere = open_store(tmp_path, TinyRun())
        elsewhere.write(0, sample(0), meta={}, device="a GPU")
        assert device() == "a GPU"
        open_store(tmp_path, TinyRun()).write(1, sample(1), meta={}, device="another GPU")
    with open_store(tmp_path, TinyRun()).lock():
        assert device() == "a GPU"
    assert [json.loads(line)["device"] for line in lines(store)] == ["a GPU", "another GPU"]


def test_a_clip_can_be_without_preview(tmp_path):
    store = open_store(tmp_path, TinyRun())
    store.write(0, sample(0, "clip"), meta={}, preview=False)
    assert not (store.path / "previews").exists()
    assert np.array_equal(store.read(0), sample(0, "clip"))


def test_looking_at_a_store_writes_nothing(tmp_path):
    store = open_store(tmp_path / "results", TinyRun())
    assert store.missing([0, 2]) == [0, 2]
    with pytest.raises(IncompleteError):
        store.require(1)
    with pytest.raises(IncompleteError):
        store.read(0)
    assert list(tmp_path.iterdir()) == []


def test_a_store_travels_to_another_process(tmp_path):
    store = pickle.loads(pickle.dumps(fill(tmp_path, 2)))
    np.testing.assert_array_equal(store.read(1), sample(1))


def test_equal_samples_are_equal_files(tmp_path):
    one, two = fill(tmp_path / "a", 3, "clip"), fill(tmp_path / "b", 3, "clip")
    assert one.hashes(3) == two.hashes(3)
    assert len(set(one.hashes(3))) == 3


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 3), np.uint8)],
    ids=["float", "four channels", "two axes"],
)
def test_what_is_not_rgb_is_refused(tmp_path, array):
    with pytest.raises(ValueError, match="not uint8 RGB"):
        open_store(tmp_path, TinyRun()).write(0, array, meta={})
    assert list(tmp_path.iterdir()) == []


# --- what is missing ------------------------------------------------------------------------------


def test_missing_and_require_name_what_is_not_there(tmp_path):
    store = fill(tmp_path, 3)
    store.write(9, sample(9), meta={})
    assert store.missing(range(10)) == [3, 4, 5, 6, 7, 8]
    assert store.missing([9, 1]) == []
    store.require(3)
    with pytest.raises(IncompleteError) as caught:
        store.require(10)
    assert caught.value.exit_code == 3
    command = json.loads((store.path / "run.json").read_text())["provenance"]["command"]
    assert str(caught.value) == (
        f"{store.path}: missing samples 3, 4, 5, 6, 7, ... (6 of 10); "
        f"run `{command}` again: it makes only these"
    )
    with pytest.raises(IncompleteError, match=r"missing sample 3 \(1 of 4\)"):
        store.hashes(4)
    for ask in (store.read, store.meta):
        with pytest.raises(IncompleteError, match="missing sample 5;"):
            ask(5)


@pytest.mark.parametrize("kind", ["image", "clip"])
@pytest.mark.parametrize("damage", ["truncated", "one bit", "emptied", "another sample's"])
def test_a_damaged_sample_is_found_and_redone(tmp_path, kind, damage):
    store = fill(tmp_path, 4, kind)
    path = next(store.path.glob("000002.*"))
    data = path.read_bytes()
    path.write_bytes(
        {
            "truncated": data[:-20],
            "one bit": data[:-30] + bytes([data[-30] ^ 1]) + data[-29:],
            "emptied": b"",
            "another sample's": next(store.path.glob("000003.*")).read_bytes(),
        }[damage]
    )
    with pytest.raises(StoreError) as caught:
        store.read(2)
    assert str(caught.value) == (
        f"{path}: the file is damaged (its sha256 is not the one in samples.jsonl); "
        "run the same command again to redo it"
    )
    assert (store.missing(range(5)), store.corrupt) == ([2, 4], [2])
    with pytest.raises(IncompleteError, match=r"missing sample 2 \(1 of 4, 1 damaged\)"):
        store.require(4)
    fill(tmp_path, 4, kind)
    assert (store.missing(range(4)), store.corrupt) == ([], [])
    assert path.read_bytes() == data


def test_a_removed_file_is_missing_and_not_damaged(tmp_path):
    store = fill(tmp_path, 3)
    (store.path / "000001.png").unlink()
    assert (store.missing(range(3)), store.corrupt) == ([1], [])
    with pytest.raises(IncompleteError, match="missing sample 1;"):
        store.read(1)


def test_a_file_that_never_reached_the_journal_is_missing(tmp_path):
    store = fill(tmp_path, 2)
    (store.path / "000002.png").write_bytes((store.path / "000001.png").read_bytes())
    assert store.missing(range(3)) == [2]


# --- the journal ----------------------------------------------------------------------------------


def test_a_torn_last_line_is_ignored_and_the_next_one_is_whole(tmp_path):
    store = fill(tmp_path, 3)
    journal = store.path / "samples.jsonl"
    journal.write_bytes(journal.read_bytes()[:-40])
    assert store.missing(range(3)) == [2]
    store.write(1, sample(5), meta={"class": 5})
    assert store.missing(range(3)) == [2]
    assert store.meta(1) == {"class": 5}
    with pytest.warns(SkipditWarning, match="1 of 4 lines are damaged"):
        fill(tmp_path, 3)
    assert store.missing(range(3)) == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 300,
        b"\xff\xfe{]",
        b"[1, 2]",
        b"null",
        b"7",
        b"{}",
        b'{"index": 1, "file": "000001.png", "sha256": "ab"}',
        b'{"index": 1, "file": "../../000001.png", "sha256": "ab", "meta": {}}',
        b'{"index": "1", "file": "000001.png", "sha256": "ab", "meta": {}}',
        b'{"index": 1, "file": "000001.png", "sha256": 5, "meta": {}}',
        b'{"index": 1, "file": "000001.png", "sha256": "ab", "meta": [3]}',
    ],
)
def test_garbage_lines_are_ignored(tmp_path, garbage):
    store = fill(tmp_path, 3)
    journal = store.path / "samples.jsonl"
    journal.write_bytes(garbage + b"\n" + journal.read_bytes() + garbage + b"\n")
    assert (store.missing(range(3)), store.corrupt) == ([], [])
    assert store.meta(1) == {"class": 1}


@pytest.mark.parametrize("what", ["class", "device", "sha256"])
def test_a_damaged_line_is_no_entry_and_its_sample_is_made_again(tmp_path, what):
    """Whatever of a line is damaged: the class of a sample decides its score."""
    journal = fill(tmp_path, 3).path / "samples.jsonl"
    first, second, third = journal.read_bytes().splitlines(keepends=True)
    entry = json.loads(second)
    if what == "class":
        entry["meta"]["class"] = 7
    else:
        entry[what] = entry[what][::-1]
    journal.write_bytes(first + json.dumps(entry).encode() + b"\n" + third)
    store = open_store(tmp_path, TinyRun())
    assert store.missing(range(3)) == [1]
    with pytest.warns(SkipditWarning, match=r"samples\.jsonl: 1 of 3 lines are damaged"):
        fill(tmp_path, 3)
    assert (store.missing(range(3)), store.meta(1), len(lines(store))) == ([], {"class": 1}, 3)


def test_later_lines_win(tmp_path):
    store = fill(tmp_path, 2)
    store.write(0, sample(8), meta={"class": 8})
    assert len(lines(store)) == 3
    np.testing.assert_array_equal(store.read(0), sample(8))
    assert store.meta(0) == {"class": 8}
    assert store.hashes(2)[0] == json.loads(lines(store)[2])["sha256"]


def test_what_is_newly_known_of_samples_is_entered_once(tmp_path):
    store = fill(tmp_path, 3)
    before = lines(store)
    store.enter({0: {"name": "a"}, 1: {"class": 1}, 2: {}})
    assert len(lines(store)) == len(before) + 1
    assert [store.meta(i) for i in range(3)] == [
        {"class": 0, "name": "a"},
        {"class": 1},
        {"class": 2},
    ]
    assert store.missing(range(3)) == []
    store.enter({0: {"name": "a"}})
    assert len(lines(store)) == len(before) + 1
    store.enter({0: {"name": "b"}})
    assert open_store(tmp_path, TinyRun(num_samples=3)).meta(0)["name"] == "b"


def test_another_process_s_samples_appear(tmp_path):
    store = open_store(tmp_path, TinyRun())
    assert store.missing(range(2)) == [0, 1]
    fill(tmp_path, 2)
    assert store.missing(range(2)) == []
    (store.path / "samples.jsonl").unlink()
    assert store.missing(range(2)) == [0, 1]


def test_appends_of_several_processes_do_not_mix(tmp_path):
    code = """
store = open_store(Path(sys.argv[1]), TinyRun())
for index in range(int(sys.argv[2]), 90, 3):
    store.write(index, sample(index), meta={"text": "x" * 3000})
"""
    workers = [in_process(code, tmp_path, first) for first in range(3)]
    for worker in workers:
        assert worker.communicate(timeout=120)[1] == ""
    store = open_store(tmp_path, TinyRun())
    assert len(list(filter(None, lines(store)))) == 90
    assert store.missing(range(90)) == []


# --- other runs -----------------------------------------------------------------------------------


def test_a_folder_in_the_place_of_another_run(tmp_path):
    """Its samples are none of this run, whose own are made."""
    other = fill(tmp_path, 2)
    run = TinyRun(seed=3)
    shutil.copytree(other.path, tmp_path / "samples" / run.key)
    store = open_store(tmp_path, run)
    assert store.missing(range(2)) == [0, 1]
    with pytest.warns(SkipditWarning) as told, store.lock():
        store.write(0, sample(5), meta={})
    assert f"run.json: is not a readable description of a run (it is that of {other.run.key})" in (
        str(told[0].message)
    )
    assert "samples.jsonl: 2 of 2 lines are damaged; samples that they told of are made again" in (
        str(told[1].message)
    )
    assert json.loads((store.path / "run.json").read_text())["run"]["seed"] == 3
    assert (store.missing(range(2)), len(lines(store))) == ([1], 1)


def test_more_samples_are_the_same_run(tmp_path):
    fill(tmp_path, 2)
    assert open_store(tmp_path, TinyRun(num_samples=50)).missing(range(3)) == [2]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run": {}}', '{"run": {"num_samples": 2}}'])
def test_a_damaged_run_json_is_written_again(tmp_path, text):
    path = fill(tmp_path, 2).path / "run.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=r"run\.json: is not a readable desc.*; delete it and run"):
        find_run(tmp_path, TinyRun().key)
    store = open_store(tmp_path, TinyRun(num_samples=2))
    assert store.missing(range(2)) == []
    with pytest.warns(SkipditWarning, match="it counts as absent"), store.lock():
        assert json.loads(path.read_text())["run"]["num_samples"] == 2


@pytest.fixture
def tiny_plan(monkeypatch):
    monkeypatch.setattr(runs, "from_dict", TinyRun.from_dict)


def test_find_by_key_and_prefix(tmp_path, tiny_plan):
    run = TinyRun(seed=5, num_samples=3)
    with open_store(tmp_path, run).lock():
        pass
    fill(tmp_path, 1)
    for prefix in (run.key, run.key[:4]):
        assert find_run(tmp_path, prefix) == run


def test_find_names_what_there_is(tmp_path, tiny_plan):
    with pytest.raises(UsageError, match="unknown run 'ab'; there are no runs here yet"):
        find_run(tmp_path, "ab")
    twenty = [TinyRun(seed=seed) for seed in range(20)]
    for run in twenty:
        with open_store(tmp_path, run).lock():
            pass
    with pytest.raises(UsageError, match=r"unknown run 'xyz'; there are (\w{16}, ){5}\.\.\."):
        find_run(tmp_path, "xyz")
    twins = next(
        [a.key, b.key] for a in twenty for b in twenty if a.key[0] == b.key[0] and a.key < b.key
    )
    with pytest.raises(UsageError, match=f"run '{twins[0][0]}' is ambiguous; there are .*"):
        find_run(tmp_path, twins[0][0])


def test_find_refuses_a_run_that_no_longer_reads(tmp_path, tiny_plan):
    path = fill(tmp_path, 1).path / "run.json"
    rewrite(path, run=json.loads(path.read_text())["run"] | {"unheard": 1})
    with pytest.raises(StoreError, match=r"run\.json: does not describe a run"):
        find_run(tmp_path, TinyRun().key)


# --- the disk -------------------------------------------------------------------------------------


def failing(number: int, *, after: int = 0):
    """A stand-in for a call of the operating system that fails from its n-th use."""
    left = [after]

    def wrap(call):
        def fails(*args, **settings):
            if left[0] == 0:
                raise OSError(number, os.strerror(number))
            left[0] -= 1
            return call(*args, **settings)

        return fails

    return wrap


@pytest.mark.parametrize("kind", ["image", "clip"])
@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
def test_a_full_disk_loses_nothing(tmp_path, monkeypatch, call, kind):
    store = fill(tmp_path, 2, kind)
    with monkeypatch.context() as patch, store.lock():
        patch.setattr(os, call, failing(errno.ENOSPC)(getattr(os, call)))
        with pytest.raises(StoreError) as caught:
            store.write(2, sample(2, kind), meta={})
    place, kept = store.path / ("000002.png" if kind == "image" else "previews/000002.mp4"), 2
    if call == "write":  # in the journal, while the sample and its line are there
        place, kept = store.path, 3
    assert str(caught.value) == (
        f"{place}: no space left on device (finished samples are kept: {kept}); "
        "free some space and run the same command again: it continues"
    )
    assert caught.value.exit_code == 1
    assert temporaries(tmp_path) == []
    assert (store.missing(range(3)), store.corrupt) == ([2], [])
    fill(tmp_path, 3, kind)
    np.testing.assert_array_equal(store.read(2), sample(2, kind))


def test_what_a_worker_left_is_entered_by_who_holds_the_run(tmp_path):
    """Nothing of it counts before, and a line that is damaged counts as none."""
    store = fill(tmp_path, 1)
    for index in (2, 1, 3):
        for name, data in store.files(index, sample(index), meta={"class": index}, device="it"):
            store.put(name, data)
    (store.path / "000003.json").write_bytes(b'{"index": 3}')
    assert store.entered() == {0}
    store.collect([2])
    assert (store.entered(), store.meta(2)) == ({0, 2}, {"class": 2})
    assert sorted(path.name for path in store.path.glob("0*.json")) == [
        "000001.json",
        "000003.json",
    ]
    (store.path / "000002.json").write_bytes(lines(store)[-1] + b"\n")  # a kill left it there
    with store.lock():
        assert store.missing(range(4)) == [3]
    assert [json.loads(line)["index"] for line in lines(store)] == [0, 2, 1]
    assert not list(store.path.glob("0*.json"))


def test_a_journal_line_that_half_fits_is_an_error_and_ignored(tmp_path, monkeypatch):
    store, write = fill(tmp_path, 2), os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:30]))
        with pytest.raises(StoreError, match=r"no space left on device .* kept: 3"):
            store.write(2, sample(2), meta={})
    assert store.missing(range(3)) == [2]
    fill(tmp_path, 4)
    assert store.missing(range(4)) == []


def test_a_file_the_kernel_cuts_short(tmp_path):
    """No simulation: the operating system refuses to let a file grow beyond 30,000 bytes."""
    code = """
import resource
sys.dont_write_bytecode = True  # Python keeps what it could write of a module
store = fill(Path(sys.argv[1]), 2)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
try:
    store.write(2, np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8), meta={})
except StoreError as error:
    print(error)
"""
    pytest.importorskip("resource")
    output, errors = in_process(code, tmp_path).communicate(timeout=60)
    assert "000002.png: file too large (finished samples are kept: 2); free some" in output, errors
    assert temporaries(tmp_path) == []
    assert fill(tmp_path, 3).missing(range(3)) == []


def test_a_full_disk_when_a_run_begins(tmp_path, monkeypatch):
    store = open_store(tmp_path, TinyRun())
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing(errno.ENOSPC)(os.replace))
        with pytest.raises(StoreError, match="no space left on device"), store.lock():
            pytest.fail("begun all the same")
    with store.lock():  # the failed attempt holds nothing
        assert (store.path / "run.json").exists()


def test_a_disk_that_cannot_be_read(tmp_path, monkeypatch):
    store = fill(tmp_path, 2)
    monkeypatch.setattr(store_module, "open", failing(errno.EIO)(open), raising=False)
    with pytest.raises(StoreError, match=r"000000\.png: input/output error; make the folder"):
        store.missing(range(2))


@pytest.mark.parametrize("root", ["file", "file/results"])
def test_a_results_folder_that_is_a_file(tmp_path, root):
    (tmp_path / "file").write_text("precious")
    message = f"^{tmp_path}/file: a file is where a folder should be"
    with pytest.raises(StoreError, match=message):
        fill(tmp_path / root, 1)
    with pytest.raises(StoreError, match=message):
        open_store(tmp_path / root, TinyRun()).require(1)
    assert (tmp_path / "file").read_text() == "precious"


# --- other processes ------------------------------------------------------------------------------


def test_a_second_lock_in_this_process_is_refused(tmp_path):
    with open_store(tmp_path, TinyRun()).lock():
        second = open_store(tmp_path, TinyRun())
        message = f"process {os.getpid()} is working on run"
        with pytest.raises(StoreError, match=message), second.lock():
            pytest.fail("two holders")
        with open_store(tmp_path, TinyRun(seed=1)).lock():
            pass  # another run is free
    assert not (open_store(tmp_path, TinyRun()).path / "run.pid").exists()


def test_a_second_process_is_refused_until_the_first_one_is_killed(tmp_path):
    code = """
with open_store(Path(sys.argv[1]), TinyRun()).lock():
    print("held", flush=True)
    sys.stdin.read()
"""
    holder, store = in_process(code, tmp_path), open_store(tmp_path, TinyRun())
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError) as caught, store.lock():
            pytest.fail("two holders")
        assert str(caught.value) == (
            f"{store.path}: process {holder.pid} is working on run {store.run.key}; "
            "wait for it to end, or stop it: what it has finished is kept"
        )
        (store.path / "run.pid").write_text("not a number")
        with pytest.raises(StoreError, match="another process is working on"), store.lock():
            pytest.fail("two holders")
    finally:
        holder.kill()
        holder.communicate()
    with store.lock():
        assert (store.path / "run.pid").read_text().split()[0] == str(os.getpid())


def test_an_error_under_the_lock_frees_it(tmp_path):
    store = open_store(tmp_path, TinyRun())
    with pytest.raises(ZeroDivisionError), store.lock():
        raise ZeroDivisionError
    with store.lock():
        assert store.missing([0]) == [0]


@pytest.mark.few(4)
@pytest.mark.parametrize("kind", ["image", "clip"])
@pytest.mark.parametrize(
    ("call", "moment"),
    [
        ("fsync", "before"),
        ("replace", "before"),
        ("replace", "after"),
        ("write", "halfway"),
        ("write", "after"),
    ],
)
def test_killed_at_a_chosen_moment(tmp_path, call, moment, kind):
    """kill -9 around each call that puts the third sample (or its preview) on the disk."""
    code = """
root, name, moment, kind = Path(sys.argv[1]), *sys.argv[2:]
fill(root, 2, kind)
call = getattr(os, name)
def killed(*args):
    if moment == "halfway":
        args = args[0], args[1][: len(args[1]) // 2]
    if moment != "before":
        call(*args)
    os.kill(os.getpid(), signal.SIGKILL)
store = open_store(root, TinyRun())
setattr(os, name, killed)
store.write(2, sample(2, kind), meta={"class": 2})
"""
    worker = in_process(code, tmp_path, call, moment, kind)
    _, errors = worker.communicate(timeout=60)
    assert (worker.returncode, errors) == (-signal.SIGKILL, "")
    store = open_store(tmp_path, TinyRun())
    left = (call, moment) != ("write", "after")
    assert (store.missing(range(3)), store.corrupt) == ([2] if left else [], [])
    assert bool(temporaries(tmp_path)) == (moment == "before")
    fill(tmp_path, 3, kind)
    assert (store.missing(range(3)), temporaries(tmp_path)) == ([], [])
    assert store.hashes(3) == fill(tmp_path / "undisturbed", 3, kind).hashes(3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image", pytest.param("clip", marks=pytest.mark.slow)])
def test_killed_again_and_again_the_run_ends_as_if_undisturbed(tmp_path, kind):
    endless, moments = (
        1_000_000,
        random.Random(0),
    )  # more than any machine makes before it is killed
    store = open_store(tmp_path / "disturbed", TinyRun(num_samples=endless))
    journal, finished = store.path / "samples.jsonl", 0
    for _ in range(6):
        worker = in_process(f"fill(Path(sys.argv[1]), {endless}, {kind!r})", tmp_path / "disturbed")
        size = journal.stat().st_size if journal.exists() else 0
        while worker.poll() is None and (not journal.exists() or journal.stat().st_size == size):
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.01))
        worker.kill()
        _, errors = worker.communicate()
        assert (worker.returncode, errors) == (-signal.SIGKILL, "")
        begun = range(len(journal.read_bytes().splitlines()) + 1)
        missing = store.missing(begun)
        assert store.corrupt == []
        assert len(begun) - len(missing) > finished  # it goes on where the last one was killed
        finished = len(begun) - len(missing)
        for index in {*begun} - {*missing}:
            np.testing.assert_array_equal(store.read(index), sample(index, kind))
    n = finished + 10
    fill(tmp_path / "disturbed", n, kind)
    undisturbed = fill(tmp_path / "undisturbed", n, kind)
    for path in undisturbed.path.rglob("*.[pm][nkp]*"):  # every png, mkv and mp4
        same = store.path / path.relative_to(undisturbed.path)
        assert same.read_bytes() == path.read_bytes()
    assert store.hashes(n) == undisturbed.hashes(n)
    assert [store.meta(i) for i in range(n)] == [undisturbed.meta(i) for i in range(n)]
    names = [sorted(p.name for p in x.path.rglob("*")) for x in (store, undisturbed)]
    assert names[0] == names[1]


def test_a_run_json_written_for_another_number_of_samples_is_found(tmp_path, tiny_plan):
    fill(tmp_path, 3)
    assert find_run(tmp_path, TinyRun().key) == replace(TinyRun(), num_samples=3)


def test_find_gives_back_the_run_that_was_planned(tmp_path):
    settings = {"steps": "50", "guidance": 1.5, "seed": 3, "classes": (7, 1), "num_samples": 2}
    run = runs.make_run("digits-skip", "skip-cache(n=2)", settings)
    with open_store(tmp_path, run).lock():
        pass
    assert find_run(tmp_path, run.key[:6]) == run


def test_a_run_of_code_that_has_changed_since_is_told(tmp_path, monkeypatch):
    """The folder keeps the key that it was made under."""
    monkeypatch.setattr(registry, "version", lambda kind, name: f"{kind} as it was")
    run = runs.make_run("digits", settings={"num_samples": 2})
    with open_store(tmp_path, run).lock():
        pass
    assert find_run(tmp_path, run.key).key == run.key
    monkeypatch.setattr(registry, "version", lambda kind, name: f"{kind} as it is")
    with pytest.raises(
        UsageError, match=f"run {run.key} was made by code that differs from what is installed"
    ):
        find_run(tmp_path, run.key)


def test_torch_and_codecs_are_not_imported_to_look_at_a_store():
    code = "print(sorted({'torch', 'av', 'PIL', 'filelock'} & set(sys.modules)))"
    code = f"import sys, skipdit_cli.storage.store; {code}"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
