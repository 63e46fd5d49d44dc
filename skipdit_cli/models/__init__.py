"""One file per model family; what two families share word for word is in `_layers.py`.

A family's file holds one class, a diffusers model (`from_pretrained`, `save_pretrained`), with

    VARIANTS                  name -> constructor arguments of the published sizes
    CHANNEL_DIM               which dimension of input and output holds the channels
    GUIDED_CHANNELS           how many leading output channels classifier-free guidance acts on
    layout() -> Layout        what a cache may know
    sites() -> {Site: module} the modules behind the sites
    convert(state, config)    official state dict -> ours

and knows neither caches nor timesteps.
"""
