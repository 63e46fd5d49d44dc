"""What metrics need from outside: declared in the metrics' files, fetched and verified here.

assets    what there is, and what of it is here
download  what has to be fetched; fetch it
clips     data sets of clips on the hub; _unpack: what is in their archives
coco      the prompt list that is made of COCO's captions
wanted    everything that a user wants fetched, checkpoints included
"""
