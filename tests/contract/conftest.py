import pytest

from tests.contract.piped import Piped
from tests.tiny_pipelines import NAMES

QUICK = ("flux", "wan22")


@pytest.fixture(
    scope="module",
    params=[
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES
    ],
)
def piped(request, tmp_path_factory):
    return Piped(request.param, tmp_path_factory.mktemp("pipelines") / request.param)
