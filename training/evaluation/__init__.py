"""Full-reference evaluation of models on lossless clips and stills, against interpolation.

Fixed recipes make the LQ input (`recipes`), the same for every method and every run. Scores are means over
the frames of a clip, the totals means over clips, as DOVE's protocol has it (`scoring`); the error of
`warping` is measured between frames.
"""

from training.evaluation.clips import STILL_SUFFIXES, list_clips, load_hr
from training.evaluation.recipes import ALL_RECIPES, RECIPES, UNSEEN_RECIPES, make_lq
from training.evaluation.report import format_report, report_json
from training.evaluation.scoring import Score, Summary, Upscale, evaluate_clip, summarize
from training.evaluation.warping import SourceMotion

__all__ = [
    "ALL_RECIPES",
    "RECIPES",
    "STILL_SUFFIXES",
    "UNSEEN_RECIPES",
    "Score",
    "SourceMotion",
    "Summary",
    "Upscale",
    "evaluate_clip",
    "format_report",
    "list_clips",
    "load_hr",
    "make_lq",
    "report_json",
    "summarize",
]
