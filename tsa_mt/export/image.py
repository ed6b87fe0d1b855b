"""An image classifier's leaf as a file that needs nothing of this project.

Three formats: a plain state dict that the stock network loads, a TorchScript program, and an ONNX
graph. Beside the model lie ``preprocessing.json`` (class names, image size, normalisation) and a
README. Every format is read back and must give the logits of the model it came from; how close they
are is in ``certificate.json``.
"""

import argparse
import warnings
from pathlib import Path
from typing import Callable, Dict, NamedTuple, Optional

import torch
from torch import Tensor, nn

from tsa_mt.export.certificate import header, machine, write_certificate
from tsa_mt.export.checkpoint import SourceFile
from tsa_mt.export.folder import README, new_folder, refuse_existing
from tsa_mt.files import write_json, write_text
from tsa_mt.sources import AVERAGED
from tsa_mt.vision.checkpoint import TrainedClassifier, plain_network, read_classifier

PREPROCESSING = "preprocessing.json"
TOLERANCE = 1e-4
"""How far logits of a file that was read back may be from the model's."""
BATCH = 2
"""Images that a network is traced with."""
IMAGES = 16
"""Images of random pixels that a file is compared with its model on."""


class Format(NamedTuple):
    """A way to write a network.

    Attributes:
        file: Name of the model's file.
        write: Writes a network, given example images, to a path.
        logits: Reads the file back and classifies images, given the network that was written;
            ``None`` where nothing is installed that could.
        usage: Lines of the README: how to run it in Python.
    """

    file: str
    write: Callable[[nn.Module, Tensor, Path], None]
    logits: Callable[[Path, nn.Module, Tensor], Optional[Tensor]]
    usage: str


def _write_state_dict(network: nn.Module, images: Tensor, path: Path) -> None:
    torch.save({name: tensor.clone() for name, tensor in network.state_dict().items()}, path)


def _state_dict_logits(path: Path, network: nn.Module, images: Tensor) -> Tensor:
    network.load_state_dict(torch.load(path, weights_only=True))
    return network(images)


def _write_torchscript(network: nn.Module, images: Tensor, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns that TorchScript is no longer developed
        torch.jit.trace(network, images).save(str(path))


def _torchscript_logits(path: Path, network: nn.Module, images: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(str(path))(images)


def _write_onnx(network: nn.Module, images: Tensor, path: Path) -> None:
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"--to onnx needs the package onnx, which cannot be imported ({error}); install it "
            f"with pip install onnx"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (images,),
            str(path),
            dynamo=False,  # the other exporter needs one more package
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
        )


def _onnx_logits(path: Path, network: nn.Module, images: Tensor) -> Optional[Tensor]:
    """Without a runtime at hand the graph is only checked for consistency."""
    import onnx

    onnx.checker.check_model(str(path))
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


FORMATS: Dict[str, Format] = {
    "state_dict": Format(
        "model.pt",
        _write_state_dict,
        _state_dict_logits,
        "from tsa_mt.vision import find_backbone\n"
        "model = find_backbone({backbone!r}).build({classes}, {stages}).network.eval()\n"
        'model.load_state_dict(torch.load("model.pt"))',
    ),
    "torchscript": Format(
        "model.ts",
        _write_torchscript,
        _torchscript_logits,
        'model = torch.jit.load("model.ts")',
    ),
    "onnx": Format(
        "model.onnx",
        _write_onnx,
        _onnx_logits,
        'model = onnxruntime.InferenceSession("model.onnx")',
    ),
}


def export_classifier(args: argparse.Namespace) -> str:
    """Writes one leaf of an image classifier.

    Args:
        args: ``checkpoint``, ``out``, ``to``, ``branch``, ``force``, ``ema``, ``no_certificate``.

    Returns:
        What was written, in words.

    Raises:
        FileExistsError: ``out`` exists and may not be replaced.
        FileNotFoundError: There is no such checkpoint.
        ValueError: It is no image classifier, has no such leaf, or a package is missing.
    """
    chosen = FORMATS[args.to]
    refuse_existing(args.out, chosen.file, args.force)
    trained = read_classifier(args.checkpoint, args.ema, args.branch == AVERAGED)
    network = plain_network(trained, _leaf(args.branch))
    images = torch.randn(IMAGES, 3, trained.image_size, trained.image_size)
    with torch.no_grad(), new_folder(args.out, chosen.file, args.force) as folder:
        chosen.write(network, images[:BATCH], folder / chosen.file)
        found = chosen.logits(folder / chosen.file, network, images)
        agreement = _agreement(found, network(images), args.to)
        _write_companions(folder, trained, args)
        if not args.no_certificate:
            file = SourceFile.of(args.checkpoint)
            start = header(file, args.branch, args.to, None)
            write_certificate({**start, **agreement, **machine()}, folder)
    return f"{_name(trained, args.branch)}, {trained.updates:,} updates, for {args.to}"


def _agreement(found: Optional[Tensor], expected: Tensor, to: str) -> dict:
    """How the logits of a file compare with the model's, for the certificate.

    Raises:
        ValueError: They are not the same.
    """
    reference = {"source": "random pixels", "images": len(expected)}
    if found is None:
        return {"reference": reference, "max_logit_difference": None, "passed": False}
    difference = float((found - expected).abs().max())
    if difference > TOLERANCE:
        raise ValueError(
            f"the {to} file does not give the model's logits (they differ by {difference:.1e}); "
            f"please report this"
        )
    identical = int((found.argmax(dim=1) == expected.argmax(dim=1)).sum())
    return {
        "reference": reference,
        "identical": identical,
        "different": len(expected) - identical,
        "max_logit_difference": difference,
        "tolerance": TOLERANCE,
        "passed": True,
    }


def _leaf(branch: int) -> int:
    """The leaf that a branch is; the averaged leader is the leader, of other weights."""
    return 0 if branch == AVERAGED else branch


def _name(trained: TrainedClassifier, branch: int) -> str:
    names = {0: "the leader", AVERAGED: "the averaged leader"}
    which = names.get(branch, f"leaf {branch}")
    return f"{which} of {trained.model.backbone.name} with tree {trained.model.tree}"


def _write_companions(folder: Path, trained: TrainedClassifier, args: argparse.Namespace) -> None:
    preparation = {
        "class_names": trained.class_names,
        "image_size": trained.image_size,
        "mean": trained.normalisation.mean,
        "std": trained.normalisation.std,
    }
    write_json(folder / PREPROCESSING, preparation)
    write_text(folder / README, _readme(trained, args))


def _readme(trained: TrainedClassifier, args: argparse.Namespace) -> str:
    backbone, leaf = trained.model.backbone, trained.model.tree.leaves[_leaf(args.branch)]
    usage = FORMATS[args.to].usage.format(
        backbone=backbone.name,
        classes=len(trained.class_names),
        stages=backbone.stages_for(leaf.start, leaf.stop),
    )
    size = trained.image_size
    return (
        f"# Image classifier ({args.to})\n\n"
        f"{_name(trained, args.branch)}; {len(trained.class_names)} classes, trained for "
        f"{trained.updates:,} updates.\n\n"
        f"Input `images`: float32 `(batch, 3, {size}, {size})`, RGB scaled to [0, 1], minus "
        f"`mean`, divided by `std`. Output: logits `(batch, {len(trained.class_names)})`. The "
        f"numbers and the class names are in `{PREPROCESSING}`.\n\n"
        f"```python\n{usage}\n```\n"
    )
