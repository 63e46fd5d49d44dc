"""Which metrics can score what, and what is said of the others."""

import pytest

from skipdit_cli import registry
from skipdit_cli.checkpoints import catalog
from skipdit_cli.errors import UsageError
from skipdit_cli.score.applicable import check, to_model


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("digits", {"psnr", "ssim", "fid@digits", "accuracy@digits"}),
        ("moving-digits-skip", {"psnr", "ssim", "fvd@digits", "accuracy@digits"}),
        (
            "captioned-digits",
            {"psnr", "ssim", "fvd@digits", "accuracy@digits", "motion@digits"},
        ),
        ("painted-digits", {"psnr", "ssim", "fid@digits", "accuracy@digits"}),
        ("hunyuan-dit", {"psnr", "ssim"}),
    ],
)
def test_the_metrics_that_fit_a_model(model, expected):
    card = catalog.card(model)
    assert expected <= set(to_model(card))
    digits = {name for name in registry.names("metrics") if name.endswith("@digits")}
    assert set(to_model(card)) & digits == expected & digits
    for metric in digits - expected:
        with pytest.raises(UsageError) as caught:
            check(metric, card, place="HERE")
        assert str(caught.value) == (
            f"HERE: {metric} cannot score samples of {model}; "
            f"take one of {', '.join(to_model(card))}"
        )
    for metric in expected:
        check(metric, card)


def test_other_protocols_of_a_metric_are_left_out_unless_asked_for():
    plain, all_of_them = to_model(catalog.card("ffs")), to_model(catalog.card("ffs"), variants=True)
    assert set(all_of_them) - set(plain) == {
        *("psnr@videosys", "ssim@videosys", "lpips@videosys"),
        "fvd@latte",
    }
    assert "fid@frames" in plain  # there is no plain `fid` of clips
