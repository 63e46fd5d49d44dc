"""Chunks that several processes make are those that one makes, bit for bit."""

import importlib
import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from skipdit_cli import registry
from skipdit_cli.assets import assets
from skipdit_cli.checkpoints import catalog, local
from skipdit_cli.generate.local import Local
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.score import measure as scoring_of
from skipdit_cli.score import scoring, spread
from skipdit_cli.score.measure import How, measure
from skipdit_cli.storage.store import open_store

COUNT = 7
RUN = make_run("digits-skip", "fora(n=2)", {"num_samples": COUNT, "batch_size": 1})


@pytest.fixture
def fill():
    """fill(folder, count, side) -> images of noise of a run and of its reference."""

    def make(folder, count, side=16):
        random = np.random.default_rng(0)
        for run in (RUN.reference, RUN):
            for i in range(count):
                image = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
                open_store(folder, run).write(i, image, meta={"class": i % 10})

    return make


@pytest.fixture
def here(monkeypatch):
    """Work for other processes is done in this one, after the way there and with a job of its own.

    Gives every batch of chunks that was handed out.
    """
    batches = []

    def run_batches(work, shares, *, engine, of, on_done):
        for share in shares:
            batches.append((engine.workers, share))
            pickle.loads(pickle.dumps(work))(share)
            on_done(share)

    monkeypatch.setattr(spread, "run_batches", run_batches)
    monkeypatch.setattr(spread, "_jobs", {})
    monkeypatch.setitem(scoring.CHUNK, 3, 2)
    return batches


def chunks(folder, run=RUN):
    found = (open_store(folder, run).path / "features").rglob("*.safetensors")
    return {path.name: path.read_bytes() for path in found}


def test_what_several_processes_make_is_what_one_makes(tmp_path, fill, here):
    for folder in ("one", "more"):
        fill(tmp_path / folder, COUNT)
    told = []
    alone = measure(RUN, "ssim", root=tmp_path / "one")
    assert here == []
    together = measure(
        RUN,
        "ssim",
        root=tmp_path / "more",
        how=How(workers=2, engine=Local(2)),
        progress=lambda done, total: told.append((done, total)),
    )
    assert here == [(2, [0]), (2, [1]), (2, [2]), (2, [3])]
    assert together.value == alone.value
    assert chunks(tmp_path / "more") == chunks(tmp_path / "one")
    assert told[:4] == [(2, 7), (4, 7), (6, 7), (7, 7)]


def test_only_chunks_that_are_lacking_are_shared_out(tmp_path, fill, here):
    fill(tmp_path, COUNT)
    how = How(engine=Local(2))
    measure(RUN, "ssim", root=tmp_path, how=how)
    here.clear()
    for name in sorted(chunks(tmp_path))[1:]:
        next(tmp_path.rglob(name)).unlink()
    for path in tmp_path.rglob("ssim.json"):
        path.unlink()
    measure(RUN, "ssim", root=tmp_path, how=how)
    assert Counter(i for _, share in here for i in share) == Counter(range(1, 4))


def test_one_chunk_is_no_work_for_several(tmp_path, fill, here, monkeypatch):
    monkeypatch.setitem(scoring.CHUNK, 3, COUNT)
    fill(tmp_path, COUNT)
    measure(RUN, "ssim", root=tmp_path, how=How(engine=Local(2)))
    assert here == []


def test_parts_of_a_metric_are_scored_side_by_side(tmp_path, here, monkeypatch):
    """Those that are still to be scored; then the score that they are parts of is made here."""
    module, asked, told = registry.load("metrics", "vbench"), [], []
    run = replace(RUN, card=catalog.card("captioned-digits"), num_samples=1)
    clip = np.zeros((8, 16, 16, 3), np.uint8)
    open_store(tmp_path, run).write(0, clip, meta={"prompt": "seven"})
    monkeypatch.setattr(module, "lacking", lambda samples, **how: ["scene", "color"])
    monkeypatch.setattr(
        module, "score_prompts", lambda samples, **how: asked.append((samples, how["part"])) or 8.0
    )
    found = measure(
        run,
        "vbench",
        root=tmp_path,
        how=How(engine=Local(2)),
        progress=lambda done, total: told.append((done, total)),
    )
    assert found.value == 8
    parts = [[module.PARTS.index(name)] for name in ("scene", "color")]
    assert here == [(2, part) for part in parts]
    assert [part for _, part in asked] == ["scene", "color", ""]
    assert {prompt for samples, _ in asked for prompt, _ in samples} == {"seven"}
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize(("chunks", "workers", "size"), [(3, 2, 1), (80, 2, 10), (800, 4, 16)])
def test_shares_are_large_and_there_are_some_for_everybody(monkeypatch, chunks, workers, size):
    shares = []
    monkeypatch.setattr(spread, "run_batches", lambda work, given, **how: shares.extend(given))
    spread.spread(print, dict, range(chunks), name="a", engine=Local(workers), on_done=print)
    assert [i for share in shares for i in share] == list(range(chunks))
    assert max(map(len, shares)) == size


def test_other_processes_score_in_strict_float32_too(tmp_path, fill, monkeypatch):
    fill(tmp_path, COUNT)
    flags = []

    def score(reference, sample):
        flags.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return 1.0

    monkeypatch.setattr("skipdit_cli.metrics.ssim.score", score)
    scoring._make(scoring_of._job(RUN, "ssim", root=tmp_path, how=How()), [0])
    assert flags == [(False, False)] * COUNT


STAND_IN = '''
"""The job of a worker, where the asset of LPIPS is another file than the one that is known."""

from skipdit_cli.assets import assets
from skipdit_cli.checkpoints import local
from skipdit_cli.generate.local import Local
from skipdit_cli.score import measure

plain = measure._job

def job(run, metric, **how):
    asset = assets.declared()["alexnet"]
    target = assets.target(asset)
    vars(asset).update(size=target.stat().st_size, digest=local.sha256(target))
    return plain(run, metric, **how)
'''


@pytest.mark.slow
def test_networks_in_several_processes_see_the_same_to_the_last_bit(
    tmp_path, fill, monkeypatch, put_asset
):
    from torchvision.models import alexnet

    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))
    asset = put_asset("alexnet")
    target = assets.target(asset)
    target.parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), target)
    put_asset("alexnet", size=target.stat().st_size, digest=local.sha256(target))
    (tmp_path / "spread_stand_in.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(scoring_of, "_job", importlib.import_module("spread_stand_in").job)
    many = make_run("digits-skip", "fora(n=2)", {"num_samples": 130, "batch_size": 1})
    values = []
    for processes in (1, 2):
        root = tmp_path / str(processes)
        fill(root, 130, side=48)
        how = How(workers=2, engine=Local(processes))
        values.append(measure(many, "lpips", root=root, how=how).value)
    assert values[0] == values[1] > 0
    one, two = (chunks(tmp_path / str(n)) for n in (1, 2))
    assert one == two
    assert len(one) == 3
