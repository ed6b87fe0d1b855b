"""Packaging of tsa_mt; everything about tools (ruff, pytest) is in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

REQUIRES = [
    # 2.6 is the first release in which torch.load(weights_only=True) is safe (CVE-2025-32434).
    "torch>=2.6",
    # fairseq main with support for Python 3.11 and 3.12; docs/compatibility.md has alternatives.
    "fairseq-fixed==0.12.3.1",
    "numpy",
    "sacrebleu>=2.0",
    "sacremoses",
    "sentencepiece",
    # data-prep/ and the recipes
    "pyyaml",
    "tqdm",
]
DATA = ["py3langid", "subword-nmt", "zstandard"]
DEPLOY = ["ctranslate2>=4.0", "safetensors"]
HUGGINGFACE = ["transformers>=5"]
TRACK = ["tensorboardX"]
DEMO = ["babel>=2.12"]
VISION = ["pillow>=10.1", "pyarrow", "pytorchcv>=0.0.74", "onnx", "onnxruntime"]
TEST = ["pytest>=7", "pytest-timeout", "pytest-xdist", "hypothesis>=6", "ruff"]
TYPES = ["mypy>=2", "types-PyYAML", "types-regex", "types-tqdm"]


def version() -> str:
    """The version, read from the package without importing it."""
    text = (HERE / "tsa_mt" / "version.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE).group(1)


def readme() -> str:
    """The long description; a checkout without a README still installs."""
    path = HERE / "README.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


setup(
    name="tsa-mt",
    version=version(),
    description="Online knowledge distillation with tree-shaped decoders, as a fairseq plugin",
    long_description=readme(),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    packages=find_packages(include=["tsa_mt", "tsa_mt.*"]),
    package_data={"tsa_mt": ["py.typed"]},
    python_requires=">=3.10",
    install_requires=REQUIRES,
    extras_require={
        "data": DATA,
        "deploy": DEPLOY,
        "huggingface": HUGGINGFACE,
        "track": TRACK,
        "demo": DEMO,
        "vision": VISION,
        "test": TEST + TYPES + DATA + DEPLOY + HUGGINGFACE + TRACK + DEMO + VISION,
    },
    entry_points={"console_scripts": ["tsa-mt = tsa_mt.cli:main"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: MIT License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
