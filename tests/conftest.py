"""All tests: no network, nothing of the user's home is read or written, one thread per process."""

import gc
import gzip
import os
import signal
import site
import struct
from collections import Counter

import pytest

# Before torch and huggingface_hub are imported, and inherited by every process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# On some processors MKL adds up otherwise where weights are aligned otherwise in memory, as those
# that were read from a file are and those that were copied are not.
os.environ.setdefault("MKL_CBWR", "AUTO")
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


@pytest.fixture(scope="module", autouse=True)
def _imported():
    """What modules hold is not searched for garbage again each time that a network is released."""
    gc.collect()
    gc.freeze()


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
def clothes(monkeypatch, tmp_path):
    """A folder in the place of Fashion-MNIST: in each of its parts 20 images, each of the levels
    100, 101, ... in its 28x28 pixels, of the classes 0, 1, ... 9, 0, ..."""
    from skipdit_cli.train import fashion

    folder = tmp_path / "home" / "fashion-mnist"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        levels = b"".join(bytes([100 + i]) * 28 * 28 for i in range(20))
        images = struct.pack(">4I", 0x803, 20, 28, 28) + levels
        labels = struct.pack(">2I", 0x801, 20) + bytes(i % 10 for i in range(20))
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    monkeypatch.setenv("SKIPDIT_HOME", str(folder.parent))
    monkeypatch.setattr(fashion, "PACKAGED", tmp_path / "none")
    monkeypatch.setattr(fashion, "images", fashion.images.__wrapped__)  # nothing read is kept
    return folder


@pytest.fixture
def put_asset(monkeypatch):
    """put_asset(name, size=, digest=, ...) replaces fields of an asset that is declared."""
    from skipdit_cli.assets import assets, lists

    def put(name, **fields):
        asset = {**assets.declared(), **lists.PUBLISHED}[name]
        for field, value in fields.items():
            monkeypatch.setitem(vars(asset), field, value)  # it is frozen
        return asset

    return put
