"""Samples and metrics -> results.

sweep        generate, score and time caches against the uncached model: the main job
evaluate     score what is there, without generating anything
measure      one metric of one run, kept until either changes
scoring      what a score is computed of
reference    the real samples that metrics compare with
spread       chunks of these, made by several processes
features     what networks see in samples, kept on disk
real_clips   references made of a user's own videos
real_videos  videos and folders of frames, read as a network sees them
applicable   which metrics can score what
jobs         the runs that a command means, each with its metrics
timing       latency, speedup and memory, kept as results
body         the denoising loop as something to time
compare      a model's caches timed side by side
paired       runs of the same noise compared sample by sample
certainty    intervals, and how sure a difference is
redo         remove what is there of some runs, to make it again
"""
