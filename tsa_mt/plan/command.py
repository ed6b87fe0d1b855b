"""``tsa-mt plan``: what a training would cost, before anything is run.

Every model option of fairseq-train may be given, under its name there.
"""

import argparse
import dataclasses
import json
from typing import Any, Dict, Set

import torch
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models import ARCH_MODEL_REGISTRY

from tsa_mt.plan.images import ImageSubject
from tsa_mt.plan.pretence import DEVICES
from tsa_mt.plan.report import Costs, Setting, costs, ratios, table
from tsa_mt.plan.subject import Subject
from tsa_mt.plan.translation import TranslationSubject
from tsa_mt.plan.update import DTYPES, OPTIMIZERS
from tsa_mt.translation.model import TreeTransformer, TreeTransformerConfig
from tsa_mt.vision.model import TreeClassifier, TreeClassifierConfig

MODELS = (TreeTransformer, TreeClassifier)
SHOWN = {"tree", "kd_objective", "peer_encoders", "branch_projection", "share_all_embeddings"}
"""Model options that ``--help`` describes; `tsa-mt options` and fairseq-train have the others."""

SIZES = (
    *("vocab", "target_vocab", "max_tokens", "source_length", "target_length"),
    *("batch_size", "classes", "image_size", "update_freq"),
)
"""Arguments that must be 1 or more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``tsa-mt plan``."""
    parser.conflict_handler = "resolve"  # both kinds of models have options of one name
    parser.add_argument("--arch", required=True, metavar="A", help="as for fairseq-train")
    _add_translation_arguments(parser)
    images = parser.add_argument_group("images")
    images.add_argument("--batch-size", type=int, metavar="N", help="images per batch")
    images.add_argument("--classes", type=int, metavar="N", help="classes (default: 100)")
    images.add_argument("--image-size", type=int, metavar="N", help="side in pixels")
    _add_training_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, in plain numbers")
    options = parser.add_argument_group(
        "model options",
        "these and all others of fairseq-train, see `tsa-mt options`",
        argument_default=argparse.SUPPRESS,
    )
    for config in (TreeTransformerConfig, TreeClassifierConfig):
        gen_parser_from_dataclass(options, config(), delete_default=True)
    for action in options._group_actions:
        if action.dest not in SHOWN:
            action.help = argparse.SUPPRESS


def _add_translation_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("translation")
    group.add_argument(
        "--vocab", type=int, metavar="V", help="symbols of the dictionaries, specials included"
    )
    group.add_argument(
        "--target-vocab", type=int, metavar="V", help="the same of the target's, if it has its own"
    )
    group.add_argument("--max-tokens", type=int, metavar="N", help="as for fairseq-train")
    for side in ("source", "target"):
        group.add_argument(
            f"--{side}-length", type=int, metavar="N", help="pieces a sentence (default: 25)"
        )


def _add_training_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument(
        "--optimizer", choices=OPTIMIZERS, help="default: adam; momentum_sgd for images"
    )
    group.add_argument("--dtype", choices=DTYPES, default="fp32", help="precision (default: fp32)")
    group.add_argument(
        "--update-freq", type=int, default=1, metavar="N", help="batches per update (default: 1)"
    )
    group.add_argument(
        "--device", choices=DEVICES, help="whose kernels to expect (default: the one there is)"
    )
    group.add_argument("--kd-chunk-rows", type=int, metavar="N", help="as for fairseq-train")
    group.add_argument(
        "--teacher-arch", default="", metavar="A", help="the frozen teacher's (default: the same)"
    )


def run(args: argparse.Namespace) -> int:
    """Prints what a training would cost.

    Raises:
        ValueError: An unknown architecture, a malformed tree, options that do not fit together.
    """
    _check_sizes(args)
    subject, setting = read_subject(args), read_setting(args)
    tree = subject.tree
    own = costs(subject, setting)
    plain = costs(subject.plain(), setting)
    if args.json:
        print(json.dumps(_record(args, subject, setting, own, plain), indent=2))
        return 0
    objective = args.kd_objective if "kd_objective" in args else "tsa"
    print(f"{args.arch}: {objective} on {tree}, leaves: {len(tree.leaves)}")
    print(
        f"an update: {setting.update_freq * subject.rows:,} {subject.unit}s "
        f"({subject.batch_text}), {setting.dtype}, {setting.optimizer}, {setting.device}\n"
    )
    print(table(own, plain, subject))
    return 0


def read_setting(args: argparse.Namespace) -> Setting:
    """How the model is trained."""
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    default = "momentum_sgd" if _model_of(args.arch) is TreeClassifier else "adam"
    return Setting(device, args.optimizer or default, args.dtype, args.update_freq)


def read_subject(args: argparse.Namespace) -> Subject:
    """The model and the batch that the arguments describe.

    Raises:
        ValueError: An unknown architecture, or options that do not belong to its kind.
    """
    model = _model_of(args.arch)
    if args.teacher_arch and _model_of(args.teacher_arch) is not model:
        raise ValueError(f"--teacher-arch {args.teacher_arch} cannot teach --arch {args.arch}")
    common = {
        "arch": args.arch,
        "options": _model_options(args, model),
        "chunk_rows": args.kd_chunk_rows,
        "teacher_arch": args.teacher_arch,
    }
    return (_image_subject if model is TreeClassifier else _translation_subject)(args, common)


def _model_of(arch: str) -> type:
    """The model class of an architecture of ours."""
    known = [name for name, model in ARCH_MODEL_REGISTRY.items() if model in MODELS]
    if arch not in known:
        raise ValueError(f"unknown architecture {arch!r}; choose one of {', '.join(known)}")
    return ARCH_MODEL_REGISTRY[arch]


def _model_options(args: argparse.Namespace, model: type) -> Dict[str, Any]:
    """The model options that were typed."""
    configs = {TreeTransformer: TreeTransformerConfig, TreeClassifier: TreeClassifierConfig}
    names: Dict[type, Set[str]] = {
        kind: {f.name for f in dataclasses.fields(configs[kind])} for kind in MODELS
    }
    every = set().union(*names.values())
    typed = {name: value for name, value in vars(args).items() if name in every}
    for name in typed:
        if name not in names[model]:
            raise ValueError(f"{_flag(name)} is no option of --arch {args.arch}")
    if "kd_teacher" in typed:
        raise ValueError(
            "--kd-teacher is not read here; say with --teacher-arch how large the teacher is"
        )
    return typed


def _translation_subject(args: argparse.Namespace, common: Dict[str, Any]) -> Subject:
    _refuse(args, "batch_size", "classes", "image_size")
    _require(args, "vocab", "max_tokens")
    lengths = (args.source_length or 25, args.target_length or 25)
    vocabulary = (args.vocab, args.target_vocab or args.vocab)
    return TranslationSubject(
        **common, vocabulary=vocabulary, lengths=lengths, max_tokens=args.max_tokens
    )


def _image_subject(args: argparse.Namespace, common: Dict[str, Any]) -> Subject:
    _refuse(args, "vocab", "target_vocab", "max_tokens", "source_length", "target_length")
    _require(args, "batch_size")
    if args.dtype != "fp32":
        raise ValueError(
            f"--dtype {args.dtype}: images are trained in fp32; add --bf16-autocast for bfloat16"
        )
    return ImageSubject(
        **common,
        classes=args.classes or 100,
        batch_size=args.batch_size,
        image_size=args.image_size,
    )


def _refuse(args: argparse.Namespace, *names: str) -> None:
    given = [_flag(name) for name in names if getattr(args, name) is not None]
    if given:
        raise ValueError(f"{', '.join(given)} does not go with --arch {args.arch}")


def _require(args: argparse.Namespace, *names: str) -> None:
    missing = [_flag(name) for name in names if getattr(args, name) is None]
    if missing:
        raise ValueError(f"--arch {args.arch} needs {' and '.join(missing)}")


def _check_sizes(args: argparse.Namespace) -> None:
    for name in SIZES:
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"{_flag(name)} is {value}; it must be 1 or more")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _record(
    args: argparse.Namespace, subject: Subject, setting: Setting, own: Costs, plain: Costs
) -> Dict[str, Any]:
    """Everything, in plain numbers."""
    return {
        "format": 1,
        "arch": args.arch,
        "options": subject.options,
        "tree": str(subject.tree),
        "leaves": len(subject.tree.leaves),
        "setting": dataclasses.asdict(setting),
        "batch": {"rows": subject.rows, "what": subject.batch_text},
        **dataclasses.asdict(own),
        "plain": dataclasses.asdict(plain),
        "relative": ratios(own, plain),
    }
