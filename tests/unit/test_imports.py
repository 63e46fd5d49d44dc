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
# The ground: words that every room uses. The contracts lie in the folders that keep them.
GROUND = {
    *("errors", "contract", "registry", "sites", "cache", "spec", "run", "precision"),
    "_torchvision",
    *PLUGINS,
    "checkpoints.card",  # what a Run holds of a checkpoint
    "checkpoints.traced",  # and of a pipeline's call
    "embedded.shipped",  # where the data lies that ships with the package
    "storage.disk",  # the one writer and the one reader, which know of no file what it holds
    "storage.kept",  # the seal of files that are read again
    "storage.given",  # files that a person names, looked at before anything is read of them
}
# The rooms from the ground up: a module imports from its own and those before it.
ROOMS = (
    ("ground",),
    ("embedded",),
    PLUGINS,
    ("checkpoints",),
    ("assets",),
    ("profiling",),
    ("storage",),
    ("recipe",),
    ("plan",),
    ("generate",),
    ("score",),
    ("report", "analyze", "train"),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
# Modules that may import a plugin's file by name; everyone else goes through the registry.
KNOWN_USERS = {
    "models": {},
    "caches": {},
    "samplers": {
        "train.loss": "the noise schedule that a model is trained on",
        "generate.hooks": "the noise schedule, which hooks of diffusers ask for",
    },
    "metrics": {
        "train.classifier": "reference statistics of the features metrics compare with",
        "score.reference": "statistics of real images, by the metrics' own arithmetic",
        "score.real_clips": "features and statistics of real clips, by the metrics' own networks",
        "score.real_videos": "the size at which a network sees frames",
        "cli.vbench_env": "makes the one environment that a metric has of its own",
    },
}
# Where networks and measurements are put to use, and who may ask them to.
WHO_RUNS = {
    "generate.hooks": {
        "generate.keeping",
        "generate.loop",
        "generate.batch",
        "generate.driven",
        "generate.pipelines",
        "score.body",
        "analyze.calibrate",
        "analyze.inputs",
        "analyze.trial",
    },
    "generate.samples": {"score.sweep"},
    "generate.batch": {
        "generate.samples",
        "score.body",
        "analyze.calibrate",
        "analyze.features",
        "analyze.inputs",
        "analyze.trial",
    },
    "score.measure": {"score.evaluate", "score.sweep", "cli.compare", "train.judge"},
    "generate.engine": {
        "analyze.calibrate",
        "analyze.parts",
        "generate.local",
        "generate.on_ray",
        "generate.on_slurm",
        "score.spread",
    },
}
HEAVY = {
    *("torch", "diffusers", "transformers", "tokenizers", "sentencepiece", "huggingface_hub"),
    *("pandas", "matplotlib", "skimage", "scipy", "sklearn"),
    *("torchvision", "torchmetrics", "lpips", "torch_fidelity"),
}
HEAVY_ALLOWED = ("models", "samplers", "train", "analyze")
HEAVY_ALLOWED_FILES = {
    *(
        "generate.hooks",
        "generate.samples",
        "generate.batch",
        "generate.loop",
        "generate.rng",
        "generate.driven",
        "generate.pipelines",
        "checkpoints.hollow",
        "checkpoints.hollow_parts",
        "checkpoints.denoiser",
        "checkpoints.watched",
        "checkpoints.untouched",
        "score.body",
    ),
    *(
        "profiling.macs",
        "profiling.live",
        "profiling.latency",
        "embedded.classifier",
        "metrics._clip",
    ),
}
MOST_LINES = 400
MOST_MODULES = 9  # at the package's top level


def imports(node, *, types, functions=True):
    """Full names that the code imports.

    Args:
        types: also what only type checkers see. functions: also what functions import.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif is_type_checking(child):
            seen = [*(child.body if types else []), *child.orelse]
            yield from imports(ast.Module(seen, []), types=types, functions=functions)
        elif functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports(child, types=types, functions=functions)


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


@cache
def tree(module):
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


@cache
def ours(module, *, types=True):
    """The modules of this package that a module imports, now, in a function or for its types."""
    known = set()
    for name in imports(tree(module), types=types):
        head, _, rest = name.partition(".")
        if head == "skipdit_cli":
            owner = rest if rest in FILES else rest.rpartition(".")[0]
            known.add(owner if owner in FILES else "")
    return known - {module, ""}


def room(module):
    return "ground" if module in GROUND else module.partition(".")[0]


def circle(graph):
    """The modules of a circle in a graph (module -> what it imports), in order; () if none."""
    done, path = set(), []

    def visit(module):
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return ()
        path.append(module)
        for other in sorted(graph.get(module, ())):
            if found := visit(other):
                return found
        done.add(path.pop())
        return ()

    return next((found for module in sorted(graph) if (found := visit(module))), ())


def test_the_reader_sees_what_there_is():
    """On sources of its own, so that the rules below cannot pass by seeing nothing."""
    source = ast.parse(
        "import torch.nn\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from skipdit_cli import plan\nelse:\n    import numpy\n"
        "try:\n    from skipdit_cli.run import replay\nexcept ImportError:\n    pass\n"
        "class A:\n    import scipy\n    def f(self):\n        import pandas as pd\n"
    )
    early = {"torch.nn", "typing.TYPE_CHECKING", "numpy", "skipdit_cli.run.replay", "scipy"}
    assert set(imports(source, types=False, functions=False)) == early
    assert set(imports(source, types=False)) == early | {"pandas"}
    assert set(imports(source, types=True)) == early | {"pandas", "skipdit_cli.plan"}
    assert {"errors", "run", "models.dit", "models._layers", "cli", "plan.plan"} <= set(FILES)
    assert ours("models.dit") == {"models._layers", "sites"}
    assert {"generate.hooks", "cache", "samplers"} <= ours("generate.loop")
    assert "samplers" not in ours("generate.loop", types=False)


def test_the_circle_finder_finds_circles():
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == ()
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}})) == {"b", "c"}
    assert circle({"a": {"a"}})


def test_no_circle():
    """Among modules and among rooms, with what is imported for types alone."""
    assert circle({module: ours(module) for module in FILES}) == ()
    between = {room(module): set() for module in FILES if module not in ("", "__main__")}
    for module in FILES:
        if module not in ("", "__main__", "__init__"):
            between[room(module)] |= {room(other) for other in ours(module)} - {room(module)}
    assert circle(between) == ()


@pytest.mark.parametrize("module", [m for m in FILES if m not in ("", "__main__", "__init__")])
def test_imports_run_down(module):
    up = {other for other in ours(module) if LEVEL[room(other)] > LEVEL[room(module)]}
    assert not up


@pytest.mark.parametrize("module", [m for m in FILES if m.partition(".")[0] in PLUGINS])
def test_a_plugin_imports_the_ground_and_its_shared_files_only(module):
    folder = module.partition(".")[0]
    allowed = GROUND | {m for m in FILES if m.startswith(f"{folder}._")}
    allowed |= {m for m in FILES if module in FILES and m.startswith(f"{module}.")}  # a package's
    if module.count(".") > 1:  # a file of a package
        allowed |= {m for m in FILES if m.startswith(module.rpartition(".")[0])}
    if folder == "metrics":
        allowed |= {m for m in FILES if m.startswith("embedded")}  # the @digits metrics look by it
    assert ours(module) <= allowed


@pytest.mark.parametrize("folder", PLUGINS)
def test_plugins_are_reached_through_the_registry(folder):
    files = {m for m in FILES if m.startswith(f"{folder}.")}
    users = {m for m in FILES if not m.startswith(folder) and files & ours(m, types=False)}
    assert users - GROUND == set(KNOWN_USERS[folder])


@pytest.mark.parametrize("module", WHO_RUNS)
def test_only_a_few_ask_for_work(module):
    assert {m for m in FILES if module in ours(m, types=False)} <= WHO_RUNS[module]


def reachable(module):
    found, left = set(), [module]
    while left:
        current = left.pop()
        if current not in found:
            found.add(current)
            left += ours(current, types=False)
    return found


@pytest.mark.parametrize("module", [m for m in FILES if m.startswith("report")])
def test_a_report_computes_nothing_new(module):
    working = {
        "generate.samples",
        "generate.batch",
        "generate.hooks",
        "generate.engine",
        "score.measure",
    }
    assert not reachable(module) & {*working, "score.sweep", "score.timing"}


@pytest.mark.parametrize("module", [m for m in FILES if m.partition(".")[0] != "cli"])
def test_nothing_imports_the_command_line(module):
    assert module == "__main__" or not {m for m in ours(module) if m.partition(".")[0] == "cli"}


def may_be_heavy(module):
    return (module.partition(".")[0] in HEAVY_ALLOWED and module not in GROUND) or (
        module in HEAVY_ALLOWED_FILES
    )


@pytest.mark.parametrize("module", [m for m in FILES if not may_be_heavy(m)])
def test_heavy_packages_are_imported_where_they_are_needed(module):
    early = {name.partition(".")[0] for name in imports(tree(module), types=False, functions=False)}
    assert not early & HEAVY


def test_importing_every_light_module_loads_no_heavy_package():
    light = [f"skipdit_cli.{m}".rstrip(".") for m in FILES if not may_be_heavy(m)]
    light = [m for m in light if not m.endswith(("__main__", ".worker"))]
    assert len(light) > 100
    code = (
        "import importlib, json, sys\n"
        f"for name in {light!r}: importlib.import_module(name)\n"
        f"print(json.dumps(sorted(set(sys.modules) & {HEAVY!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("module", FILES)
def test_a_module_holds_one_idea(module):
    assert len(FILES[module].read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_the_house():
    """The rooms, and few modules outside of them."""
    top = {path.stem for path in ROOT.glob("*.py")} - {"__init__", "__main__"}
    assert len(top) <= MOST_MODULES
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders == {room for rooms in ROOMS[1:] for room in rooms}


# A command's file bears the command's name, and is never imported as a top-level module.
LIKE_THE_STANDARD_LIBRARY = {"cli.profile"}


def test_file_names():
    names = {module: module.rpartition(".")[2] for module in FILES}
    assert "utils" not in names.values()
    named_alike = {m for m, name in names.items() if name in sys.stdlib_module_names}
    assert named_alike - {"__main__"} == LIKE_THE_STANDARD_LIBRARY
