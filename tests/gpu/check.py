"""What only a GPU can tell, in eight minutes: `make gpu-check`.

    python tests/gpu/check.py [--out FOLDER] [--official FOLDER] [--budget SECONDS]
                              [--device cuda|cpu] [--scale paper|tiny] [--parts NAME,NAME]

Nothing is downloaded and no weights are needed: full-size networks are drawn at random, the
embedded ones ship. Every number is printed and written at once, into FOLDER/DEVICE.json and a page
beside it, so that a run that is cut off still tells what it found; what there was no time for is
named. Exit code 1: a check failed.
"""

import argparse
import json
import re
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import page
import parts
import torch

from skipdit_cli.storage import provenance
from skipdit_cli.storage.disk import write_whole

SHARES = {  # part -> seconds of 460 that it may take; what one leaves, the next ones have
    parts.parity: 80,
    parts.speed: 150,
    parts.official: 50,
    parts.compiled: 60,
    parts.decoding: 35,
    parts.precision: 35,
    parts.sweep: 50,
}


def main() -> int:
    """Run the parts in the order of their worth until the time is up."""
    asked = _arguments()
    names = {part.__name__: part for part in SHARES}
    if unknown := set(asked.parts) - names.keys():
        sys.exit(f"unknown parts {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    report: dict[str, Any] = {
        "scale": asked.scale,
        "cuda": torch.version.cuda,
        **provenance.collect(device=asked.device),
        "facts": [],
    }
    with tempfile.TemporaryDirectory() as scratch:
        how = parts.How(asked.device, asked.scale, asked.official, Path(scratch))
        began = time.perf_counter()
        due = 0.0
        for name in asked.parts:
            due += SHARES[names[name]] * asked.budget / sum(SHARES.values())
            for fact in _until(names[name], how, began + due):
                fact = {"part": name, **fact}
                print(" ".join(f"{key}={_short(value)}" for key, value in fact.items()), flush=True)
                report["facts"].append(fact)
                _write(report, asked.out)
            parts.clean()
    failed = [fact for fact in report["facts"] if fact.get("ok") is False]
    print(f"{len(failed)} of {len(report['facts'])} failed" if failed else "all checks passed")
    return 1 if failed else 0


def _until(part: Any, how: "parts.How", due: float) -> Any:
    """The facts of a part, begun no later than `due`; an error is one of them."""
    began = time.perf_counter()
    facts = part(how)
    while True:
        if time.perf_counter() > due:
            yield {"skipped": "the time was up"}
            return
        try:
            yield next(facts)
        except StopIteration:
            break
        except Exception:
            yield {"ok": False, "error": traceback.format_exc()[-1500:]}
            break
    yield {"part_s": time.perf_counter() - began}


def _write(report: dict[str, Any], folder: Path) -> None:
    name = re.sub(r"[^a-z0-9]+", "-", report["device"].lower()).strip("-")
    write_whole(folder / f"{name}.json", (json.dumps(report, indent=1) + "\n").encode())
    write_whole(folder / f"{name}.md", page.to_markdown(report).encode())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/gpu"))
    parser.add_argument("--official", type=Path, help="a checkout of the official code")
    parser.add_argument("--budget", type=float, default=460, help="seconds")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--scale", choices=("paper", "tiny"), default="paper")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=_NAMES)
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; --device cpu --scale tiny tries the checks")
    return asked


_NAMES = [part.__name__ for part in SHARES]

if __name__ == "__main__":
    sys.exit(main())
