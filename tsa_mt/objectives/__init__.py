"""Objectives: one paper, one file; pure PyTorch, usable without fairseq.

>>> from tsa_mt.objectives import build_objective
>>> okd = build_objective("tsa", tree="0(1,1,1,1)", feature_dim=64, num_classes=10)
"""

from tsa_mt.objectives.ahbf import AHBF
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
from tsa_mt.objectives.cl_ilr import CLILR
from tsa_mt.objectives.dml import DML, DMLMean
from tsa_mt.objectives.independent import Independent
from tsa_mt.objectives.kd import KD, HintonKD
from tsa_mt.objectives.kdcl import KDCL
from tsa_mt.objectives.okddip import OKDDip
from tsa_mt.objectives.one import ONE
from tsa_mt.objectives.pcl import PCL
from tsa_mt.objectives.rdrop import RDrop
from tsa_mt.objectives.sokd import SOKD
from tsa_mt.objectives.tsa import TSA

__all__ = [
    "AHBF",
    "CLILR",
    "DML",
    "KD",
    "KDCL",
    "OBJECTIVES",
    "ONE",
    "PCL",
    "SOKD",
    "TSA",
    "Context",
    "DMLMean",
    "HintonKD",
    "Independent",
    "LossTerms",
    "OKDDip",
    "Objective",
    "ObjectiveConfig",
    "RDrop",
    "build_objective",
    "check_options",
    "find_objective",
    "register_objective",
]
