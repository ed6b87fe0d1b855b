"""Objectives: one paper, one file; pure PyTorch, usable without fairseq.

>>> from tsa_mt.objectives import build_objective
>>> okd = build_objective("tsa", tree="0(1,1,1,1)", feature_dim=64, num_classes=10)
"""

import importlib
import pkgutil

from tsa_mt.objectives.base import LEAVES, Objective
from tsa_mt.objectives.config import ObjectiveConfig, Option
from tsa_mt.objectives.consistency import Consistency, register_consistency
from tsa_mt.objectives.ramp import RampedObjective
from tsa_mt.objectives.registry import (
    OBJECTIVES,
    build_objective,
    check_options,
    find_objective,
    register_objective,
)
from tsa_mt.objectives.rows import Context, LossTerms, Rows

__all__ = [
    "LEAVES",
    "OBJECTIVES",
    "Consistency",
    "Context",
    "LossTerms",
    "Objective",
    "ObjectiveConfig",
    "Option",
    "RampedObjective",
    "Rows",
    "build_objective",
    "check_options",
    "find_objective",
    "register_consistency",
    "register_objective",
]

for _module in pkgutil.iter_modules(__path__):  # every file that registers a method is found
    importlib.import_module(f"{__name__}.{_module.name}")
