"""`skipdit download parti`, and what is then made of `--prompts parti`, on the server here."""

import hashlib
import json
from pathlib import Path

import pytest

from skipdit_cli.assets import lists

TEXT = "Prompt\tCategory\n" + "".join(f'"{i}" on a sign\tArtifacts\n' for i in range(4000))
SERVED = "/parti.tsv"


@pytest.fixture
def served(hub, put_asset):
    content = TEXT.encode()
    digest = hashlib.sha256(content).hexdigest()
    put_asset("parti", source=hub.url + SERVED, size=len(content), digest=digest)
    hub.addresses[SERVED] = content
    return content


def test_a_list_is_fetched_once_and_its_prompts_are_taken_in_order(served, hub, skipdit, home):
    told = skipdit("sample --model painted-digits --prompts parti --steps 2")
    told.failed(4, "the prompt list parti is not here", "run `skipdit download parti`")
    done = skipdit("download parti")
    path = home / "prompts" / "parti" / "PartiPrompts.tsv"
    assert (done.code, done.out) == (0, f"parti {path}\n"), done
    assert f"parti: {hub.url}{SERVED}, {len(served) / 1e6:.1f} MB, licence Apache-2.0" in done.err
    assert path.read_bytes() == served
    known = json.loads((home / "prompts" / "parti.json").read_text())
    assert known["sha256"] == hashlib.sha256(served).hexdigest()
    hub.forget()
    assert (skipdit("download parti").out, hub.requests) == (done.out, [])
    line = "sample --model painted-digits --prompts parti --num-samples 3 --steps 2 --json"
    made = json.loads(skipdit(line).ok().out)
    assert made["run"]["prompts"][:3] == [f'"{i}" on a sign' for i in range(3)]
    assert len(list(Path(made["folder"]).glob("*.png"))) == 3


def test_a_transfer_goes_on_where_it_stopped_and_another_file_is_refused(
    served, hub, skipdit, failed, home, table
):
    hub.cut = 40_500
    failed(skipdit("download parti"), 4, "broke off after 40000 of", "goes on from there")
    assert lists.state("parti") == "absent"
    hub.cut = None
    (row,) = table(skipdit("download parti --dry-run").out)
    assert (row["state"], row["licence"]) == ("resume", "Apache-2.0")
    hub.forget()
    assert skipdit("download parti").code == 0
    assert hub.sent[SERVED] == len(served) - 40_000
    lists.path("parti").unlink()
    hub.addresses[SERVED] = served[::-1]
    failed(skipdit("download parti"), 4, "is damaged: its sha256 is", "it was deleted")
    assert lists.state("parti") == "absent"


def test_a_file_that_is_here_is_taken(served, hub, skipdit, failed, tmp_path):
    Path("mine.tsv").write_bytes(served)
    Path("other.tsv").write_bytes(served[:-1])
    failed(skipdit("download parti --from other.tsv"), 2, "other.tsv", "is not parti: it has")
    assert skipdit("download parti --from mine.tsv").code == 0
    assert (lists.sound("parti"), hub.requests) == (True, [])
    failed(skipdit("download part"), 2, "unknown model 'part'", "'parti'")
