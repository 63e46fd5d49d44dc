"""Run -> samples.

samples       batches of a run, computed and stored
loop          the denoising loop, and guidance: model, cache and sampler meet
hooks         a cache put on a network, and taken off again
conditioning  what every sample is conditioned on
text          prompts -> what a text denoiser is conditioned on
decode        latents -> pixels
rng           noise that depends on seed, index and step alone
engine        batches in this process or in several
behind        what is left of a batch, done beside the next one
loaded        networks in memory, one of a kind at a time
options       where and how work runs
memory        a lack of memory told in one line
"""
