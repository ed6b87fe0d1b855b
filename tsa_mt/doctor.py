"""``tsa-mt doctor``: what is installed, which run-time fixes are active, and what is wrong.

Prints one line per finding and, for everything that is wrong, what mends it. The exit status is 1
if something is wrong.
"""

import argparse
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tsa_mt.version import __version__

FAIRSEQ = "fairseq-fixed==0.12.3.1"

# distribution -> what it is needed for
REQUIRED = {
    "numpy": "everything",
    "sacrebleu": "scoring",
    "sentencepiece": "subwords",
    "sacremoses": "tokenisation",
    "pyyaml": "recipes",
    "tqdm": "progress bars",
}
# distribution -> (extra, what it is for)
OPTIONAL = {
    "py3langid": ("data", "telling languages apart"),
    "subword-nmt": ("data", "BPE as in published results"),
    "zstandard": ("data", "zstd files"),
    "ctranslate2": ("deploy", "fast inference"),
    "safetensors": ("deploy", "the safetensors format"),
    "transformers": ("huggingface", "checking a Hugging Face export"),
    "tensorboardX": ("track", "curves"),
    "babel": ("demo", "the demo's corpus"),
    "pytorchcv": ("vision", "image networks"),
    "pillow": ("vision", "image files"),
    "pyarrow": ("vision", "images in Parquet files"),
    "onnx": ("vision", "the ONNX format"),
    "onnxruntime": ("vision", "checking an ONNX export"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: what was looked at.
        value: what was found.
        mend: what to do about it; empty if nothing is wrong.
    """

    subject: str
    value: str
    mend: str = ""


def installed_version(distribution: str) -> str:
    """The version of an installed distribution, or an empty string."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _at_least(version: str, *wanted: int) -> bool:
    return tuple(int(number) for number in re.findall(r"\d+", version)[: len(wanted)]) >= wanted


def check_packages() -> Iterator[Finding]:
    """The packages that every installation needs, and those of the extras."""
    for name, purpose in REQUIRED.items():
        version = installed_version(name)
        mend = "" if version else f"pip install {name}"
        yield Finding(name, version or f"missing, needed for {purpose}", mend)
    for name, (extra, purpose) in OPTIONAL.items():
        version = installed_version(name)
        yield Finding(name, version or f"not installed; for {purpose}: pip install tsa-mt[{extra}]")


def check_torch() -> Finding:
    """PyTorch's version; before 2.6 ``weights_only`` loading can be made to run code."""
    import torch

    recent = _at_least(torch.__version__, 2, 6)
    return Finding("torch", torch.__version__, "" if recent else "pip install 'torch>=2.6'")


def check_omegaconf() -> Finding:
    """OmegaConf's version; 2.4 refuses fairseq's configuration."""
    version = installed_version("omegaconf")
    usable = version and not _at_least(version, 2, 4)
    mend = "" if usable else "pip install omegaconf==2.3.0"
    return Finding("omegaconf", version or "missing", mend)


def _import_error() -> str:
    from tsa_mt import plugin

    try:
        plugin.register()
    except Exception as error:
        cause = error.__cause__ or error
        return f"{type(cause).__name__}: {cause}"
    return ""


def check_fairseq() -> Finding:
    """Which fairseq is installed, and whether it can be imported."""
    names = [name for name in ("fairseq-fixed", "fairseq") if installed_version(name)]
    found = " and ".join(f"{name} {installed_version(name)}" for name in names)
    if len(names) > 1:
        mend = f"pip uninstall -y fairseq fairseq-fixed && pip install {FAIRSEQ}"
        return Finding("fairseq", f"{found} overwrite each other's files", mend)
    error = _import_error()
    if error:
        mend = f"pip install {FAIRSEQ} (on a Python without a ready wheel this needs g++)"
        return Finding("fairseq", f"{found or 'not installed'}, {error}", mend)
    return Finding("fairseq", found or "found on the path, not installed")


def check_plugin() -> Finding:
    """Whether the plugin is registered with fairseq."""
    try:
        from fairseq.criterions import CRITERION_REGISTRY
        from fairseq.models import ARCH_MODEL_REGISTRY
    except Exception:
        return Finding("plugin", "not registered", "mend fairseq first")
    trees = sum(name.startswith("tree_transformer") for name in ARCH_MODEL_REGISTRY)
    if not trees or "online_kd" not in CRITERION_REGISTRY:
        return Finding("plugin", "not registered", "reinstall tsa-mt: pip install --no-deps .")
    return Finding("plugin", f"registered: --criterion online_kd and {trees} architectures")


def check_devices() -> Iterator[Finding]:
    """GPUs, and what of bfloat16 they or the CPU can do."""
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            memory = f"{device.total_memory / 2**30:.0f} GiB"
            yield Finding(f"GPU {index}", f"{device.name}, {memory}")
        yield Finding("bf16", "on GPU" if torch.cuda.is_bf16_supported() else "not on this GPU")
    elif Path("/dev/nvidia0").exists():
        mend = "install a torch with CUDA for your driver: https://pytorch.org/get-started/locally"
        yield Finding("GPU", f"there is one, and torch {torch.__version__} cannot use it", mend)
    else:
        yield Finding("GPU", "none")
        yield Finding("bf16", "on CPU (slow without hardware support)")


def check_compiler() -> Finding:
    """The compiler that building fairseq from source needs; a ready wheel does without."""
    path = shutil.which("g++") or shutil.which("c++")
    return Finding("g++", path or "not found; only building fairseq from source needs it")


def examine() -> list[Finding]:
    """Everything that the report says, the run-time fixes excepted."""
    return [
        Finding("tsa-mt", f"{__version__} in {Path(__file__).resolve().parent}"),
        Finding("python", f"{platform.python_version()} on {platform.platform()}"),
        check_torch(),
        check_fairseq(),
        check_omegaconf(),
        *check_packages(),
        check_plugin(),
        *check_devices(),
        check_compiler(),
    ]


def describe_fixes() -> list[str]:
    """The run-time fixes: which are active, and why they are there."""
    from tsa_mt import compat

    status = compat.status()
    return [
        f"  {fix.name:18} {status.get(fix.name, 'not applied'):11} {fix.why} ({fix.versions})"
        for fix in compat.FIXES
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command takes no arguments."""


def run(args: argparse.Namespace) -> int:
    """Prints the report; returns 1 if something is wrong."""
    findings = examine()
    for finding in findings:
        print(f"{finding.subject:14} {finding.value}")
    print("run-time fixes of fairseq")
    print("\n".join(describe_fixes()))
    wrong = [finding for finding in findings if finding.mend]
    for finding in wrong:
        print(f"WRONG  {finding.subject}: {finding.value}\n  mend: {finding.mend}")
    print(f"wrong: {len(wrong)}" if wrong else "nothing is wrong")
    return 1 if wrong else 0
