"""SSIM averaged as VideoSys' script does: over batches of 16, the short last one in full.

The samples are scored as by `ssim`; only their average differs, and depends on their order.

Source: VideoSys eval/pab/common_metrics/eval.py.
"""

from skipdit_cli import registry
from skipdit_cli.metrics._averages import mean_of_batches as average

__all__ = ["average", "score"]

_plain = registry.load("metrics", "ssim")

NAME = "ssim@videosys"
LABEL = "SSIM@VideoSys"
UNIT = _plain.UNIT
BETTER = _plain.BETTER
NEEDS = _plain.NEEDS
TASKS = _plain.TASKS
VERSION = _plain.VERSION
PROTOCOL = "VideoSys eval/pab, mean of means of 16"

score = _plain.score
