"""What is kept on disk: one writer and one reader, and what each kind of file holds.

disk        files written whole or not at all, read and checked in one place
given       files that a person names, looked at before anything is read of them
store       the samples of a run, lossless and verified
lock        one process at a time works on a run
shelf       what is in a results folder, run by run, whatever code made it
removal     all of a run goes, or nothing that could be taken for it stays
encoded     a sample as the bytes of its file
codec       clips as bytes: lossless, and previews
trajectory  the latents of a run's first samples after every step
results     one number per run and metric
failures    why a run has no samples, score or timing
npz         samples as an npz, as the ADM evaluator reads them
spreadsheet CSV in which nothing is taken for a formula
markup      Markdown in which nothing is taken for HTML or a link
provenance  where a number comes from: code, packages, device, command
"""
