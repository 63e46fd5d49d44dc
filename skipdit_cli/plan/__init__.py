"""What it costs before it runs.

plan   what one Run does: steps, MACs, FLOPs, disk, what is missing
costs  the same of every row of a recipe, beside the FLOPs that the paper printed
"""
