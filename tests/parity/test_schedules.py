"""Full and cached steps of Skip-Cache against those of the official classes, every family.

`golden/schedules.json`: per family and list of timesteps, the indices of the steps at which the
official class ran every block (OpenSparseLLMs/Skip-DiT 72609de, observed with hooks).
"""

import json
from pathlib import Path

import pytest

from skipdit_cli.sites import Layout, Site
from skipdit_cli.spec import parse_cache

SCHEDULES = json.loads((Path(__file__).parent / "golden" / "schedules.json").read_text())
# The family as its model announces it, layers, and the layers at each end that always run.
FAMILIES = {
    "c2i": ("dit", 28, 4),
    "c2v": ("latte", 14, 1),
    "t2v": ("latte_t2v", 28, 1),
    "t2i": ("hunyuan_dit", 40, 1),
}
ENTRIES = [
    (family, name, run)
    for family, lists in SCHEDULES.items()
    for name, content in lists.items()
    for run in content["runs"]
]


def layout_of(family):
    name, layers, _ = FAMILIES[family]
    skips = tuple((to, layers - 1 - to) for to in range(layers // 2, layers))
    return Layout(name, layers, ("attn.spatial", "mlp.spatial"), skips)


def spec_of(run):
    """`N3` is what the family does unless told otherwise, `N3-700-50` names its window."""
    n, *window = run.removeprefix("N").split("-")
    return f"skip-cache(n={n},window={'-'.join(window)})" if window else f"skip-cache(n={n})"


def test_all_entries_are_there():
    assert len(ENTRIES) == 110


@pytest.mark.parametrize(("family", "timesteps", "run"), ENTRIES)
def test_full_steps(family, timesteps, run):
    content = SCHEDULES[family][timesteps]
    entry, layout = content["runs"][run], layout_of(family)
    cache = parse_cache(spec_of(run)).resolve(layout)
    assert list(cache.window) == entry["window"]
    reused = cache.reused(content["timesteps"], guided=False)
    assert len(reused) == len(content["timesteps"])
    assert [i for i, sites in enumerate(reused) if not sites] == entry["full"]

    outer, layers = FAMILIES[family][2], FAMILIES[family][1]
    middle = {
        Site(kind, layer)
        for layer in range(outer, layers - outer)
        for kind in ("layer", *layout.kinds)
    }
    assert {sites for sites in reused if sites} == {frozenset(middle)}
