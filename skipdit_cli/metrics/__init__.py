"""One file per metric; what several of them share is in the files that start with `_`.

A file holds these constants and one function:

    NAME, LABEL, UNIT          as on the command line, as in a table, and what it is counted in
    BETTER                     "higher" or "lower"
    NEEDS                      "pairs": each sample with its uncached reference;
                               "set": all samples of a run together
    TASKS                      the tasks ("c2i", "c2v", "t2v", "t2i") whose samples it can score
    VERSION                    goes up whenever the same samples would score differently, be it by
                               the formula, the network or its reference statistics
    score(reference, sample)   for pairs: the score of one sample
    score_set(samples, metas)  for sets: the score of all samples, which are read only once; a meta
                               is what a sample was to show, {"class": 3} or {"prompt": "..."}

A metric whose name ends in `@digits` is for the embedded models alone.

A sample is a uint8 array: an image [H,W,3] or a clip [T,H,W,3], RGB.
"""
