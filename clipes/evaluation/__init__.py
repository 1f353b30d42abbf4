"""Masks compared with ground truth: confusion, IoU, boundary IoU, over arrays and over folders.

Nothing here makes a mask or loads a model."""

from .folders import evaluate
from .metrics import class_iou, confusion_matrix, mean_iou
from .result import Evaluation

__all__ = ["Evaluation", "class_iou", "confusion_matrix", "evaluate", "mean_iou"]
