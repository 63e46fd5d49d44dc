"""Which clips a dimension of VBench reads, and under which names."""

from collections.abc import Sequence
from pathlib import Path

from skipdit_cli.errors import IncompleteError, UsageError
from skipdit_cli.metrics.vbench.run import Clip
from skipdit_cli.metrics.vbench.table import CLIPS, DIMENSIONS, all_prompts, prompts
from skipdit_cli.storage.disk import sha256

Samples = Sequence[tuple[str, Path]]  # prompt and file, in the order of the samples

_LONGEST = 150  # bytes of a prompt in the name of a file
_NAMED = 3  # prompts in an error


def standard(
    samples: Samples, names: Sequence[str], *, hashes: Sequence[str] | None
) -> dict[str, list[Clip]]:
    """The clips of each dimension, called PROMPT-0.mp4 to PROMPT-4.mp4 as vbench wants them.

    Raises:
        IncompleteError: a prompt has fewer than five; vbench only warns, and averages the rest.
    """
    by_prompt: dict[str, list[int]] = {}
    for index, (prompt, _) in enumerate(samples):
        by_prompt.setdefault(prompt, []).append(index)
    _require_all({prompt: len(indices) for prompt, indices in by_prompt.items()}, names)
    clips: dict[str, list[Clip]] = {}
    for prompt in dict.fromkeys(prompt for name in names for prompt in prompts()[name]):
        clips[prompt] = [
            _clip(f"{prompt}-{k}.mp4", samples[index], sha=hashes[index] if hashes else "")
            for k, index in enumerate(by_prompt[prompt][:CLIPS])
        ]
    return {name: [clip for prompt in prompts()[name] for clip in clips[prompt]] for name in names}


def custom(samples: Samples, part: str, *, hashes: Sequence[str] | None) -> dict[str, list[Clip]]:
    """All clips for one dimension; a name ends in the sample's index, so none occurs twice.

    The prompt itself is handed over beside the names, which hold what of it a file name can; the
    label that human_action reads from a name ends at a hyphen anyway.

    Raises:
        UsageError: the part cannot be scored on other prompts than VBench's.
    """
    allowed = [name for name, each in DIMENSIONS.items() if each.custom]
    if part not in allowed:
        strange = next(prompt for prompt, _ in samples if prompt not in all_prompts())
        raise UsageError(
            f"{f'vbench.{part}' if part else 'vbench'} needs VBench's own prompts, "
            f"and {strange[:80]!r} is none of them",
            fix=f"take --prompts vbench, or score one of {', '.join(allowed)} singly",
        )
    clips = []
    for index, sample in enumerate(samples):
        stem = sample[0].replace("/", " ").replace("\0", " ").encode()[:_LONGEST]
        name = f"{stem.decode(errors='ignore')}-{index}.mp4"
        clips.append(_clip(name, sample, sha=hashes[index] if hashes else ""))
    return {part: clips}


def _clip(name: str, sample: tuple[str, Path], *, sha: str) -> Clip:
    prompt, path = sample
    return Clip(name, prompt=prompt, path=path, sha256=sha or sha256(path))


def _require_all(counts: dict[str, int], names: Sequence[str]) -> None:
    short = {
        name: [prompt for prompt in prompts()[name] if counts.get(prompt, 0) < CLIPS]
        for name in names
    }
    lacking = [name for name in names if short[name]]
    if not lacking:
        return
    name, asked = lacking[0], prompts()[lacking[0]]
    here = sum(min(CLIPS, counts.get(prompt, 0)) for prompt in asked)
    named = [f"{prompt!r} has {counts.get(prompt, 0)}" for prompt in short[name][:_NAMED]]
    more = ", ..." if len(short[name]) > _NAMED else ""
    others = f"; so do {len(lacking) - 1} more dimensions" if len(lacking) > 1 else ""
    raise IncompleteError(
        f"{name} lacks {CLIPS * len(asked) - here} of {CLIPS * len(asked)} clips "
        f"({', '.join(named)}{more}){others}",
        place="vbench",
        fix=f"generate {CLIPS} clips of each of its {len(asked)} prompts (--prompts vbench)",
    )
