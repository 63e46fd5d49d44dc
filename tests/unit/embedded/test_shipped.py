"""Data that ship are found in a checkout and in an installed wheel, whatever lies beside it."""

import shutil
import subprocess
import sys
import tomllib

import pytest

from skipdit_cli.embedded import shipped

CHECKOUT = shipped.PACKAGE.parent


def test_a_checkout():
    assert shipped.recipes() == CHECKOUT / "recipes"
    assert shipped.published() == CHECKOUT / "results" / "published"
    assert shipped.embedded() == CHECKOUT / "skipdit_cli" / "embedded"
    assert shipped.vbench_pins() == CHECKOUT / "constraints-vbench.txt"
    assert shipped.vbench_pins().is_file()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The package as a wheel lays it out, with foreign folders of the checkout's names beside."""
    site = tmp_path_factory.mktemp("site-packages")
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(shipped.PACKAGE, site / "skipdit_cli", ignore=without)
    shutil.copytree(CHECKOUT / "recipes", site / "skipdit_cli" / "recipes_data")
    shutil.copytree(CHECKOUT / "results" / "published", site / "skipdit_cli" / "published_data")
    pins = site / "skipdit_cli" / "vbench_data" / "constraints-vbench.txt"
    pins.parent.mkdir()
    shutil.copyfile(CHECKOUT / pins.name, pins)
    for foreign in ("recipes/data", "results/published"):
        (site / foreign).mkdir(parents=True)
    (site / "recipes" / "smoke.yaml").write_text("title: another one's\n")
    return site


def test_a_wheel(wheel):
    code = """
from skipdit_cli.recipe import calibration
from skipdit_cli.recipe import prompts
from skipdit_cli.recipe import published
from skipdit_cli.recipe import recipe
from skipdit_cli.embedded import shipped
from skipdit_cli.checkpoints import catalog
from skipdit_cli.checkpoints import local
from skipdit_cli.metrics.vbench import table
print(*(path().relative_to(shipped.PACKAGE.parent)
        for path in (shipped.recipes, shipped.published, shipped.embedded)), sep="\\n")
print(recipe.load_recipe("table1").title)
print(len(prompts.read_prompts("vbench").texts), len(table.all_prompts()))
print(published.numbers("table1", {"method": "Latte"})["flops_t"])
card = catalog.card("digits")
for path in (local.locate(card), *calibration.files(card, "teacache*")):
    print(path.relative_to(shipped.PACKAGE))
pins = shipped.vbench_pins()
print(pins.relative_to(shipped.PACKAGE), pins.is_file())
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=wheel, env={"PYTHONPATH": str(wheel)}, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "skipdit_cli/recipes_data",
        "skipdit_cli/published_data",
        "skipdit_cli/embedded",
        "Table 1: class-to-video generation with caching",
        "944 944",
        "278.63",
        "embedded/digits/diffusion_pytorch_model.safetensors",
        "embedded/digits/teacache-ddim-50.json",
        "vbench_data/constraints-vbench.txt True",
    ]


def test_the_wheel_that_is_built_has_this_layout():
    with (CHECKOUT / "pyproject.toml").open("rb") as file:
        built = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert built["force-include"] == {
        "recipes": "skipdit_cli/recipes_data",
        "results/published": "skipdit_cli/published_data",
        "constraints-vbench.txt": "skipdit_cli/vbench_data/constraints-vbench.txt",
    }
