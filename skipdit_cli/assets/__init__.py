"""What metrics need from outside, declared in their files, and lists of prompts: fetched, verified.

assets    what there is, and what of it is here
download  what has to be fetched; fetch it
clips     data sets of clips on the hub; _unpack: what is in their archives
coco      the prompt list that is made of COCO's captions
lists     all prompt lists that are fetched
wanted    everything that a user wants fetched, checkpoints included
"""
