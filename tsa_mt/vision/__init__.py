"""Images: tree-shaped classifiers, CIFAR and ImageNet data, and the task that trains them."""

from tsa_mt.vision import mobilenetv3, pytorchcv_networks, resnet, vgg  # noqa: I001 (backbones first)
from tsa_mt.vision import model, optimizer, schedule, task
from tsa_mt.vision.backbone import BACKBONES, Backbone, find_backbone
from tsa_mt.vision.model import TreeClassifier, TreeClassifierConfig
from tsa_mt.vision.task import ImageClassificationTask

__all__ = [
    "BACKBONES",
    "Backbone",
    "ImageClassificationTask",
    "TreeClassifier",
    "TreeClassifierConfig",
    "find_backbone",
    "mobilenetv3",
    "model",
    "optimizer",
    "pytorchcv_networks",
    "resnet",
    "schedule",
    "task",
    "vgg",
]
