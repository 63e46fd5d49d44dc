"""Every metric says what it is and what it needs, in the same words everywhere."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from skipdit_cli import registry
from skipdit_cli.assets import assets
from skipdit_cli.checkpoints.catalog import CARDS
from skipdit_cli.errors import SkipditError
from skipdit_cli.metrics import FUNCTIONS, Asset, Extractor
from skipdit_cli.score import applicable, real_clips

NAMES = registry.names("metrics")


@pytest.fixture(params=NAMES)
def metric(request):
    return registry.load("metrics", request.param)


def test_constants(metric):
    name = registry._stem(metric.NAME)
    assert metric.module.__name__ == f"skipdit_cli.metrics.{name}"
    assert metric.LABEL
    assert metric.PROTOCOL
    assert type(metric.VERSION) is int
    assert metric.VERSION > 0
    assert len(metric.module.__doc__.splitlines()[0]) <= 100


def test_what_scores_says_how(metric):
    function, _ = FUNCTIONS[metric.NEEDS]
    assert getattr(metric, function).__doc__


def test_what_is_compared_with_can_be_downloaded_or_made(metric):
    """Some data set of a model that it can score has its reference."""
    if not metric.REFERENCE:
        assert metric.REFERENCES == ()
        return
    cards = [card for card in CARDS.values() if card.task in metric.TASKS and not card.embedded]
    named = {metric.REFERENCE.format(dataset=card.dataset) for card in cards}
    made = {name for name in named if name.partition("/")[0] in real_clips.DATASETS}
    for name in made:
        dataset, _, protocol = name.partition("/")
        assert protocol in real_clips.DATASETS[dataset].preparations
    fetched = {asset.name for asset in metric.REFERENCES}
    assert fetched <= named
    assert fetched or made


def test_protocols_tell_metrics_of_one_name_apart():
    """`fid`, `fid@frames` and `fid@coco` are three definitions, and say so."""
    by_name = {}
    for name in NAMES:
        by_name.setdefault(name.partition("@")[0], []).append(registry.load("metrics", name))
    for alike in by_name.values():
        assert len({metric.PROTOCOL for metric in alike}) == len(alike)


def test_the_page_of_metrics_has_all_of_them_and_of_what_they_need():
    """A protocol for each, and for each file the metrics that it is for and its licence."""
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    table, _, rest = page.partition("\n\nWhat they look through")
    for name in NAMES:
        assert f"`{name}`" in table, name
    files = [line for line in rest.splitlines() if line.startswith("| `")]
    assert files == [
        f"| `{name}` | {asset.what} | {', '.join(f'`{user}`' for user in assets.users(asset))} "
        f"| {asset.licence} |"
        for name, asset in assets.declared().items()
    ]


@pytest.mark.parametrize("model", CARDS)
def test_every_model_is_scored_by_something_beside_pairs(model):
    kinds = {registry.load("metrics", name).NEEDS for name in applicable.to_model(CARDS[model])}
    assert "pairs" in kinds
    assert kinds > {"pairs"}


# What an author may get wrong

ASSET = Asset(name="net", what="a network", source="someone/net", size=1, licence="MIT")
EXTRACTOR = Extractor("net", 1, (ASSET,), lambda assets, device: None)


def file(tmp_path, monkeypatch, *, without=(), **parts):
    """A file of metrics/ with these parts, found as any other."""
    whole = {"NAME": "edges", "LABEL": "Edges", "UNIT": "", "BETTER": "lower", "NEEDS": "pairs"}
    whole |= {"TASKS": ("c2i",), "VERSION": 1, "PROTOCOL": "ours"}
    whole |= {"score": lambda reference, sample: 0.0} | parts
    module = ModuleType("edges")
    module.__file__ = str(tmp_path / "edges.py")
    vars(module).update({key: value for key, value in whole.items() if key not in without})
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "edges.py").write_text("")
    monkeypatch.setattr(registry, "_PACKAGE", tmp_path)
    monkeypatch.setitem(sys.modules, "skipdit_cli.metrics.edges", module)
    monkeypatch.setattr(registry, "_load", registry._load.__wrapped__)  # nothing is kept


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"without": ("score",)}, "NEEDS is 'pairs', so there has to be score(reference, sample)"),
        ({"NEEDS": "each", "score": lambda sample: 0.0}, "so there has to be score(sample, meta)"),
        ({"NEEDS": "set"}, "NEEDS is 'set', so there has to be score_set(samples, metas)"),
        ({"NEEDS": "pair"}, "NEEDS is one of 'pairs', 'each', 'set', 'prompted', not 'pair'"),
        ({"NEEDS": "prompted"}, "so there has to be score_prompts(samples, part, folder, "),
        (
            {"NEEDS": "prompted", "score_prompts": lambda samples, more: 0.0},
            "`score_prompts` takes (samples, more) and is called with (samples)",
        ),
        ({"without": ("VERSION",)}, "`VERSION` is missing"),
        (
            {"ASSETS": (ASSET,), "load": lambda assets, device: None},
            "so there has to be score(reference, sample, network)",
        ),
        ({"ASSETS": (ASSET,), "score": lambda a, b, c: 0.0}, "load(assets, device) come together"),
        ({"load": lambda assets, device: None}, "load(assets, device) come together"),
        ({"BETTER": "more"}, "BETTER is 'higher' or 'lower', not 'more'"),
        ({"TASKS": "c2i"}, "TASKS is a tuple of 'c2i', 'c2v', 't2v', 't2i', not 'c2i'"),
        ({"TASKS": ("c2x",)}, "not ('c2x',)"),
        ({"EXTRACTOR": EXTRACTOR}, "an EXTRACTOR is for NEEDS = 'set', not 'pairs'"),
        (
            {"NEEDS": "set", "EXTRACTOR": EXTRACTOR, "score_set": lambda features: 0.0},
            "so there has to be score_set(features, reference)",
        ),
        ({"REFERENCE": "{dataset}"}, "a REFERENCE is seen through an EXTRACTOR"),
        (
            {"NEEDS": "set", "EXTRACTOR": EXTRACTOR, "REFERENCE": "{data}"},
            "'{data}' has another field than {dataset}",
        ),
    ],
)
def test_a_mistake_is_one_line_with_the_file_and_what_is_expected(
    tmp_path, monkeypatch, parts, told
):
    file(tmp_path, monkeypatch, **parts)
    with pytest.raises(SkipditError) as caught:
        registry.load("metrics", "edges")
    line = str(caught.value)
    assert line.startswith("metrics/edges.py: ")
    assert told in line
    assert "\n" not in line


def test_parts_that_are_left_out_have_their_defaults(tmp_path, monkeypatch):
    file(tmp_path, monkeypatch)
    metric = registry.load("metrics", "edges")
    assert (metric.SMALLEST, metric.FRAMES, metric.PARTS, metric.ASSETS) == (1, 1, (), ())
    assert metric.EXTRACTOR is metric.load is metric.average is metric.environment() is None
    assert metric.protocol(["a prompt"]) == "ours"


def test_reading_all_metrics_loads_no_network():
    """`skipdit download` and reports read what metrics declare; torch takes seconds."""
    code = (
        "import sys\nfrom skipdit_cli import registry\n"
        "for name in registry.names('metrics'): registry.load('metrics', name)\n"
        "print({'torch', 'skimage', 'scipy', 'transformers', 'torchmetrics'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
