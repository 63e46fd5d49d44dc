"""All tests: no network, nothing of the user's home is read or written, one thread per process."""

import os
import signal
import site
from collections import Counter

import pytest

# Before torch and huggingface_hub are imported, and inherited by every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
# A shell that started the tests in the background lets them, and what they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Of the cases of a test that is marked few(n), those after the first n are slow."""
    seen = Counter()
    for item in items:
        if few := item.get_closest_marker("few"):
            test = (item.path, item.originalname)
            seen[test] += 1
            if seen[test] > few.args[0]:
                item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONUSERBASE", site.getuserbase())  # packages may be installed there
        patch.setenv("HOME", str(home))
        patch.setenv("SKIPDIT_HOME", str(home / "skipdit"))
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "HF_HOME"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def put_asset(monkeypatch):
    """put_asset(name, size=, digest=, ...) replaces fields of what a metric's file declares."""
    from skipdit_cli.assets import assets

    def put(name, **fields):
        asset = assets.declared()[name]
        for field, value in fields.items():
            monkeypatch.setitem(vars(asset), field, value)  # it is frozen
        return asset

    return put
