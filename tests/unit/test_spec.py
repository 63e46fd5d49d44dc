"""What people write, read strictly: every mistake is one line with place, value and fix."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from skipdit_cli import registry
from skipdit_cli.cache import CacheSpec
from skipdit_cli.caches import skip_cache
from skipdit_cli.errors import UsageError
from skipdit_cli.sites import Layout, Site, whole_layers
from skipdit_cli.spec import parse_cache, parse_grid, parse_range, parse_window

LAYOUT = Layout("latte", 8, ("attn.spatial",), tuple((p, 7 - p) for p in range(4, 8)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", "none"),
        (" none ( ) ", "none"),
        ("skip-cache", "skip-cache(n=2)"),
        ("skip-cache(n=3)", "skip-cache(n=3)"),
        (" skip-cache ( n = 3 , window = 700-50 ) ", "skip-cache(n=3,window=700-50)"),
        ("skip-cache(window=700-50,n=3)", "skip-cache(n=3,window=700-50)"),
        ("skip-cache(n=3,)", "skip-cache(n=3)"),
        ("skip-cache(branch=2)", "skip-cache(n=2,branch=2)"),
    ],
)
def test_a_cache_is_written_back_canonically(text, expected):
    assert str(parse_cache(text)) == expected
    assert parse_cache(expected) == parse_cache(text)


def test_values_have_the_types_of_the_config():
    cache = parse_cache("skip-cache(n=3,window=700-50,branch=1)")
    assert cache == CacheSpec(cache.method, skip_cache.Config(3, (700, 50), 1))
    assert cache.method.module is skip_cache


def test_defaults_of_the_family_are_filled_in_and_one_s_own_are_kept():
    resolved = parse_cache("skip-cache(n=3)").resolve(LAYOUT)
    assert str(resolved) == "skip-cache(n=3,window=900-50,branch=1)"
    resolved = parse_cache("skip-cache(window=700-50)").resolve(LAYOUT)
    assert str(resolved) == "skip-cache(n=2,window=700-50,branch=1)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "row: cannot read cache ''; write name(key=value,...)"),
        ("skip-cache(n=2", "row: cannot read cache 'skip-cache(n=2'; write name(key=value,...)"),
        ("skip cache", "row: cannot read cache 'skip cache'; write name(key=value,...)"),
        ("skip-cahce(n=2)", "row: unknown cache 'skip-cahce'; did you mean 'skip-cache'?"),
        ("zzz", "row: unknown cache 'zzz'; known: none, skip-cache"),
        ("skip-cache(3)", "row: '3' in 'skip-cache(3)' is not key=value"),
        (
            "skip-cache(windo=7)",
            "row: unknown setting of skip-cache 'windo'; did you mean 'window'?",
        ),
        ("none(n=2)", "row: unknown setting of none 'n'; there are none"),
        ("skip-cache(n=two)", "row n: 'two' is not an integer"),
        ("skip-cache(n=2.5)", "row n: '2.5' is not an integer"),
        ("skip-cache(n=)", "row n: '' is not an integer"),
        ("skip-cache(n=0)", "row: n=0 is not an interval in 'skip-cache(n=0)'; n is 1 or more"),
        (
            "skip-cache(branch=0)",
            "row: branch=0 runs no layer in 'skip-cache(branch=0)'; branch is 1 or more",
        ),
        (
            "skip-cache(window=50-700)",
            "row window: window '50-700' must run from a higher to a lower timestep, 1000 at most; "
            "write 700-50",
        ),
        ("skip-cache(n=2,n=3)", "row: n is given twice in 'skip-cache(n=2,n=3)'"),
    ],
)
def test_mistakes_in_a_cache(monkeypatch, text, message):
    names = registry.names
    known = {"caches": ["none", "skip-cache"]}  # the messages list what there is
    monkeypatch.setattr(registry, "names", lambda kind: known.get(kind) or names(kind))
    with pytest.raises(UsageError) as caught:
        parse_cache(text, place="row")
    assert str(caught.value) == message
    assert caught.value.exit_code == 2


def test_without_a_place_the_text_itself_is_named():
    with pytest.raises(UsageError, match=r"^skip-cache\(n=two\) n: 'two' is not an integer$"):
        parse_cache("skip-cache(n=two)")


@dataclass(frozen=True)
class EveryType:
    count: int = 1
    share: float | None = None
    on: bool = False
    mode: str = "fast"
    window: tuple[int, int] | None = None


def test_every_type_a_config_may_have(monkeypatch):
    monkeypatch.setattr(
        registry, "load", lambda *_, **__: SimpleNamespace(name="any", Config=EveryType)
    )
    text = "any(count=2,share=0.5,on=true,mode=slow,window=9-1)"
    cache = parse_cache(text.replace("true", "TRUE"))
    assert cache.config == EveryType(2, 0.5, True, "slow", (9, 1))
    assert str(cache) == text
    assert str(parse_cache("any")) == "any(count=1,on=false,mode=fast)"
    with pytest.raises(UsageError, match=r"^here share: 'half' is not a number$"):
        parse_cache("any(share=half)", place="here")
    with pytest.raises(UsageError, match=r"^here on: '1' is not true or false$"):
        parse_cache("any(on=1)", place="here")


def test_a_grid_crosses_the_values_of_every_key():
    found = parse_grid("skip-cache(n=2..3,window=700-50|1000-0,branch=1|2)")
    assert [str(cache) for cache in found] == [
        "skip-cache(n=2,window=700-50,branch=1)",
        "skip-cache(n=2,window=700-50,branch=2)",
        "skip-cache(n=2,window=1000-0,branch=1)",
        "skip-cache(n=2,window=1000-0,branch=2)",
        "skip-cache(n=3,window=700-50,branch=1)",
        "skip-cache(n=3,window=700-50,branch=2)",
        "skip-cache(n=3,window=1000-0,branch=1)",
        "skip-cache(n=3,window=1000-0,branch=2)",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fora", ["fora(n=3,mlp=true)"]),
        ("fora(n=2|6..7)", [f"fora(n={n},mlp=true)" for n in (2, 6, 7)]),
        ("fora( n = 2 | 2..3 | 3 )", ["fora(n=2,mlp=true)", "fora(n=3,mlp=true)"]),
        ("fora(mlp=true|false)", ["fora(n=3,mlp=true)", "fora(n=3,mlp=false)"]),
        (
            "first-block(threshold=0.1|0.10|2e-1)",
            [f"first-block(threshold={t})" for t in (0.1, 0.2)],
        ),
        (
            "faster-diffusion(keys=0/5|0/5/9)",
            ["faster-diffusion(keys=0/5)", "faster-diffusion(keys=0/5/9)"],
        ),
        (
            "delta-dit(part=front|rear,layers=1..1)",
            [f"delta-dit(n=2,part={part},layers=1,boundary=400)" for part in ("front", "rear")],
        ),
    ],
)
def test_every_type_of_a_setting_can_have_several_values_and_each_counts_once(text, expected):
    assert [str(cache) for cache in parse_grid(text)] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fora(n=4..2)", "--cache n: range '4..2' runs backwards; write 2..4"),
        ("fora(n=2...4)", "--cache n: cannot read range '2...4'; write 4, 2..6 or 2,4,6"),
        ("fora(n=2|two)", "--cache n: 'two' is not an integer"),
        ("fora(n=2|)", "--cache n: an alternative of '2|' is empty"),
        ("delta-dit(part=|front)", "--cache part: an alternative of '|front' is empty"),
        ("fora(n=0..2)", "--cache: n=0 is not an interval in 'fora(n=0..2)'; n is 1 or more"),
        ("fora(n=1..99999)", "--cache n: range '1..99999' is too long"),
        (
            "first-block(threshold=0.1..0.2)",
            "--cache threshold: '0.1..0.2' is not a number",
        ),
        (
            "skip-cache(n=1..9999,branch=1..9999)",
            "--cache: 'skip-cache(n=1..9999,branch=1..9999)' is 99980001 caches, and 1000 is the "
            "most; take fewer values",
        ),
    ],
)
def test_mistakes_in_a_grid(text, message):
    with pytest.raises(UsageError) as caught:
        parse_grid(text, place="--cache")
    assert str(caught.value) == message


def test_the_most_caches_that_a_grid_has():
    assert len(parse_grid("skip-cache(n=1..100,branch=1..10)")) == 1000
    with pytest.raises(UsageError, match="is 1010 caches"):
        parse_grid("skip-cache(n=1..101,branch=1..10)")


def test_where_one_cache_is_wanted_a_grid_is_refused():
    assert parse_cache("fora(n=2|2..2)") == parse_cache("fora(n=2)")
    with pytest.raises(UsageError) as caught:
        parse_cache("fora(n=2..4)", place="row")
    assert str(caught.value) == (
        "row: 'fora(n=2..4)' is 3 caches, and one is wanted; take one of them, as fora(n=2)"
    )


def test_the_brief_form_leaves_out_what_is_the_default():
    assert parse_cache("fora(n=3,mlp=false,window=9-1)").brief == "fora(window=9-1,mlp=false)"
    assert parse_cache("fora").brief == "fora"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("4", [4]),
        ("2..6", [2, 3, 4, 5, 6]),
        ("3..3", [3]),
        (" 2 .. 4 ", [2, 3, 4]),
        ("2,4,6", [2, 4, 6]),
        ("6,2..3", [6, 2, 3]),
    ],
)
def test_ranges(text, values):
    assert parse_range(text) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2..10000000000", "--n: range '2..10000000000' is too long"),
        ("6..2", "--n: range '6..2' runs backwards; write 2..6"),
        ("2,6..4", "--n: range '6..4' runs backwards; write 4..6"),
        ("", "--n: cannot read range ''; write 4, 2..6 or 2,4,6"),
        ("2,", "--n: cannot read range '2,'; write 4, 2..6 or 2,4,6"),
        ("2-6", "--n: cannot read range '2-6'; write 4, 2..6 or 2,4,6"),
        ("-2", "--n: cannot read range '-2'; write 4, 2..6 or 2,4,6"),
        ("2...6", "--n: cannot read range '2...6'; write 4, 2..6 or 2,4,6"),
        ("two", "--n: cannot read range 'two'; write 4, 2..6 or 2,4,6"),
    ],
)
def test_mistakes_in_a_range(text, message):
    with pytest.raises(UsageError) as caught:
        parse_range(text, place="--n")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "window"), [("700-50", (700, 50)), (" 1000 - 0 ", (1000, 0)), ("2-1", (2, 1))]
)
def test_windows(text, window):
    assert parse_window(text) == window


HIGHER = "must run from a higher to a lower timestep, 1000 at most"
COUNTED = "timesteps are counted down from 1000 to 0, as in 700-50"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("50-700", f"window '50-700' {HIGHER}; write 700-50"),
        ("700-700", f"window '700-700' {HIGHER}; {COUNTED}"),
        ("1001-50", f"window '1001-50' {HIGHER}; {COUNTED}"),
        ("50-1001", f"window '50-1001' {HIGHER}; {COUNTED}"),
        ("700", "cannot read window '700'; write start-stop, as in 700-50, or 90%-10%"),
        ("700..50", "cannot read window '700..50'; write start-stop, as in 700-50, or 90%-10%"),
        ("700-", "cannot read window '700-'; write start-stop, as in 700-50, or 90%-10%"),
        ("700--50", "cannot read window '700--50'; write start-stop, as in 700-50, or 90%-10%"),
    ],
)
def test_mistakes_in_a_window(text, message):
    with pytest.raises(UsageError) as caught:
        parse_window(text, place="--window")
    assert str(caught.value) == f"--window: {message}"


def test_sites_are_written_as_kind_and_layer():
    assert str(Site("attn.spatial", 3)) == "attn.spatial[3]"


def test_a_whole_layer_is_the_layer_and_what_is_inside():
    expected = {Site(kind, i) for kind in ("layer", "attn.spatial") for i in (0, 2)}
    assert whole_layers(LAYOUT, [0, 2]) == expected


@pytest.mark.parametrize("text", ["1_000", "٣", "²", "9" * 5000, "2..1_0", ""])
def test_a_range_is_of_numbers_that_people_write(text):
    with pytest.raises(UsageError, match="cannot read range"):
        parse_range(text)


@pytest.mark.parametrize("value", ["1_0", "٣", "9" * 5000, "²"])
def test_settings_are_numbers_that_people_write(value):
    with pytest.raises(UsageError, match="is not an integer"):
        parse_cache(f"fora(n={value})")


@pytest.mark.parametrize("value", ["1_0.5", "nan", "inf", "1e999", "٣.5", "9" * 5000])
def test_numbers_are_finite(value):
    with pytest.raises(UsageError, match="is not a number"):
        parse_cache(f"first-block(threshold={value})")


def test_a_window_in_shares_of_the_steps():
    """Of 10 steps, 100, 90, ... 10 percent are left: both ends are outside, as in timesteps."""
    layout = Layout("a", 2, ("mlp.spatial",))
    spec = parse_cache("fora(n=2,window=80%-30%)")
    assert str(spec) == "fora(n=2,window=80%-30%,mlp=true)"
    cache = spec.resolve(layout)
    assert cache.span == "80%-30%"
    times = [1000, 999, 990, 900, 800, 500, 300, 40, 9, 2]  # however they are spaced
    reused = [bool(sites) for sites in cache.reused(times, guided=False)]
    assert reused == [False, False, False, True, False, True, False, False, False, False]
    assert cache.at(times).window == (990, 40)
    assert parse_cache("fora(window=100%-0%)").resolve(layout).at(times).window == (1000, -1)
    plain = parse_cache("fora(window=80-30)").resolve(layout)
    assert plain != cache
    assert plain.at(times) is plain


@pytest.mark.parametrize("text", ["90%-10", "90-10%", "10%-90%", "101%-10%", "%-%"])
def test_no_window_in_shares(text):
    with pytest.raises(UsageError, match=text):
        parse_window(text)
