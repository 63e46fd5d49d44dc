"""What is counted of a network without its weights: as it is counted anew, and kept until it is not
true any more."""

import json

import pytest

from skipdit_cli import registry
from skipdit_cli.checkpoints import catalog, networks
from skipdit_cli.errors import SkipditWarning
from skipdit_cli.profiling import counts, remembered
from skipdit_cli.profiling.macs import site_costs
from skipdit_cli.sites import Layout


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    forget()
    yield tmp_path
    forget()


def forget():
    """As in another process."""
    for function in (counts.layout, counts.places, counts.costs, networks.meta, remembered._code):
        function.cache_clear()


@pytest.fixture
def built(monkeypatch):
    """The names of the models that were built."""
    names = []
    build = networks.build

    def note(card, **given):
        names.append(card.name)
        return build(card, **given)

    monkeypatch.setattr(networks, "build", note)
    return names


def files(home):
    return sorted((home / "counts").glob("*.json"))


def all_of(model):
    card = catalog.card(model)
    return counts.layout(card), counts.places(card), counts.costs(card)


def test_layout_and_places_of_a_small_model():
    kinds = ("attn.spatial", "mlp.spatial")
    skips = ((3, 2), (4, 1), (5, 0))  # layer to of 6 is joined with layer 5 - to
    assert counts.layout(catalog.card("digits-skip")) == Layout("dit", 6, kinds, skips)
    assert counts.places(catalog.card("digits")) == 16 * 16
    assert counts.places(catalog.card("moving-digits")) == 8 * 16 * 16  # frames x height x width


@pytest.mark.parametrize("model", ["moving-digits-skip", "captioned-digits", "painted-digits"])
def test_what_is_kept_is_what_is_counted(home, built, model):
    network = networks.build(catalog.card(model))
    official = registry.load("models", network.layout().family).official_calls(network)
    anew = site_costs(network, network.inputs(1, device="meta"), official=official)
    first = all_of(model)
    assert first[0] == network.layout()
    assert first[2] == anew
    assert built == [model, model]
    forget()
    assert all_of(model) == first
    assert built == [model, model]  # not a third time
    assert len(files(home)) == 3


def test_text_tokens_are_another_count():
    short, usual = (counts.costs(catalog.card("captioned-digits"), tokens) for tokens in (2, None))
    assert short.total.flops < usual.total.flops
    assert counts.costs(catalog.card("captioned-digits"), 2) == short


def test_what_is_damaged_is_counted_again(home, built):
    first = counts.costs(catalog.card("digits"))
    (file,) = files(home)
    kept = json.loads(file.read_text())
    kept["content"]["total"][0] += 1
    for damaged in (json.dumps(kept), "{", "[]", ""):
        file.write_text(damaged)
        forget()
        with pytest.warns(SkipditWarning, match="is not a readable count .*; it counts as absent"):
            assert counts.costs(catalog.card("digits")) == first
    assert built == ["digits"] * 5
    forget()
    assert counts.costs(catalog.card("digits")) == first
    assert built == ["digits"] * 5  # the last one was kept


@pytest.mark.parametrize("change", ["source", "torch", "card"])
def test_what_it_depends_on_makes_it_another_count(home, built, monkeypatch, change):
    counts.layout(catalog.card("digits"))
    forget()
    if change == "source":
        monkeypatch.setattr(remembered, "_SOURCES", ("models/dit.py",))
    elif change == "torch":
        monkeypatch.setattr(remembered.metadata, "version", lambda name: "99")
    else:
        assert remembered._key(catalog.card("digits"), "layout") != remembered._key(
            catalog.card("digits-skip"), "layout"
        )
        return
    counts.layout(catalog.card("digits"))
    assert built == ["digits", "digits"]
    assert len(files(home)) == 2


def test_a_home_that_cannot_be_written_is_no_obstacle(home, monkeypatch):
    (home / "file").write_text("")
    monkeypatch.setenv("SKIPDIT_HOME", str(home / "file"))
    assert counts.layout(catalog.card("digits")).layers == 6


def test_every_family_is_counted_by_sources_that_the_key_covers():
    """Else an edited file would go on with the counts of the old one."""
    covered = {
        path for pattern in remembered._SOURCES for path in remembered._PACKAGE.glob(pattern)
    }
    for family in registry.names("models"):
        assert remembered._PACKAGE / "models" / f"{family}.py" in covered
