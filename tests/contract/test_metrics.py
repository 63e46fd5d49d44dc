"""Every metric says what it is and what it needs, in the same words everywhere."""

import inspect

import pytest

from skipdit_cli import applicable, real_clips, reference, registry
from skipdit_cli.weights import CARDS, assets

NAMES = registry.names("metrics")
FUNCTION = {
    "pairs": "score",
    "each": "score",
    "set": "score_set",
    "prompted": "score_prompts",
}
ARGUMENTS = {"pairs": 2, "each": 2, "set": 2}


@pytest.fixture(params=NAMES)
def metric(request):
    return registry.load("metrics", request.param)


def test_constants(metric):
    name = registry._stem(metric.NAME)
    assert metric.__name__ == f"skipdit_cli.metrics.{name}"
    assert metric.LABEL
    assert metric.PROTOCOL
    assert metric.BETTER in ("higher", "lower")
    assert metric.TASKS
    assert set(metric.TASKS) <= {"c2i", "c2v", "t2v", "t2i"}
    assert type(metric.VERSION) is int
    assert metric.VERSION > 0
    assert len(metric.__doc__.splitlines()[0]) <= 100


def test_functions(metric):
    score = getattr(metric, FUNCTION[metric.NEEDS])
    assert score.__doc__
    required = [
        parameter
        for parameter in inspect.signature(score).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is not parameter.KEYWORD_ONLY
    ]
    network = metric.NEEDS in ("pairs", "each") and hasattr(metric, "load")
    if metric.NEEDS in ARGUMENTS and metric.NAME != "inception-score":  # it has no reference
        assert len(required) == ARGUMENTS[metric.NEEDS] + network
    assert hasattr(metric, "ASSETS") == hasattr(metric, "load")
    assert hasattr(metric, "EXTRACTOR") >= hasattr(metric, "REFERENCE")


def test_what_is_needed_can_be_downloaded_and_the_download_knows_it(metric):
    needed = set(reference.networks(metric))
    real = getattr(metric, "REFERENCE", "")
    if real:
        cards = [card for card in CARDS.values() if card.task in metric.TASKS]
        named = {real.format(dataset=card.dataset) for card in cards if not card.embedded}
        found = named & set(assets.ASSETS)
        made = {name for name in named if name.partition("/")[0] in real_clips.DATASETS}
        assert found or made
        for name in made:
            dataset, _, protocol = name.partition("/")
            assert protocol in real_clips.DATASETS[dataset].preparations
        needed |= found
    assert needed == set(assets.for_metric(metric.NAME))


def test_protocols_tell_metrics_of_one_name_apart():
    """`fid`, `fid@frames` and `fid@coco` are three definitions, and say so."""
    by_name = {}
    for name in NAMES:
        by_name.setdefault(name.partition("@")[0], []).append(registry.load("metrics", name))
    for alike in by_name.values():
        assert len({metric.PROTOCOL for metric in alike}) == len(alike)


@pytest.mark.parametrize("model", CARDS)
def test_every_model_is_scored_by_something_beside_pairs(model):
    kinds = {registry.load("metrics", name).NEEDS for name in applicable.to_model(model)}
    assert "pairs" in kinds
    assert kinds > {"pairs"}
