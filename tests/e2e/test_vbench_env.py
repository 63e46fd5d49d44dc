"""vbench-env: what is told where it cannot be made; how it is made is in unit/metrics."""


def test_a_python_that_is_none(skipdit, monkeypatch, tmp_path):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))
    skipdit("vbench-env --python /nowhere").failed(
        2, "--python: /nowhere is no Python 3.11 or 3.10 that can make an environment; install one"
    )
    assert not (tmp_path / "home").exists()
