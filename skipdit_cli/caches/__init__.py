"""One file per caching method.

A file holds, in this order:

    Config                                a frozen dataclass, one sentence per field
    resolve(config, layout)               the same Config with the paper's defaults for the family;
                                          raises UsageError where the method has no meaning
    reused(config, layout, timesteps)     per step, the sites that are not computed
    hooked(config, layout)                the sites the method has to see
    forward(config, layout, call, compute, hidden_states)
                                          what happens at a hooked site: `compute(hidden_states)`
                                          runs the site itself, `call` says where and when we are

and, where they apply,

    AFTER_GATE = True                     it keeps what a gated site gives after its gate
    unguided(config, layout, timesteps)   per step, whether the null half of guidance is run alone

A dynamic method, which decides while it runs, has in place of `reused`

    skipped(config, layout)               the sites that are not computed on a step that reuses

and a method that diffusers has itself, in place of `forward`,

    hooks(config, layout, timesteps)      diffusers' hooks by site, one for each hooked site
    predicted(config, timesteps)          per step, whether the null half of guidance is predicted;
                                          on other steps nothing is reused then, and `hooks` is
                                          told so with `alone=True`
    predictor(config, timesteps)          diffusers' hook that predicts it

A method whose settings include numbers measured on the model names that setting in `CALIBRATED`;
`skipdit analyze calibrate` measures them.

A method's file imports no model, and torch and diffusers only inside a function; `hooks.py` puts
the method on a network.
"""
