"""What is asked: text -> Run objects.

recipe          a table as a YAML file: names, loading
shape           Recipe, RecipeRow and Column, which it is loaded into
yaml_file       YAML without surprises, and every mistake of a file at once
yaml_events     what YAML reads otherwise than people
settings        settings of a generation, by name and type
scales          what a name stands for at the tiny and the paper scale
specs           the caches that methods, intervals and windows ask for
prompts         lists of prompts
calibration     numbers that a method needs and that were measured on a model
runs            models, caches and settings -> Run objects; recipes and files on disk too
again           the command that makes a run again
needs           what has to be downloaded before a recipe can run
published       the paper's own numbers
cache_settings  the settings of a caching method, for people
"""
