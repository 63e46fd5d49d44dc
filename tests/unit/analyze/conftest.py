"""Small uncached runs, and the stage of an analysis that is watched or stopped."""

from contextlib import contextmanager

import pytest

from skipdit_cli.generate.options import Options
from skipdit_cli.recipe import runs


@pytest.fixture(scope="session")
def small():
    """small(model, cache=..., ...) -> a run of three samples in two batches and five steps."""

    def make(model, cache="none", **settings):
        usual = {"num_samples": 3, "batch_size": 2, "sampler": "ddim", "steps": "5"}
        return runs.make_run(model, cache, usual | settings)

    return make


@pytest.fixture
def stopping(tmp_path):
    """stopping(n) -> options whose work is stopped once n parts are done, and what was told."""

    def make(parts):
        told = []

        @contextmanager
        def stage(what):
            def update(done, total):
                told.append(done)
                if done == parts:
                    raise KeyboardInterrupt

            yield update

        return Options(root=tmp_path, stage=stage), told

    return make
