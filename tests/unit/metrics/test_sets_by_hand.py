"""Metrics of sets on features that are simple enough to work out what they make of them."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from skipdit_cli import registry
from skipdit_cli.assets import coco
from skipdit_cli.checkpoints.inventory import coco_list
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.score.reference import Clips, Coco
from skipdit_cli.storage import kept

FRECHET = {
    "fid": ("pool", 1),
    "sfid": ("spatial", 1),
    "fid@frames": ("pool", 0),
    "fid@coco": ("pool", 1),
    "fid@clean": ("clean", 1),
    "fd-dinov2": ("token", 1),
    "fvd": ("logits", 0),
    "fvd@latte": ("logits", 0),
}


class Real:
    """Real samples whose features are 0 in every direction, with no spread."""

    def __init__(self, feature, rows=None):
        self.feature, self.rows = feature, rows

    def moments(self, feature, *, ddof):
        assert feature == self.feature
        self.ddof = ddof
        return np.zeros(2), np.zeros((2, 2))

    def features(self):
        yield {self.feature: self.rows}


@pytest.mark.parametrize("metric", FRECHET)
def test_frechet_distances_are_squared_mean_plus_variance(metric):
    """Features 1, 2, 6 and their doubles: means 3 and 6, squared deviations 14 and 56."""
    feature, ddof = FRECHET[metric]
    rows = np.array([[1.0, 2.0], [2.0, 4.0], [6.0, 12.0]])
    chunks = [{feature: rows[:1]}, {feature: rows[1:]}]
    if metric == "fid@frames":  # which come by clip
        chunks = [{feature: chunk[feature][None]} for chunk in chunks]
    real = Real(feature)
    value = registry.load("metrics", metric).score_set(chunks, real)
    assert value == pytest.approx(3**2 + 6**2 + (14 + 56) / (3 - ddof))
    assert real.ddof == ddof


@pytest.mark.parametrize("metric", FRECHET)
def test_one_sample_is_no_distribution(metric):
    feature, _ = FRECHET[metric]
    with pytest.raises(UsageError, match="a distribution cannot be told from 1 sample"):
        registry.load("metrics", metric).score_set([{feature: np.ones((1, 2))}], Real(feature))


def test_inception_score_is_the_number_of_classes_told_apart():
    """Sure of one of four classes, evenly: 4. Sure of the same class always, or of none: 1."""
    score = registry.load("metrics", "inception-score").score_set
    certain = 1000 * np.eye(4)
    assert score([{"logits": certain}, {"logits": certain}]) == pytest.approx(4)
    assert score([{"logits": certain[:1]}] * 3) == pytest.approx(1)
    assert score([{"logits": np.zeros((5, 4))}]) == pytest.approx(1)


def test_inception_score_sees_the_order(monkeypatch):
    """Samples sorted by class have parts of one class each: the score is wrong, and stays so."""
    module = registry.load("metrics", "inception-score")
    monkeypatch.setattr(module.module, "SPLIT", 4)
    certain = 1000 * np.eye(4)
    mixed = np.concatenate([certain] * 4)
    assert module.score_set([{"logits": mixed}]) == pytest.approx(4)
    assert module.score_set([{"logits": np.repeat(certain, 4, axis=0)}]) == pytest.approx(1)


def test_inception_score_has_parts_of_5000():
    """Four classes, 2,500 samples of each in turn: two in every part, so 2; 4 in one part."""
    score = registry.load("metrics", "inception-score").score_set
    logits = np.repeat(1000 * np.eye(4), 2500, axis=0)
    assert score([{"logits": logits}]) == pytest.approx(2, rel=1e-12)


def test_precision_and_recall_on_a_line():
    """Real at 0, 1, 2, 3: the third neighbours are 3, 2, 2, 3 away, so -3 to 6 is inside.

    Samples at 5, 6, 7, 30: the first two are inside the real ones' balls. Their own balls have
    radii 25, 24, 23 and 25, the last one from 5 to 55: all real ones are inside the first.
    """
    precision, recall = (registry.load("metrics", name) for name in ("precision", "recall"))
    real = np.array([[0.0], [1.0], [2.0], [3.0]])
    ours = np.array([[5.0], [6.0], [7.0], [30.0]])
    chunks = [{"pool": ours}]
    assert precision.score_set(chunks, Real("pool", real)) == 0.5  # 6 is on the edge: inside
    assert recall.score_set(chunks, Real("pool", real)) == 1
    far = [{"pool": ours + 100}]
    assert precision.score_set(far, Real("pool", real)) == 0
    assert recall.score_set(far, Real("pool", real)) == 0
    with pytest.raises(UsageError, match="cannot be told from 3 sample"):
        precision.score_set([{"pool": ours[:3]}], Real("pool", real))


def test_kid_of_two_pairs_of_numbers():
    """Under (xy + 1)^3, 1 and 2 are 27 alike, 0 and 1 are 1; between the pairs 1, 8, 1 and 27.

    The diagonals do not count, so that it is 27 + 1 - 2 * 37 / 4.
    """
    kid = registry.load("metrics", "kid")
    chunks = [{"pool": np.float32([[1]])}, {"pool": np.float32([[2]])}]
    real = Real("pool", np.float32([[0], [1]]))
    assert kid.score_set(chunks, real) == pytest.approx(9.5)
    with pytest.raises(UsageError, match=r"kid cannot be told from 1 sample\(s\); take at least 2"):
        kid.score_set(chunks[:1], real)


def test_kid_is_the_mean_over_draws_by_one_seed(monkeypatch):
    """Of 3 out of 6 and 3 out of 5, drawn five times."""
    kid = registry.load("metrics", "kid")
    monkeypatch.setattr(kid.module, "SUBSETS", 5)
    monkeypatch.setattr(kid.module, "MOST", 3)
    ours, real = (np.random.default_rng(i).normal(size=(n, 4)) for i, n in ((0, 6), (1, 5)))
    random, expected = np.random.RandomState(2020), []
    apart = ~np.eye(3, dtype=bool)
    for _ in range(5):
        x = ours[random.choice(6, 3, replace=False)]
        y = real[random.choice(5, 3, replace=False)]
        xx, yy, xy = ((a @ b.T / 4 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        expected.append(xx[apart].mean() + yy[apart].mean() - 2 * xy.mean())
    assert np.std(expected) > 0.01
    value = kid.score_set([{"pool": ours}], Real("pool", real))
    assert value == pytest.approx(np.mean(expected), rel=1e-12)


def test_cmmd_of_two_directions():
    """Two embeddings at a right angle are 2 apart in square: exp(-2 / 200) alike, and 1 each."""
    cmmd = registry.load("metrics", "cmmd")
    one, other = np.float32([[1, 0]]), np.float32([[0, 1]])
    real = Real("embedding", other)
    expected = 1000 * (2 - 2 * np.exp(-0.01))
    assert cmmd.score_set([{"embedding": one}], real) == pytest.approx(expected)
    assert cmmd.score_set([{"embedding": other}], real) == pytest.approx(0, abs=1e-9)
    # of both beside the one: the mean over four, over one and over two pairs
    both = [{"embedding": one}, {"embedding": other}]
    assert cmmd.score_set(both, real) == pytest.approx(expected / 4)
    with pytest.raises(UsageError, match="cmmd has no images to compare"):
        cmmd.score_set([], real)


def test_cmmd_in_blocks_of_rows(monkeypatch):
    cmmd = registry.load("metrics", "cmmd")
    ours, real = (np.random.default_rng(i).normal(size=(n, 4)) for i, n in ((0, 7), (1, 5)))
    whole = cmmd.module.of_embeddings(ours, real)
    monkeypatch.setattr(cmmd.module, "ROWS", 3)
    assert cmmd.module.of_embeddings(ours, real) == pytest.approx(whole, rel=1e-9)


def test_the_images_of_coco_are_those_of_the_prompts(tmp_path, monkeypatch):
    """Out of the archive, in the order of the list, whatever else is in it."""
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    coco_list().parent.mkdir(parents=True)
    listed = coco_list().with_suffix(".json")
    listed.write_bytes(kept.sealed_json({"image_ids": [42, 7]}, coco.IMAGES, of="coco"))
    archive = tmp_path / "metrics" / "coco-val2014" / "val2014.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as content:
        for identity, mode, level in ((7, "L", 70), (42, "RGB", 200), (99, "RGB", 0)):
            colour = level if mode == "L" else (level,) * 3
            data = io.BytesIO()
            Image.new(mode, (20, 10), colour).save(data, format="JPEG")
            content.writestr(f"val2014/COCO_val2014_{identity:012d}.jpg", data.getvalue())

    def extract(images):
        return {"pool": np.array([[image.mean(), image.shape[2]] for image in images])}

    found = {"path": archive, "archive": "00", "extract": extract}
    real = Coco(**found, folder=tmp_path / "kept")
    (chunk,) = real.features()
    np.testing.assert_allclose(chunk["pool"], [[200, 3], [70, 3]], atol=1)
    mean, covariance = real.moments("pool", ddof=1)
    assert mean[0] == pytest.approx(135, abs=1)
    assert covariance[0, 0] == pytest.approx(130**2 / 2, rel=0.02)
    listed.write_bytes(kept.sealed_json({"image_ids": [8]}, coco.IMAGES, of="coco"))
    with pytest.raises(UsageError, match=r"val2014\.zip: has no readable .*000000000008"):
        list(Coco(**found, folder=tmp_path / "other").features())


def test_real_clips_are_statistics_with_the_ddof_of_fvd(tmp_path):
    path = tmp_path / "ffs" / "released.npz"
    path.parent.mkdir()
    np.savez(path, logits_mean=np.arange(2.0), logits_covariance=np.eye(2))
    mean, covariance = Clips(path).moments("logits", ddof=0)
    assert (mean.tolist(), covariance.tolist()) == ([0, 1], [[1, 0], [0, 1]])
    with pytest.raises(UsageError, match=r"released\.npz: has covariances with ddof 0, not 1"):
        Clips(path).moments("logits", ddof=1)
    with pytest.raises(MissingAssetError, match=r"has no pool_mean; delete it and run `skipdit"):
        Clips(path).moments("pool", ddof=0)
    with pytest.raises(UsageError, match=r"released\.npz: has statistics of real clips, not"):
        Clips(path).features()
