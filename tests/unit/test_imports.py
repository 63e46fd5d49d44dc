"""Who may import whom, read from the sources: nothing flows back, and nothing heavy loads early."""

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import skipdit_cli

ROOT = Path(skipdit_cli.__file__).parent
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
PLUGINS = ("models", "caches", "samplers", "metrics")
FOUNDATION = {"_disk", "errors", "registry", "shipped", "sites", "spec"}

# Imports from a plugin folder beyond the foundation, each with its reason.
PLUGIN_EXCEPTIONS = {
    ("metrics", "embedded"): "the @digits metrics look with the embedded classifier",
}
# Modules that may import files of a plugin folder by name; everyone else goes through the registry.
KNOWN_USERS = {
    "models": {},
    "caches": {},
    "samplers": {
        "run": "the timesteps that a cache decides on before sampling starts",
        "plan": "the same timesteps, to count full and cached steps",
        "settings": "whether a respacing string can be read",
        "train.loss": "the noise schedule that a model is trained on",
    },
    "metrics": {
        "train.classifier": "reference statistics of the features metrics compare with",
        "reference": "statistics of real images, by the metrics' own arithmetic",
        "real_clips": "features and statistics of real clips, by the metrics' own networks",
        "real_videos": "frames of real videos are cut and resized as the metrics do it",
    },
}
# The two places where networks and measurements are put to use, and who may ask them to.
WHO_RUNS = {
    "hooks": {"run"},
    "run": {"timing", "sweep", "analyze.calibrate"},
    "measure": {"score.evaluate", "sweep"},
    "engine": {"run"},
    "conditions": {"run", "sweep", "analyze.calibrate"},
    "text": {"conditions", "train.loop", "train.text"},
}
HEAVY = {
    *("torch", "diffusers", "transformers", "tokenizers", "sentencepiece", "huggingface_hub"),
    *("pandas", "matplotlib", "skimage", "scipy", "sklearn"),
    *("torchvision", "torchmetrics", "lpips", "torch_fidelity"),
}
HEAVY_ALLOWED = ("models", "samplers", "profiling", "train", "analyze")
HEAVY_ALLOWED_FILES = {"hooks", "run", "rng", "embedded.classifier", "metrics._clip"}


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(node, *, inside_functions):
    """Full names that the code imports when it runs; not what only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif is_type_checking(child):
            otherwise = ast.Module(child.orelse, [])
            yield from imports(otherwise, inside_functions=inside_functions)
        elif inside_functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports(child, inside_functions=inside_functions)


@cache
def tree(module):
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


@cache
def ours(module):
    """The modules of this package that a module imports, now or in a function."""
    found = set()
    for name in imports(tree(module), inside_functions=True):
        head, _, rest = name.partition(".")
        if head == "skipdit_cli":
            known = rest if rest in FILES else rest.rpartition(".")[0]
            found.add(known if known in FILES else "")
    return found - {module, ""}


def top(module):
    return module.partition(".")[0]


def test_the_reader_sees_what_there_is():
    """On sources of its own, so that the rules below cannot pass by seeing nothing."""
    source = ast.parse(
        "import torch.nn\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from skipdit_cli import plan\nelse:\n    import numpy\n"
        "try:\n    from skipdit_cli.run import replay\nexcept ImportError:\n    pass\n"
        "class A:\n    import scipy\n    def f(self):\n        import pandas as pd\n"
    )
    early = {"torch.nn", "typing.TYPE_CHECKING", "numpy", "skipdit_cli.run.replay", "scipy"}
    assert set(imports(source, inside_functions=False)) == early
    assert set(imports(source, inside_functions=True)) == early | {"pandas"}
    assert {"errors", "run", "models.dit", "models._layers", "cli", "weights"} <= set(FILES)
    assert ours("models.dit") == {"models._layers", "sites"}
    assert {"hooks", "engine", "store", "samplers._schedule"} <= ours("run")
    assert "plan" not in ours("run")  # for type checkers only


@pytest.mark.parametrize("module", [m for m in FILES if top(m) in PLUGINS])
def test_a_plugin_imports_the_foundation_and_its_shared_files_only(module):
    folder = top(module)
    own = ".".join(module.split(".")[:2])  # a package's files import one another
    allowed = FOUNDATION | {folder} | {m for m in FILES if f"{m}.".startswith(f"{own}.")}
    allowed |= {m for m in FILES if m.startswith(f"{folder}._")}
    allowed |= {m for m in FILES if (folder, top(m)) in PLUGIN_EXCEPTIONS}
    assert ours(module) <= allowed


@pytest.mark.parametrize("module", sorted(FOUNDATION))
def test_the_foundation_imports_itself_only(module):
    assert ours(module) <= FOUNDATION
    assert not ours("errors")
    assert ours("sites") == {"errors"}


@pytest.mark.parametrize("folder", PLUGINS)
def test_plugins_are_reached_through_the_registry(folder):
    """The folder's own `__init__` is its contract, which everyone may name."""
    files = {m for m in FILES if m.startswith(f"{folder}.")}
    users = {m for m in FILES if top(m) != folder and ours(m) & files}
    assert users == set(KNOWN_USERS[folder])


@pytest.mark.parametrize("module", WHO_RUNS)
def test_only_a_few_ask_for_work(module):
    assert {m for m in FILES if module in ours(m)} <= WHO_RUNS[module]


def reachable(module):
    found, left = set(), [module]
    while left:
        current = left.pop()
        if current not in found:
            found.add(current)
            left += ours(current)
    return found


@pytest.mark.parametrize("module", [m for m in FILES if top(m) == "report"])
def test_a_report_computes_nothing_new(module):
    assert not reachable(module) & {"run", "measure", "hooks", "engine", "sweep", "timing"}


@pytest.mark.parametrize("module", [m for m in FILES if top(m) != "cli" and m != "__main__"])
def test_nothing_imports_the_command_line(module):
    assert not {m for m in ours(module) if top(m) == "cli"}


def may_be_heavy(module):
    return top(module) in HEAVY_ALLOWED or module in HEAVY_ALLOWED_FILES


@pytest.mark.parametrize("module", [m for m in FILES if not may_be_heavy(m)])
def test_heavy_packages_are_imported_where_they_are_needed(module):
    early = {top(name) for name in imports(tree(module), inside_functions=False)}
    assert not early & HEAVY


def test_importing_every_light_module_loads_no_heavy_package():
    light = [f"skipdit_cli.{m}".rstrip(".") for m in FILES if not may_be_heavy(m)]
    light = [m for m in light if not m.endswith("__main__")]
    assert len(light) > 30
    code = (
        "import importlib, json, sys\n"
        f"for name in {light!r}: importlib.import_module(name)\n"
        f"print(json.dumps(sorted(set(sys.modules) & {HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == []


# A command's file bears the command's name, and is never imported as a top-level module.
LIKE_THE_STANDARD_LIBRARY = {"cli.profile"}


def test_file_names():
    names = {module: module.rpartition(".")[2] for module in FILES}
    assert "utils" not in names.values()
    named_alike = {m for m, name in names.items() if name in sys.stdlib_module_names}
    assert named_alike - {"__main__"} == LIKE_THE_STANDARD_LIBRARY
