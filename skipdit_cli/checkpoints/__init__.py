"""Known checkpoints, where their files are, and how they become networks.

card        what is known of a checkpoint
catalog     the card of every checkpoint: source, size, licence, how it is sampled
local       where the files of a checkpoint are on this machine, and what tells them apart
inventory   what of a checkpoint is here, and whether it is sound
official    official files and state dicts -> ours, strictly
networks    a checkpoint -> its network, with weights or without
drawn       random weights in place of a checkpoint's
download    what has to be fetched; fetch it, convert it; hub_pipeline: of diffusers' pipelines
licences    which have to be accepted before anything is fetched
_sources    what a hub repository or an address has, with sizes and hashes
_fetch      one file from there to the disk: resumed, verified
"""
