"""FORA, PAB and T-GATE worked out on paper: whole numbers, and the authors' schedules."""

import pytest
import torch
from torch import nn

from skipdit_cli.errors import UsageError
from skipdit_cli.generate.hooks import attached
from skipdit_cli.generate.loop import replay
from skipdit_cli.sites import BOTH, CONDITIONAL, NULL, Layout, Site
from skipdit_cli.spec import parse_cache

FIFTY = range(980, -1, -20)
KINDS = ("attn.spatial", "attn.cross", "mlp.spatial", "attn.temporal", "mlp.temporal")
VIDEO = Layout("latte_t2v", 28, KINDS)
PAIRS = Layout("latte", 14, tuple(kind for kind in KINDS if kind != "attn.cross"))
IMAGE = Layout("dit", 28, KINDS[::2][:2])


class Branch(nn.Module):
    """x -> gate a x"""

    def __init__(self, a):
        super().__init__()
        self.a = a

    def forward(self, x, *, gate=1.0):
        return gate * self.a * x


class Toy(nn.Module):
    """x <- x + gate x, then x <- x + gate 2 x"""

    SITES = {"attn.spatial": "attn", "mlp.spatial": "mlp"}

    def __init__(self):
        super().__init__()
        self.attn, self.mlp = Branch(1), Branch(2)

    def forward(self, x, gate):
        x = x + self.attn(x, gate=gate)
        return x + self.mlp(x, gate=gate)

    def layout(self):
        return Layout("toy", 1, ("attn.spatial", "mlp.spatial"))


def outputs(spec, calls, timesteps):
    """The toy's outputs for (x, gate) of every step."""
    model, found = Toy(), []
    with attached(model, parse_cache(spec).resolve(model.layout()), timesteps) as session:
        for step, (x, gate) in enumerate(calls):
            session.begin(step)
            found.append(model(torch.tensor(float(x)), gate).item())
    return found


def steps(spec, layout, kind, timesteps=FIFTY, *, layer=0):
    """Which steps reuse a site."""
    cache = parse_cache(spec).resolve(layout)
    reused = cache.reused(timesteps, guided=False)
    return [step for step, sites in enumerate(reused) if Site(kind, layer) in sites]


CALLS = [(1, 1), (1, 1), (10, 3), (1, 2)]


def test_fora_by_hand():
    """Four steps, n = 2, counted from the end: only the third reuses, with its own gate.

    step 1, x = 1, gate 1:  1 + 1 = 2, kept 1; 2 + 4 = 6, kept 4.
    step 2, x = 10, gate 3: 10 + 3 * 1 = 13; 13 + 3 * 4 = 25.
    step 3, x = 1, gate 2:  1 + 2 = 3; 3 + 2 * 6 = 15.
    """
    assert outputs("fora(n=2)", CALLS, [900, 600, 300, 0]) == [6, 6, 25, 15]


def test_fora_without_mlps_by_hand():
    """step 2: 13 as above; 13 + 3 * 26 = 91."""
    assert outputs("fora(n=2,mlp=false)", CALLS, [900, 600, 300, 0]) == [6, 6, 91, 15]


def test_fora_counts_from_the_last_step():
    full = [0, *range(1, 50, 3)]  # 49 - step is a multiple of 3
    expected = [step for step in range(50) if step not in full]
    assert steps("fora", IMAGE, "attn.spatial") == expected
    assert steps("fora", IMAGE, "mlp.spatial", layer=27) == expected
    assert steps("fora(n=1)", IMAGE, "attn.spatial") == []


def test_fora_with_a_window_counts_from_the_first_step():
    assert steps("fora(n=2,window=900-50)", PAIRS, "attn.temporal") == list(range(5, 47, 2))
    assert steps("fora(n=3,window=900-50)", PAIRS, "mlp.spatial")[:4] == [5, 7, 8, 10]


def test_pab_by_hand():
    """Reused as it was added, with the old gate.

    step 0 is outside the window; step 1 reuses 1 and computes 2 * 11, step 2 computes all.
    step 1, x = 10, gate 3: 10 + 1 = 11; 11 + 3 * 22 = 77.
    step 2, x = 1, gate 2:  3; 15; kept 2.
    step 3, x = 5, gate 1:  5 + 2 = 7; 7 + 14 = 21.
    """
    calls = [(1, 1), (10, 3), (1, 2), (5, 1)]
    spec = "pab(spatial=2,window=800-100,mlp=false)"
    assert outputs(spec, calls, [900, 700, 500, 300]) == [6, 77, 15, 21]


def test_pab_broadcasts_mlps_by_hand():
    """The key 700 is the second step; the third reuses its MLP, 2 * 2 * gate 1 = 4.

    step 2, x = 10, gate 3: attention computed, 10 + 30 = 40; 40 + 4 = 44.
    step 3, x = 1, gate 1:  computed, 6.
    """
    calls = [(1, 1), (1, 1), (10, 3), (1, 1)]
    spec = "pab(spatial=1,mlp_keys=720,mlp_steps=1)"
    assert outputs(spec, calls, [900, 700, 500, 300]) == [6, 6, 44, 6]


@pytest.mark.parametrize(
    ("spec", "counts"),
    [
        ("pab(cross=5)", (17, 23, 27)),
        ("pab(n=3)", (23, 26, 29)),
        ("pab(n=4)", (26, 28, 31)),
        ("pab(spatial=2,temporal=2,cross=2)", (17, 17, 17)),
    ],
)
def test_pab_reuses_as_often_as_videosys(spec, counts):
    """Counted by VideoSys' own manager: 50 steps, window 100 < t < 800."""
    kinds = ("attn.spatial", "attn.temporal", "attn.cross")
    assert tuple(len(steps(spec, VIDEO, kind)) for kind in kinds) == counts
    for kind in ("mlp.spatial", "mlp.temporal"):
        assert steps(spec, VIDEO, kind, layer=4) == [14, 15, 18, 19, 22, 23, 26, 27, 30, 31]
        assert steps(spec, VIDEO, kind, layer=5) == []


def test_pab_ranges():
    assert "spatial=2,temporal=3,cross=6" in str(parse_cache("pab").resolve(VIDEO))
    assert "spatial=2,temporal=3,window" in str(parse_cache("pab").resolve(PAIRS))
    assert "spatial=2,window" in str(parse_cache("pab").resolve(IMAGE))
    assert "spatial=4,temporal=6,cross=9" in str(parse_cache("pab(n=4)").resolve(VIDEO))
    assert "n=2,spatial=5,temporal=3" in str(parse_cache("pab(spatial=5)").resolve(PAIRS))


def test_pab_with_n_1_reuses_what_is_named_and_nothing_else():
    for kind in KINDS:
        assert steps("pab(n=1)", VIDEO, kind) == []
    assert steps("pab(n=1,cross=2)", VIDEO, "attn.cross") == list(range(11, 44, 2))
    assert steps("pab(n=1,cross=2)", VIDEO, "mlp.spatial") == []


def test_pab_of_table_1():
    spec = "pab(spatial=3,temporal=5,window=900-50,mlp=false)"
    assert (len(steps(spec, PAIRS, "attn.spatial")), len(steps(spec, PAIRS, "attn.temporal"))) == (
        28,
        33,
    )
    assert steps(spec, PAIRS, "mlp.spatial") == []


def test_a_key_is_the_first_step_at_or_below_it():
    spec = "pab(mlp_keys=720/640,mlp_steps=1)"
    assert steps(spec, IMAGE, "mlp.spatial", [981, 711, 651, 630, 20]) == [2, 4]
    assert steps(spec, IMAGE, "mlp.spatial", [981, 721, 700, 650, 640]) == [3]
    assert steps(spec, IMAGE, "mlp.spatial", [981, 800]) == []


@pytest.mark.parametrize(
    ("spec", "layout", "message"),
    [
        ("pab(cross=5)", PAIRS, "pab cross: latte has no cross attention; leave it out"),
        ("pab(temporal=5)", IMAGE, "pab temporal: dit has no temporal attention; leave it out"),
        (
            "t-gate",
            PAIRS,
            "t-gate needs attention to text and latte has none; take fora or pab, or a text model",
        ),
    ],
)
def test_refusals(spec, layout, message):
    with pytest.raises(UsageError) as caught:
        parse_cache(spec).resolve(layout)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "spec", ["fora(n=0)", "pab(spatial=0)", "pab(mlp_steps=0)", "t-gate(gate=0)", "t-gate(n=0)"]
)
def test_settings_without_meaning(spec):
    with pytest.raises(UsageError, match="1 or more"):
        parse_cache(spec)


def test_t_gate_of_the_authors():
    """25 steps: self-attention at 0, 1, 2, 5 and 9 before the gate, cross-attention up to 9."""
    times = range(960, -1, -40)
    assert steps("t-gate", VIDEO, "attn.spatial", times) == [3, 4, 6, 7, 8]
    assert steps("t-gate", VIDEO, "attn.temporal", times) == [3, 4, 6, 7, 8]
    assert steps("t-gate", VIDEO, "attn.cross", times) == list(range(10, 25))
    assert steps("t-gate(after=4)", VIDEO, "attn.spatial", times)[5:] == [
        *(10, 11, 13, 14, 15, 17, 18, 19, 21, 22, 23)
    ]
    assert steps("t-gate", VIDEO, "mlp.spatial", times) == []
    cache = parse_cache("t-gate").resolve(VIDEO)
    assert cache.halves(times, guided=True) == [BOTH] * 10 + [NULL] * 15
    assert cache.halves(times, guided=False) == [CONDITIONAL] * 25
    kept = parse_cache("t-gate(guidance=true)").resolve(VIDEO)
    assert kept.halves(times, guided=True) == [BOTH] * 25


def test_t_gate_of_the_paper_s_tables():
    video = "t-gate(n=2,gate=21,warmup=0,guidance=true,window=800-20)"
    assert steps(video, VIDEO, "attn.spatial") == [11, 13, 15, 17, 19]
    assert steps(video, VIDEO, "attn.cross") == list(range(21, 48))
    image, layout = video.replace("800-20", "1000-1,whole=true"), Layout("hunyuan_dit", 40, KINDS)
    times = range(981, 0, -20)
    odd = list(range(1, 20, 2))
    assert steps(image, layout, "mlp.spatial", times) == odd
    assert steps(image, layout, "attn.spatial", times) == odd
    assert steps(image, layout, "attn.cross", times) == [*odd, *range(21, 49)]


class Conditioned(nn.Module):
    """x -> x + cross(x), where cross is the condition times x."""

    SITES = {"attn.cross": "cross"}
    CHANNEL_DIM, GUIDED_CHANNELS = 1, 1

    class Cross(nn.Module):
        def forward(self, x, condition):
            return condition * x

    def __init__(self):
        super().__init__()
        self.cross = self.Cross()

    def forward(self, x, timestep, condition, return_dict):
        return (x + self.cross(x, condition),)

    def layout(self):
        return Layout("toy", 1, ("attn.cross",))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        # conditions 3 and 1, scale 2. step 0, x = 1: 4 and 2, guided 2 + 2 * (4 - 2) = 6.
        # Gated and dropped: the mean of 3 and 1 is added to x = 5, without guidance.
        ("t-gate(gate=1)", [6, 7]),
        # Gated and kept: 5 + 3 and 5 + 1, guided 6 + 2 * (8 - 6) = 10.
        ("t-gate(gate=1,guidance=true)", [6, 10]),
        # Computed: 20 and 10, guided 10 + 2 * 10 = 30.
        ("none", [6, 30]),
    ],
)
def test_t_gate_by_hand(spec, expected):
    inputs = [torch.full((2, 1), x) for x in (1.0, 5.0)]
    condition = torch.tensor([[3.0], [1.0]])
    model = Conditioned()
    cache = parse_cache(spec).resolve(model.layout())
    given = {"condition": condition}
    found = replay(model, cache, [500, 400], inputs, guidance=2.0, conditions=given)
    assert [out.flatten().tolist() for out in found] == [[value] * 2 for value in expected]


class Labelled(Conditioned):
    """As above, and ten times the condition is added where no cache is."""

    def forward(self, x, timestep, condition, return_dict):
        return (x + self.cross(x, condition) + 10 * condition,)


def test_t_gate_goes_on_with_the_null_half_by_hand():
    """Conditions 3 and 1, scale 2. step 0, x = 1: 1 + 3 + 30 = 34 and 12, guided 12 + 2 * 22 = 56.

    From the gate on, x = 5, only the null half runs: 5 + 2 (the mean of 3 and 1) + 10 = 17. The
    conditional one would give 37.
    """
    model, inputs = Labelled(), [torch.full((2, 1), x) for x in (1.0, 5.0)]
    cache = parse_cache("t-gate(gate=1)").resolve(model.layout())
    given = {"condition": torch.tensor([[3.0], [1.0]])}
    found = replay(model, cache, [500, 400], inputs, guidance=2.0, conditions=given)
    assert [out.flatten().tolist() for out in found] == [[56, 56], [17, 17]]
