"""One file per metric; what several of them share is in the files that start with `_`.

A file holds these constants and one function:

    NAME, LABEL, UNIT    as on the command line, as in a table, and what it is counted in
    BETTER               "higher" or "lower"
    NEEDS                "pairs": each sample with its uncached reference;
                         "each": each sample with what it was to show;
                         "set": all samples of a run together;
                         "prompted": the clips of a list of prompts, scored elsewhere
    TASKS                the tasks ("c2i", "c2v", "t2v", "t2i") whose samples it can score
    VERSION              goes up whenever the same samples would score differently, be it by the
                         formula, the network or its reference statistics
    PROTOCOL             whose definition this is; numbers of two protocols share no column
    SMALLEST, FRAMES     the least height and width, and number of frames, where there is a least
    PARTS, ANY_PROMPT    what can be asked for as `NAME.PART`, and which of it fits any prompts

    score(reference, sample)   pairs: the score of one sample
    score(sample, meta)        each: the same; a meta is what a sample was to show, {"class": 3} or
                               {"prompt": "..."}
    score_set(samples, metas)  set: the score of all samples, which are read only once
    score_prompts(samples)     prompted: the score of prompts and files, as in `vbench.py`
    average(scores)            pairs, each: if it is not their plain mean
    protocol(prompts)          if PROTOCOL depends on what was asked for

A metric that looks through a network names what must be downloaded for it in ASSETS and has
`load(assets, device)`; what that returns is handed to `score` as a third argument. A metric of a
set has an EXTRACTOR (`_extractor.py`) instead: its features are kept beside the samples, and

    score_set(features, reference)

gets them in chunks, with the `Reference` that REFERENCE names; "{dataset}" in it stands for what
the model was trained on.

A metric whose name ends in `@digits` is for the embedded models alone; `@` otherwise leads to the
protocol, where a metric has several.

A sample is a uint8 array: an image [H,W,3] or a clip [T,H,W,3], RGB.
"""

from typing import Protocol

from skipdit_cli.contract import Registered


class Metric(Registered, Protocol):
    """The contract, as far as it is written down in code."""

    PARTS: tuple[str, ...] = ()
