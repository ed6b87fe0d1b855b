"""What the vision tests share: a small data set and a builder of models."""

import sys
from argparse import Namespace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for image_data

from image_data import CLASSES, Data, write_cifar10

from tsa_mt import teacher as teacher_module
from tsa_mt.vision.model import TreeClassifier


@pytest.fixture(scope="session")
def cifar(tmp_path_factory) -> Data:
    """A small CIFAR-10: 100 training and 30 test images."""
    return Data(write_cifar10(tmp_path_factory.mktemp("cifar")))


@pytest.fixture(scope="session")
def build():
    """Builds a model: ``build("resnet20", tree="tsa", classes=10, kd_objective="tsa")``."""

    def build(backbone: str = "resnet20", classes: int = CLASSES, **options) -> TreeClassifier:
        task = Namespace(num_classes=classes, target_dictionary=None)
        return TreeClassifier.build_model(Namespace(backbone=backbone, **options), task)

    return build


@pytest.fixture(autouse=True)
def no_teacher_remembered():
    """Each test loads its own teachers."""
    yield
    teacher_module._LOADED.clear()
