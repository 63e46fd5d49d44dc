"""Attaching and detaching: the session's clock, its branches, and what else is on the model."""

import pytest
import torch
from diffusers.hooks import HookRegistry, ModelHook
from torch import nn

from skipdit_cli.checkpoints import catalog, networks
from skipdit_cli.errors import SkipditError, UsageError
from skipdit_cli.generate.hooks import attached
from skipdit_cli.sites import Layout, Place, Site
from skipdit_cli.spec import parse_cache

LAYOUT = Layout("toy", 3, (), ((2, 0),))
CACHE = parse_cache("skip-cache(n=2,window=1000-0,branch=1)").resolve(LAYOUT)
STEPS = [999, 600, 300, 100]


class Layer(nn.Module):
    def forward(self, x, skip=None, *, scale=1.0):
        return scale * (x + 1 + (0 if skip is None else skip))


class Model(nn.Module):
    """Three layers of +1; the last one adds the first one's output and halves: x -> (2x+4)/2."""

    SITES = {"layer": "layers.{i}"}

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(3))

    def forward(self, x):
        first = self.layers[0](x)
        return self.layers[2](self.layers[1](first), first, scale=0.5)

    def layout(self):
        return LAYOUT


def number(x):
    return torch.tensor(float(x))


def test_positions_and_keywords_reach_the_layers():
    model = Model()
    assert model(number(3)) == 5  # 4; 5; 0.5 * (5 + 1 + 4)
    with attached(model, CACHE, STEPS) as session:
        session.begin(0)
        assert model(number(3)) == 5
        session.begin(1)
        assert model(number(7)) == 7  # 8; stored 5; 0.5 * (5 + 1 + 8)


def test_branches_keep_their_own_state_by_hand():
    model = Model()
    with attached(model, CACHE, STEPS) as session:
        session.begin(0, branch="a")
        model(number(3))  # stores 5
        session.begin(0, branch="b")
        model(number(10))  # 11; stores 12
        session.begin(1, branch="a")
        assert model(number(0)) == 3.5  # 1; 0.5 * (5 + 1 + 1)
        session.begin(1, branch="b")
        assert model(number(0)) == 7  # 0.5 * (12 + 1 + 1)
        assert {branch: dict(store) for branch, store in session.stores.items()} == {
            "a": {"full": ((0, number(5)),)},
            "b": {"full": ((0, number(12)),)},
        }


def test_what_was_computed_is_counted_per_step_and_site():
    model = Model()
    with attached(model, CACHE, STEPS) as session:
        for step in range(3):
            session.begin(step)
            model(number(step))
        model(number(0))  # a second call of step 2
        one, two = Site("layer", 1), Site("layer", 2)
        assert session.computed == {
            (0, one): 1,
            (0, two): 1,
            (1, two): 1,
            (2, one): 2,
            (2, two): 2,
        }


@pytest.mark.parametrize("step", [-1, 4, 1000])
def test_a_step_outside_the_schedule(step):
    with (
        attached(Model(), CACHE, STEPS) as session,
        pytest.raises(UsageError, match=f"^step {step} is outside the schedule of 4 steps$"),
    ):
        session.begin(step)


def test_a_second_cache_is_refused_and_the_first_one_stays():
    model = Model()
    with attached(model, CACHE, STEPS) as session:
        session.begin(0)
        model(number(3))
        with pytest.raises(UsageError) as caught, attached(model, CACHE, STEPS):
            pass
        assert str(caught.value) == (
            "the model already has a cache, so skip-cache(n=2,window=1000-0,branch=1) "
            "cannot be put on it"
        )
        session.begin(1)
        assert model(number(7)) == 7  # still cached
    assert not any("forward" in vars(layer) for layer in model.layers)
    assert model(number(7)) == 9


def test_a_cache_of_another_structure_is_refused():
    cache = parse_cache("skip-cache(branch=1)").resolve(Layout("toy", 4, (), ((3, 0),)))
    with pytest.raises(UsageError, match=r"was resolved for a toy of another structure$"):
        attached(Model(), cache, STEPS).__enter__()


def test_two_models_have_two_sessions():
    first, second = Model(), Model()
    with attached(first, CACHE, STEPS) as one, attached(second, CACHE, STEPS) as two:
        one.begin(0)
        two.begin(0)
        first(number(3))
        second(number(10))
        one.begin(1)
        two.begin(1)
        assert (first(number(0)), second(number(0))) == (3.5, 7)


class Twice(ModelHook):
    def post_forward(self, module, output):
        return 2 * output


def test_hooks_of_others_survive():
    """A diffusers hook that was there before works during and after a session."""
    model = Model()
    HookRegistry.check_if_exists_or_initialize(model.layers[1]).register_hook(Twice(), "twice")
    assert model(number(3)) == 7.5  # 4; 2 * 5; 0.5 * (10 + 1 + 4)
    with attached(model, CACHE, STEPS) as session:
        session.begin(0)
        assert model(number(3)) == 7.5
        session.begin(1)
        assert model(number(7)) == 9.5  # 8; stored 10; 0.5 * (10 + 1 + 8)
    assert list(model.layers[1]._diffusers_hook.hooks) == ["twice"]
    assert not hasattr(model.layers[2], "_diffusers_hook")
    assert model(number(3)) == 7.5


def test_a_wrapper_that_was_there_before_stays():
    model = networks.build(catalog.card("digits-skip"), device="cpu")
    block = model.blocks[2]
    plain, calls = block.forward, []

    def wrapper(*args, **kwargs):
        calls.append(1)
        return plain(*args, **kwargs)

    block.forward = wrapper
    with attached(
        model, parse_cache("skip-cache(n=2)").resolve(model.layout()), [900, 800]
    ) as session:
        session.begin(0)
        model(**model.inputs(1), return_dict=False)
    assert calls == [1]
    assert block.forward is wrapper
    assert not hasattr(block, "_diffusers_hook")


FIRST_BLOCK = parse_cache("first-block(threshold=0.5)").resolve(LAYOUT)


def test_the_hooks_of_diffusers_know_the_branch_of_every_call():
    """The first layer adds 1 whatever the input: a call is skipped once its own branch had one."""
    model, second = Model(), Site("layer", 1)
    with attached(model, FIRST_BLOCK, STEPS) as session:
        session.begin(0, branch="a")
        model(number(3))
        session.begin(0, branch="b")
        model(number(10))
        assert session.computed[0, second] == 2
        for branch in "ab":
            session.begin(1, branch=branch)
            assert model(number(7)) == 8 + 1  # 4 became 5, and 11 became 12
        assert session.computed[1, second] == 0


def test_the_hooks_of_diffusers_forget_with_the_session():
    model = Model()
    with attached(model, FIRST_BLOCK, STEPS) as session:
        for _ in range(2):
            session.begin(0)
            model(number(3))
            assert not session.reused[0]
            session.begin(1)
            model(number(3))
            assert session.reused[1]
            session.reset()
            assert not any(session.reused)
    assert not any(hasattr(layer, "_diffusers_hook") for layer in model.layers)


class Streams(nn.Module):
    """A text and a picture: text -> text + 1, x -> 2x + text."""

    def forward(self, text, x):
        return text + 1, 2 * x + text


class TwoStreams(nn.Module):
    """Three of them; what the first one gives is added at the end."""

    SITES = {"layer": Place("blocks.{i}", argument=1, output=1)}

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Streams() for _ in range(3))

    def forward(self, text, x):
        text, first = self.blocks[0](text, x)
        text, x = self.blocks[1](text, first)
        text, x = self.blocks[2](x=x, text=text)
        return text, x + first

    def layout(self):
        return LAYOUT


def test_sites_that_return_tuples_by_hand():
    """From (10, 1): (11, 12), (12, 35), (13, 82), and 12 is added. From (20, 2): (21, 24),
    (22, 69), (23, 160), and 24 is added.

    Cached, the second block is left out: the third one gets the 35 that it got before, and the text
    that came with it, 12: (13, 82), and 24 is added.
    """
    model = TwoStreams()
    first, second = (number(10), number(1)), (number(20), number(2))
    assert model(*first) == (13, 94)
    assert model(*second) == (23, 184)
    with attached(model, CACHE, STEPS) as session:
        session.begin(0)
        assert model(*first) == (13, 94)
        session.begin(0, branch="other")
        assert model(*second) == (23, 184)
        session.begin(1)
        assert model(*second) == (13, 106)
        session.begin(1, branch="other")
        assert model(*first) == (23, 160 + 12)
    assert not session.others
    assert model(*second) == (23, 184)


def sited(model, sites):
    model.SITES = sites
    return model


@pytest.mark.parametrize(
    ("model", "sites", "message"),
    [
        (Model, {"layer": "blocks.{i}"}, "layer names blocks.0, and the model has no such module"),
        (Model, {"layer": "layers.1"}, "layer is the same module in all 3 layers"),
        (Model, {"attn": "layers.{i}"}, "unknown kind of site 'attn'"),
    ],
)
def test_sites_that_are_not_there(model, sites, message):
    with pytest.raises(SkipditError) as caught, attached(sited(model(), sites), CACHE, STEPS):
        pass
    assert str(caught.value).startswith(f"{__name__}.{model.__name__}.SITES: {message}; ")


@pytest.mark.parametrize(
    ("model", "sites", "message"),
    [
        (
            Model,
            {"layer": Place("layers.{i}", output=0)},
            "layer gives a Tensor and no tuple, but a place in it is named",
        ),
        (TwoStreams, {"layer": "blocks.{i}"}, "layer gives a tuple and no tensor"),
        (
            TwoStreams,
            {"layer": Place("blocks.{i}", argument=1, output=2)},
            "layer gives a tuple of 2, which has no place 2",
        ),
    ],
)
def test_places_of_hidden_states_that_are_not_there(model, sites, message):
    model = sited(model(), sites)
    given = [number(1)] * (1 if isinstance(model, Model) else 2)
    with attached(model, CACHE, STEPS) as session:
        session.begin(0)
        with pytest.raises(SkipditError) as caught:
            model(*given)
    assert str(caught.value).startswith(f"{__name__}.{type(model).__name__}.SITES: {message}; ")


def test_kinds_of_sites_of_which_the_layout_tells_alone():
    layout = Layout("toy", 3, ("attn.spatial",))
    model, fora = Model(), parse_cache("fora(n=2)").resolve(layout)
    model.layout = lambda: layout
    with pytest.raises(SkipditError) as caught, attached(model, fora, STEPS):
        pass
    assert str(caught.value) == (
        f"{__name__}.Model.SITES: there is no attn.spatial, and fora acts on it; let `layout` name "
        "the kinds that are there"
    )
