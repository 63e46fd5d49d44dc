"""A server on this machine that answers like a hub and a file server, and a checkpoint on it.

The released card is replaced by a small model of the same kind; its official file, the VAE and the
text encoder are small files under the names and in the layout of the hub.
"""

import argparse
import hashlib
import io
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType

import pytest
import torch
from huggingface_hub import close_session, constants
from safetensors.torch import save

from skipdit_cli import registry
from skipdit_cli.checkpoints import catalog, networks
from skipdit_cli.checkpoints.catalog import Component

NAME = "skytimelapse-skip"
COMMIT = "c0ffee" + "0" * 34
SHARDS = [f"text_encoder/model-0000{i}-of-00002.safetensors" for i in (1, 2)]
DECOYS = ("model.fp16.safetensors", "pytorch_model.bin", "flax_model.msgpack", "onnx/model.onnx")


class Hub:
    """What the server has, how it fails, and what it was asked.

    Attributes:
        repositories: repository ("datasets/OWNER/NAME" of a data set) -> path -> content.
        addresses: path of a plain file -> content.
        lies: path -> what is served instead of what is listed.
        cut: a connection ends after so many bytes of content, and no other is answered.
        tags: whether a plain file has an ETag.
        requests: (method, path, range, token) in order. sent: bytes of content, by path.
    """

    NAME, COMMIT, SHARDS, DECOYS = NAME, COMMIT, SHARDS, DECOYS

    def __init__(self):
        self.repositories, self.addresses, self.lies = {}, {}, {}
        self.cut, self.tags = None, True
        self.requests, self.sent = [], {}
        self.url = ""

    def forget(self):
        self.requests.clear()
        self.sent.clear()

    @property
    def paths(self):
        return [path for _, path, _, _ in self.requests]

    def info(self, repository):
        files = []
        for path, content in self.repositories[repository].items():
            entry = {"rfilename": path, "size": len(content), "blobId": git_hash(content)}
            if not path.endswith((".json", ".txt")):
                sha = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha, "size": len(content), "pointerSize": 134}
            files.append(entry)
        card = {"license": "mit"}
        return {"id": repository, "sha": COMMIT, "siblings": files, "cardData": card}

    def find(self, path):
        """Content and headers of a file, or where it has moved, or None."""
        if path in self.addresses:
            content = self.addresses[path]
            tag = {"ETag": f'"{hashlib.md5(content).hexdigest()}"'}
            return content, tag if self.tags else {}
        known = r"/(cdn/)?((?:datasets/)?[^/]+/[^/]+)/resolve/([^/]+)/(.+)"
        match = re.fullmatch(known, path)
        if not match or match[4] not in self.repositories.get(match[2], {}):
            return None
        content = self.repositories[match[2]][match[4]]
        tag = hashlib.sha256(content).hexdigest()
        headers = {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}
        if not match[1] and not match[4].endswith((".json", ".txt")):  # as large files are
            moved = {"X-Linked-ETag": f'"{tag}"', "X-Linked-Size": str(len(content))}
            return None, {**headers, **moved, "Location": f"{self.url}/cdn{path}"}
        return self.lies.get(match[4], content), headers


def git_hash(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub, path = self.server.hub, self.path.partition("?")[0]
        token = self.headers.get("Authorization")
        hub.requests.append((self.command, path, self.headers.get("Range"), token))
        name = path.removeprefix("/api/").removeprefix("models/")
        if path.startswith(("/api/models/", "/api/datasets/")):
            if name in hub.repositories:
                return self.answer(200, json.dumps(hub.info(name)).encode(), {})
            return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        found = hub.find(path)
        if found is None:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        content, headers = found
        if content is None:
            return self.answer(302, b"", headers)
        if hub.cut is not None and hub.sent.get(path):
            self.close_connection = True  # without an answer
            return None
        total, begin = len(content), 0
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            begin = int(match[1])
            headers["Content-Range"] = f"bytes {begin}-{total - 1}/{total}"
        return self.answer(206 if match else 200, content[begin:], headers, hub=hub, path=path)

    def answer(self, status, content, headers, *, hub=None, path=""):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if hub and hub.cut is not None and len(content) > hub.cut:
            content, self.close_connection = content[: hub.cut], True
        if hub:  # before a client can have all of it, and look
            hub.sent[path] = hub.sent.get(path, 0) + len(content)
        self.wfile.write(content)


@contextmanager
def serve(hub):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hub, hub.url = hub, f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        close_session()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def trained():
    """An official training file of the small model, and the state dict that is to be taken."""
    torch.manual_seed(0)
    half = registry.load("models", "dit").VARIANTS["DiT-digits/4"]["depth"] // 2
    ema = {}
    for key, value in networks.build(catalog.card("digits-skip")).state_dict().items():
        if ".skip." in key:
            _, layer, _, part, name = key.split(".")
            middle = "linear." if part == "linear" else ""
            key = f"skip_{part}s.{int(layer) - half}.{middle}{name}"
        ema[key] = torch.randn(value.shape)
    model = {key: torch.zeros_like(value) for key, value in ema.items()}
    return _saved({"model": model, "ema": ema, "args": argparse.Namespace(lr=1e-4)}), ema


def _saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture(scope="session")
def saved():
    """saved(content) -> what torch.save writes."""
    return _saved


@pytest.fixture
def hub(home, trained, put_card, monkeypatch, tmp_path):
    """A server with the three repositories of the released card, which is small here."""
    hub = Hub()
    tensors = save({"weight": torch.ones(100)})
    index = {"weight_map": {f"w{i}": path.split("/")[1] for i, path in enumerate(SHARDS)}}
    hub.repositories = {
        "someone/skip": {"README.md": b"x", "skylapse-skip.pt": trained[0]},
        "someone/vae": {
            "config.json": b"{}",
            "diffusion_pytorch_model.bin": b"y" * 99,
            "diffusion_pytorch_model.safetensors": tensors,
        },
        "someone/text": {
            "model_index.json": b"{}",
            "tokenizer/spiece.model": b"pieces",
            "tokenizer/tokenizer_config.json": b"{}",
            "text_encoder/config.json": b'{"a": 1}',
            "text_encoder/model.safetensors.index.json": json.dumps(index).encode(),
            "text_encoder/pytorch_model.bin.index.json": b"{}",
            **dict.fromkeys(SHARDS, tensors),
            **{f"text_encoder/{name}": b"z" * 50 for name in DECOYS},
        },
    }
    card = replace(
        catalog.card("digits-skip"),
        name=NAME,
        source="someone/skip",
        files=catalog.card(NAME).files,
        licence="CC-BY-NC-4.0",
        components={
            "vae": Component("someone/vae"),
            "tokenizer": Component("someone/text", "tokenizer"),
            "text_encoder": Component("someone/text", "text_encoder"),
        },
    )
    put_card(card)
    with serve(hub):
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
        close_session()
        yield hub


@pytest.fixture
def put_card(monkeypatch):
    """put_card(card) replaces the released card of that name."""

    def put(card):
        cards = MappingProxyType({**catalog.CARDS, card.name: card})
        monkeypatch.setattr(catalog, "CARDS", cards)

    return put


@pytest.fixture
def get(skipdit):
    """get(more arguments) runs the download of the card with its licence accepted."""
    return lambda *more: skipdit("download", NAME, "--accept-license", *more)


@pytest.fixture(scope="session")
def failed():
    """failed(outcome, code, *parts): the last line on stderr is the one error, with every part."""

    def check(done, code, *parts):
        line = done.err.splitlines()[-1]
        assert (done.code, line[:9]) == (code, "skipdit: "), done
        assert done.err.count("skipdit: ") == 1
        assert [part for part in parts if part not in line] == [], line

    return check
