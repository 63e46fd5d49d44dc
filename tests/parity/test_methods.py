"""Every caching method against its authors' rule, written down as the steps it computes.

The numbers were worked out by reading the code that the comments name, for 50 steps at timesteps
980, 960, ..., 0, with the constants of that code. A method that decides while it runs is given
changes that were made up, and its decisions are worked out beside them.
"""

import pytest
import torch
from torch import nn

from skipdit_cli import registry
from skipdit_cli.generate.hooks import attached
from skipdit_cli.sites import BOTH, CONDITIONAL, NULL, Layout
from skipdit_cli.spec import parse_cache

TIMESTEPS = range(980, -1, -20)
EVERY = list(range(50))
DIT = Layout("dit", 12, ("attn.spatial", "mlp.spatial"))
LATTE = Layout(
    "latte_t2v",
    12,
    ("attn.spatial", "attn.temporal", "attn.cross", "mlp.spatial", "mlp.temporal"),
    tuple((to, 11 - to) for to in range(6, 12)),
)
SPATIAL, TEMPORAL, CROSS, MLP = "attn.spatial", "attn.temporal", "attn.cross", "mlp.spatial"

# Per method: a spec, the model's layout, and for (kind of site, layer) the steps that compute it.
SCHEDULES = {
    # prathebaselva/FORA acde628, src/models.py, DiTBlock.forward: the step counts down from 49 to
    # 0 and is full where it is 49 or divisible by the threshold, which the README sets to 3.
    "fora": ("fora", DIT, {(kind, 0): [0, *range(1, 50, 3)] for kind in (SPATIAL, MLP)}),
    # arXiv 2406.01125, section 4 (no code): every second step is full; the others leave out rear
    # blocks while the timestep is above the boundary, and front blocks from there on. Timestep 400
    # is step 29.
    "delta-dit": (
        "delta-dit(n=2,layers=4,boundary=400)",
        DIT,
        {
            ("layer", 11): [*range(0, 28, 2), *range(28, 50)],
            ("layer", 3): [*range(29), *range(30, 50, 2)],
            ("layer", 5): EVERY,
        },
    ),
    # NUS-HPC-AI-Lab/VideoSys 4cce477, core/pab/pab_mgr.py, with LattePABConfig: ranges 2, 3 and 6
    # between timesteps 100 and 800, which are steps 10 to 43; the MLPs of blocks 0 to 4 computed at
    # timesteps 720, 640, 560, 480 and 400 (steps 13, 17, 21, 25, 29) serve the two steps after.
    "pab": (
        "pab",
        LATTE,
        {
            (SPATIAL, 0): [*range(10), *range(10, 44, 2), *range(44, 50)],
            (TEMPORAL, 11): [*range(10), *range(12, 44, 3), *range(44, 50)],
            (CROSS, 5): [*range(10), *range(12, 44, 6), *range(44, 50)],
            (MLP, 4): [*range(14), 16, 17, 20, 21, 24, 25, 28, 29, *range(32, 50)],
            (MLP, 5): EVERY,
        },
    ),
    # HaozheLiu-ST/T-GATE ab2a88f, tgate/tgate_utils.py, tgate_scheduler: gate 10, self-attention
    # every 5 steps after a warm-up of 2, and at every step from the gate on.
    "t-gate": (
        "t-gate",
        LATTE,
        {
            (SPATIAL, 0): [0, 1, 2, 5, *range(9, 50)],
            (TEMPORAL, 0): [0, 1, 2, 5, *range(9, 50)],
            (CROSS, 0): list(range(10)),
            (MLP, 0): EVERY,
        },
    ),
    # hutaiHang/Faster-Diffusion d64bfed, utils_sd.py: key steps of 50; the decoder always runs.
    "faster-diffusion": (
        "faster-diffusion",
        DIT,
        {("layer", 5): [0, 1, 2, 3, 5, 10, 15, 25, 35], ("layer", 6): EVERY},
    ),
    # This package's own: full steps are those that were calibrated, the outer layers always run.
    "dp-cache": (
        "dp-cache(full=3,branch=2,steps=0/7/30,coefficients=0/0/0/0/0/0)",
        LATTE,
        {(SPATIAL, 2): [0, 7, 30], (MLP, 9): [0, 7, 30], (CROSS, 1): EVERY, ("layer", 10): EVERY},
    ),
    # OpenSparseLLMs/Skip-DiT 72609de, LatteT2V_skip_cache, N2-700-50: timesteps from 700 on are
    # full (steps 0 to 14), then every second step up to the first at or below 50 (step 47), then
    # all again. test_schedules.py has every family, interval and window.
    "skip-cache": (
        "skip-cache(n=2,window=700-50)",
        LATTE,
        {
            ("layer", 5): [*range(15), *range(16, 48, 2), 48, 49],
            ("layer", 0): EVERY,
            ("layer", 11): EVERY,
        },
    ),
    # Shenyi-Z/TaylorSeer 288776d, TaylorSeer-DiT/cache_functions/cal_type.py: the step counts down
    # from 49; those above 47 are full (first_enhance is 2), and then every interval-th.
    "taylorseer": (
        "taylorseer(n=5)",
        DIT,
        {(kind, 0): [0, 1, 6, 11, 16, 21, 26, 31, 36, 41, 46] for kind in (SPATIAL, MLP)},
    ),
    # huggingface/diffusers 0.42, hooks/faster_cache.py, after Vchitect/FasterCache: from the first
    # timestep below 641 (step 17) on, the null half is there at every fifth step only, and on the
    # steps without it self-attention is computed at every second one.
    "faster-cache": (
        "faster-cache",
        LATTE,
        {
            (SPATIAL, 0): [
                *(*range(17), 18, 20, 22, 24, 25, 26, 28, 30, 32, 34, 35),
                *(36, 38, 40, 42, 44, 45, 46, 48),
            ],
            (CROSS, 0): EVERY,
        },
    ),
    # Zehong-Ma/MagCache 1a66b6d, MagCache4FLUX/magcache_flux.py, magcache_forward: 0.2 of the steps
    # are full, then steps are left out while the sum of |1 - product of ratios| is at most 0.06, 3
    # in a row at most. Here on 10 steps:
    #   2: |1 - 0.98| = 0.02                     3: product 0.9506, sum 0.0694, full
    #   4: 0.01   5: 0.9801, sum 0.0299   6: 0.999702, sum 0.030198   7: the fourth in a row, full
    #   8: 0      9: 0.05
    "mag-cache": (
        "mag-cache(threshold=0.06,max_skip=3,retention=0.2,"
        "ratios=1/1/0.98/0.97/0.99/0.99/1.02/1/1/0.95)",
        DIT,
        {("layer", 0): [0, 1, 3, 7], ("layer", 11): [0, 1, 3, 7]},
    ),
}
# Where a method leaves out half of guidance: the steps that compute both halves, and else which.
HALVES = {
    "t-gate": (list(range(10)), NULL),  # the null half alone, from the gate on
    "faster-cache": ([*range(17), 20, 25, 30, 35, 40, 45], CONDITIONAL),
}
# Of three, test_adacache.py, test_dbcache.py and test_seacache.py have the authors' code beside.
DECIDING = ("adacache", "dbcache", "first-block", "seacache", "teacache")


def test_every_method_has_its_rule_here():
    assert {*SCHEDULES, *DECIDING, "none"} == set(registry.names("caches"))


@pytest.mark.parametrize("method", SCHEDULES)
def test_the_steps_that_compute_a_site(method):
    spec, layout, expected = SCHEDULES[method]
    timesteps = TIMESTEPS[:10] if method == "mag-cache" else TIMESTEPS
    per_step = parse_cache(spec).resolve(layout).reused(timesteps, guided=True)
    for site, steps in expected.items():
        assert [step for step, sites in enumerate(per_step) if site not in sites] == steps, site


@pytest.mark.parametrize("method", SCHEDULES)
def test_the_halves_of_guidance(method):
    spec, layout, _ = SCHEDULES[method]
    both, other = HALVES.get(method, (EVERY, ""))
    halves = parse_cache(spec).resolve(layout).halves(TIMESTEPS, guided=True)
    assert [step for step, half in enumerate(halves) if half == BOTH] == both
    assert {half for half in halves if half != BOTH} == ({other} if other else set())


def test_diffusers_schedule_of_taylorseer():
    """huggingface/diffusers 0.42, hooks/taylorseer_cache.py: three steps, one not, then every fifth
    from there on.
    """
    cache = parse_cache("taylorseer(schedule=diffusers)").resolve(DIT)
    per_step = cache.reused(TIMESTEPS, guided=False)
    full = [step for step, sites in enumerate(per_step) if not sites]
    assert full == [0, 1, 2, 4, 9, 14, 19, 24, 29, 34, 39, 44, 49]


class Attention(nn.Module):
    def forward(self, x):
        return x


class Layer(nn.Module):
    """Adds to its input what its attention gives, which is the input."""

    def __init__(self):
        super().__init__()
        self.attn = Attention()

    def forward(self, x):
        return x + self.attn(x)


class Toy(nn.Module):
    """Two layers; what enters, and what the first one adds, changes as the input does."""

    SITES = {"layer": "layers.{i}", "attn.spatial": "layers.{i}.attn"}

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Layer(), Layer()])

    def forward(self, x):
        return self.layers[1](self.layers[0](x))

    def layout(self):
        return Layout("toy", 2, ("attn.spatial",))


def full_steps(spec, inputs):
    """The steps at which a method that decides while it runs skips nothing."""
    model = Toy()
    with attached(model, parse_cache(spec).resolve(model.layout()), range(len(inputs))) as session:
        for step, x in enumerate(inputs):
            session.begin(step)
            model(torch.tensor([x], dtype=torch.float64))
        return [step for step, sites in enumerate(session.reused) if not sites]


def changing(*changes):
    """Inputs whose relative changes from step to step these are."""
    found = [1.0]
    for change in changes:
        found.append(found[-1] * (1 + change))
    return found


def test_teacache_by_its_authors_rule():
    """ali-vilab/TeaCache 7c10efc, eval/teacache/experiments/latte.py, teacache_forward.

    With Latte's coefficients and threshold 0.1. The polynomial is 0.1303 at a change of 0.05,
    0.0666 at 0.03, and 0.0631 at 0.02; the first and last step are full.

        step  change    sum           step  change    sum
        1     0.03      0.0666        5     0.02      0.1262, full
        2     0.02      0.1297, full  6     0.03      0.0666
        3     0.05      0.1303, full  7     0.001     0.1736, full
        4     0.02      0.0631        8     0.001     the last one, full
    """
    latte = "-2464.34137/308.044764/80.7447667/-4.11385132/0.111001402"
    inputs = changing(0.03, 0.02, 0.05, 0.02, 0.02, 0.03, 0.001, 0.001)
    found = full_steps(f"teacache(threshold=0.1,coefficients={latte})", inputs)
    assert found == [0, 2, 3, 5, 7, 8]


def test_teacache_takes_a_negative_change_for_what_it_is():
    """TeaCache4Mochi/teacache_mochi.py, the same rule: its polynomial falls below zero at 0.15.

    0.0514 at 0.05, then 0.0965 at 0.1: full at step 2, with a threshold of 0.06. A change of 0.22
    is -2.0, and what follows, 0.0965 each, does not make up for it before the last step.
    """
    mochi = "-3512.41319/811.675948/-60.9400215/2.42429681/0.00305291719"
    inputs = changing(0.05, 0.1, 0.22, 0.1, 0.1, 0.1, 0.1, 0.1)
    found = full_steps(f"teacache(threshold=0.06,coefficients={mochi})", inputs)
    assert found == [0, 2, 8]


def test_first_block_by_its_authors_rule():
    """huggingface/diffusers 0.42, hooks/first_block_cache.py, FBCHeadBlockHook.

    What the first layer adds is compared with what it added on the last full step, at a threshold
    of 0.05; the last step is no exception.

        step  added  against  change         step  added  against  change
        1     1.04   1        0.04           4     1.11   1.06     0.0472
        2     1.06   1        0.06, full     5     1.00   1.06     0.0566, full
        3     1.10   1.06     0.0377         6     1.02   1.00     0.02
    """
    inputs = [1.0, 1.04, 1.06, 1.10, 1.11, 1.00, 1.02]
    assert full_steps("first-block(threshold=0.05)", inputs) == [0, 2, 5]


def test_dbcache_by_its_authors_rule():
    """vipshop/cache-dit 1.5.3, caching/cache_contexts/cache_manager.py, can_cache and similarity.

    As above, but the change has to be below the threshold, 0.08; three steps of warm-up, and no
    more than two cached ones in a row. test_dbcache.py runs their code.

        step  added  against  change               step  added  against  change
        1     1.00   1        0, warm-up           5     1.11   1.00     third in a row, full
        2     1.00   1        0, warm-up           6     1.19   1.11     0.0721
        3     1.04   1.00     0.04                 7     1.02   1.11     0.0811, full
        4     1.06   1.00     0.06                 8     1.02   1.02     0
    """
    inputs = [1.0, 1.0, 1.0, 1.04, 1.06, 1.11, 1.19, 1.02, 1.02]
    spec = "dbcache(Fn_compute_blocks=1,max_warmup_steps=3,max_continuous_cached_steps=2)"
    assert full_steps(spec, inputs) == [0, 1, 2, 5, 7]
