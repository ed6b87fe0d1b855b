"""Objectives: one paper, one file; pure PyTorch, usable without fairseq.

>>> from tsa_mt.objectives import build_objective
>>> okd = build_objective("tsa", tree="0(1,1,1,1)", feature_dim=64, num_classes=10)
"""

from tsa_mt.objectives.base import (
    OBJECTIVES,
    Context,
    LossTerms,
    Objective,
    ObjectiveConfig,
    build_objective,
    check_options,
    find_objective,
    register_objective,
)
from tsa_mt.objectives.independent import Independent
from tsa_mt.objectives.kd import KD, HintonKD
from tsa_mt.objectives.sokd import SOKD
from tsa_mt.objectives.tsa import TSA

__all__ = [
    "KD",
    "OBJECTIVES",
    "SOKD",
    "Context",
    "HintonKD",
    "Independent",
    "LossTerms",
    "Objective",
    "ObjectiveConfig",
    "TSA",
    "build_objective",
    "check_options",
    "find_objective",
    "register_objective",
]
