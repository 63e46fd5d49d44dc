"""A tiny Flux on a command line: the arguments of its call, and prompts."""

CALL = "--call height=32 --call width=16 --call max_sequence_length=32"
FEW = f"--steps 4 {CALL}"
PROMPTS = ("--prompt", "a cat", "--prompt", "a red dog")
