"""VBench: 16 dimensions of a text-to-video model on VBench's own prompts, in one total.

The scores are those of the vbench package, which runs in an environment of its own
(`skipdit vbench-env`); quality is the weighted mean of 7 normalised dimensions, semantic that of 9,
and the total (4 quality + semantic) / 5. Each part can be asked for singly: `vbench.quality`,
`vbench.temporal_flickering`.

The lossless clips are scored, where the official protocol has mp4 files: lossless scores belong to
the model alone, not to an encoder. Between the two temporal_flickering moves by 0.03 points in a
clean synthetic clip; H.264 at crf 18 to 23 takes noise out, and so raises it by 0.2 points under
noise of 3 grey levels and by one under 10. A clip is linked under the name that vbench expects,
which ends in .mp4: its readers, OpenCV and decord, look at the content and return every pixel.
decord refuses some small widths (16, 24, 48), which is an error of the dimensions that use it.

Prompts that are not VBench's are scored with vbench's `custom_input`, which ten dimensions have,
one at a time; such scores are not comparable with VBench's, hence `protocol`.

Source: Huang et al., VBench, CVPR 2024 (arXiv 2311.17982); Vchitect/VBench.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from skipdit_cli.errors import IncompleteError, UsageError, unknown
from skipdit_cli.metrics.vbench import installed, run, table
from skipdit_cli.metrics.vbench.clips import custom, standard
from skipdit_cli.metrics.vbench.run import CUSTOM, STANDARD
from skipdit_cli.metrics.vbench.table import DIMENSIONS, GROUPS

NAME = "vbench"
LABEL = "VBench"
UNIT = "%"
BETTER = "higher"
NEEDS = "prompted"
TASKS = ("t2v",)
VERSION = 1
PROTOCOL = f"VBench {run.VBENCH}"
PARTS = (*DIMENSIONS, *GROUPS)  # what `vbench.PART` can be; `vbench` alone is the total
ANY_PROMPT = ("temporal_flickering",)  # what clips of any size and prompt have, with no weights


def environment() -> Path:
    """The Python of VBench's own environment.

    Raises:
        MissingAssetError: there is none.
    """
    return installed.interpreter()


def total(raw: Mapping[str, float], *, round_raw: bool = False) -> dict[str, float]:
    """{"quality", "semantic", "total"}, normally 0 to 1, from the 16 raw scores, 0 to 1.

    Args:
        raw: a score for each of DIMENSIONS.
        round_raw: round the raw scores to four decimals first, as VideoSys does and VBench not.

    Raises:
        IncompleteError: a dimension is missing, and named; VBench's own script counts it as zero.
        SkipditError: a score is not finite.
    """
    if missing := [name for name in DIMENSIONS if name not in raw]:
        raise IncompleteError(
            f"the total of VBench lacks {len(missing)} of {len(DIMENSIONS)} dimensions: "
            f"{', '.join(missing)}",
            fix="score all of them first",
        )
    groups = {name: table.group_score(raw, name, round_raw=round_raw) for name in GROUPS}
    weighted = sum(weight * groups[name] for name, weight in GROUPS.items())
    return {**groups, "total": weighted / sum(GROUPS.values())}


def protocol(prompts: Iterable[str]) -> str:
    """What scores of these prompts may be compared with: VBench's, or those of a custom input."""
    own = table.all_prompts().issuperset(prompts)
    return PROTOCOL if own else f"{PROTOCOL}, custom input"


def score_prompts(
    samples: Sequence[tuple[str, Path]],
    *,
    part: str = "",
    folder: Path,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    hashes: Sequence[str] | None = None,
) -> float:
    """A score in %, of the clips of a run; finished dimensions are found in the folder.

    Args:
        samples: prompt and lossless clip of each sample, in the order of the samples; the k-th
            of a prompt is its clip k. Of VBench's prompts the first five clips count, and only
            prompts of the dimensions that the part needs.
        part: "" for the total, "quality", "semantic" or a dimension.
        folder: of this run alone; holds one result per dimension, and is made if need be.
        device: "cpu", "cuda" or one of several GPUs, "cuda:1".
        progress: called with clips scored and clips in all, each counted in every dimension that
            it is scored in.
        hashes: the sha256 of the clips when they were made; without, they are computed. A clip is
            compared with it before it is scored.

    Raises:
        UsageError: no such part, no samples, or prompts that it cannot be scored on.
        IncompleteError: a prompt of a dimension has fewer than five clips; nothing was started.
        MissingAssetError: VBench's environment, or weights or a package in it, are not here.
        StoreError: a clip is damaged, or the disk.
        SkipditError: vbench failed.
    """
    mode, clips, raw = _found(samples, part, folder, hashes)
    left = _in_order(clips, raw)
    python = environment() if left else Path()
    total_clips = sum(map(len, clips.values()))

    def tell(before: int, now: int = 0) -> None:
        if progress:
            progress(before + now, total_clips)

    for name in left:
        before = sum(len(clips[each]) for each in raw)
        tell(before)
        raw[name] = run.score(
            name,
            clips[name],
            mode=mode,
            folder=folder,
            device=device,
            python=python,
            progress=partial(tell, before),
        )
    tell(total_clips)
    if part in DIMENSIONS:
        return 100 * raw[part]
    return 100 * (table.group_score(raw, part) if part else total(raw)["total"])


def lacking(
    samples: Sequence[tuple[str, Path]],
    *,
    part: str = "",
    folder: Path,
    hashes: Sequence[str] | None = None,
) -> list[str]:
    """The dimensions of a part that are still to be scored, in the order in which they should be.

    Raises:
        UsageError, IncompleteError: as `score_prompts`.
    """
    _, clips, raw = _found(samples, part, folder, hashes)
    return _in_order(clips, raw)


def _found(
    samples: Sequence[tuple[str, Path]], part: str, folder: Path, hashes: Sequence[str] | None
) -> tuple[str, dict[str, list[run.Clip]], dict[str, float]]:
    """The mode, the clips of every dimension, and the raw scores that are there already."""
    names = _dimensions(part)
    if not samples:
        raise UsageError(f"{NAME} has no samples to score", fix="generate at least one")
    if protocol(prompt for prompt, _ in samples) == PROTOCOL:
        mode, clips = STANDARD, standard(samples, names, hashes=hashes)
    else:
        mode, clips = CUSTOM, custom(samples, part, hashes=hashes)
    done = {name: run.known(name, clips[name], mode=mode, folder=folder) for name in names}
    return mode, clips, {name: value for name, value in done.items() if value is not None}


def _dimensions(part: str) -> tuple[str, ...]:
    if part not in ("", *PARTS):
        raise unknown("part of vbench", part, PARTS)
    return (part,) if part in DIMENSIONS else table.members(part)


def _in_order(names: Iterable[str], done: Container[str]) -> list[str]:
    """What needs a detector that pip alone cannot install goes first, so that it fails at once."""
    left = [name for name in DIMENSIONS if name in names and name not in done]
    return sorted(left, key=lambda name: not DIMENSIONS[name].detector)
