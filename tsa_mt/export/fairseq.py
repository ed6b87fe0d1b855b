"""A folder that stock fairseq reads by itself: no plugin, no ``--user-dir``, no environment.

The checkpoint's configuration is a plain dictionary and its ``args`` is ``None``, so that
`torch.load` accepts the file with safe loading on and nothing allow-listed.
"""

import copy
import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Optional, Tuple

import torch
from fairseq.data import Dictionary
from fairseq.dataclass import configs
from fairseq.models import build_model
from omegaconf import OmegaConf

from tsa_mt.export.checkpoint import StateDict, save_checkpoint, shapes
from tsa_mt.export.companions import BPE_CODES, SENTENCEPIECE, Companions
from tsa_mt.export.folder import new_folder
from tsa_mt.export.leader import PlainTransformer, plain_value
from tsa_mt.export.readme import Usage, write_readme
from tsa_mt.files import PathLike

MODEL = "model.pt"


def write_fairseq(
    plain: PlainTransformer, companions: Companions, out: PathLike, force: bool = False
) -> Path:
    """Writes ``model.pt``, the dictionaries, the subword model and a README into a new folder.

    Args:
        plain: The model.
        companions: The files that belong to it.
        out: The folder to write.
        force: Replace an earlier export.

    Raises:
        FileExistsError: ``out`` exists and may not be replaced.
        ValueError: The weights are not those of the stock model that the options describe.
    """
    with new_folder(out, MODEL, force) as folder:
        fill(plain, companions, folder)
        write_readme(folder, plain, companions, usage(companions))
    return Path(out)


def fill(plain: PlainTransformer, companions: Companions, folder: Path) -> None:
    """Writes everything but the README into a folder."""
    plain = dataclasses.replace(plain, weights=stock_weights(plain, companions))
    save_checkpoint(stock_checkpoint(plain, companions), folder / MODEL)
    for name, source in companions.files.items():
        shutil.copyfile(source, folder / name)


def stock_weights(plain: PlainTransformer, companions: Companions) -> StateDict:
    """The weights under today's names, compared with those that stock fairseq will ask for.

    Raises:
        ValueError: Entries are missing, superfluous or of another shape; all are listed.
    """
    with torch.device("meta"):  # shapes are enough, memory is not needed
        model, _, _ = _build(plain, companions)
    weights = dict(plain.weights)
    model.upgrade_state_dict(weights)
    problems = _differences(shapes(weights), shapes(model.state_dict()))
    if problems:
        raise ValueError(
            f"the weights do not make a stock Transformer of this size with the dictionaries in "
            f"{companions.dictionaries[1].parent}: "
            + "; ".join(problems[:5])
            + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        )
    return weights


def stock_model(
    plain: PlainTransformer, companions: Companions
) -> Tuple[Any, Dictionary, Dictionary]:
    """The stock model with its weights, in evaluation mode, and its two dictionaries.

    Raises:
        ValueError: The weights are not those of the stock model that the options describe.
    """
    weights = stock_weights(plain, companions)
    model, source, target = _build(plain, companions)
    model.load_state_dict(weights)
    return model.eval(), source, target


def _build(plain: PlainTransformer, companions: Companions) -> Tuple[Any, Dictionary, Dictionary]:
    """The stock model, built as fairseq builds it from the exported options."""
    source, target = (Dictionary.load(str(path)) for path in companions.dictionaries)
    task = SimpleNamespace(source_dictionary=source, target_dictionary=target)
    options = OmegaConf.create({**copy.deepcopy(plain.options), "_name": "transformer"})
    return build_model(options, task, from_checkpoint=True), source, target


def _differences(have: Dict[str, tuple], want: Dict[str, tuple]) -> List[str]:
    """What is wrong with the entries ``have`` where ``want`` is expected, in words."""
    missing = [f"'{name}' is missing" for name in want if name not in have]
    extra = [f"'{name}' is unknown to it" for name in have if name not in want]
    other = [
        f"'{name}' has shape {have[name]} instead of {want[name]}"
        for name in want
        if name in have and have[name] != want[name]
    ]
    return missing + extra + other


def stock_task(plain: PlainTransformer, companions: Companions) -> dict:
    """The options of the task, with the data where the model is."""
    source, target = companions.languages
    return {
        **plain.task,
        "_name": "translation",
        "data": ".",
        "source_lang": source,
        "target_lang": target,
    }


def stock_checkpoint(plain: PlainTransformer, companions: Companions) -> dict:
    """The dictionary that goes into ``model.pt``; plain containers and tensors only."""
    return {
        "args": None,
        "cfg": {
            **_default_sections(),
            "model": {**plain.options, "_name": "transformer"},
            "task": stock_task(plain, companions),
            "criterion": plain.criterion,
            "bpe": _bpe_section(companions.bpe),
            "tokenizer": None,
        },
        "model": plain.weights,
        "criterion": None,
        "optimizer_history": [
            {
                "criterion_name": "LabelSmoothedCrossEntropyCriterion",
                "optimizer_name": "FairseqAdam",
                "lr_scheduler_state": {"best": None},
                "num_updates": plain.updates,
            }
        ],
        "task_state": {},
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
        "last_optimizer_state": None,
    }


def _default_sections() -> Dict[str, dict]:
    """The sections that `from_pretrained` and generation read, with fairseq's own defaults.

    The training run's values stay behind: its paths and user directory are nobody's business.
    """
    sections = {
        "common": configs.CommonConfig,
        "common_eval": configs.CommonEvalConfig,
        "dataset": configs.DatasetConfig,
        "generation": configs.GenerationConfig,
        "interactive": configs.InteractiveConfig,
    }
    return {
        name: {
            field.name: plain_value(getattr(section(), field.name))
            for field in dataclasses.fields(section)
        }
        for name, section in sections.items()
    }


def _bpe_section(bpe: Optional[str]) -> Optional[dict]:
    """The subword section; `from_pretrained` puts the path of the file beside the model into it."""
    if bpe == "sentencepiece":
        return {
            "_name": bpe,
            "sentencepiece_model": SENTENCEPIECE,
            "sentencepiece_enable_sampling": False,
            "sentencepiece_alpha": None,
        }
    if bpe == "subword_nmt":
        return {"_name": bpe, "bpe_codes": BPE_CODES, "bpe_separator": "@@"}
    return None


def usage(companions: Companions) -> Usage:
    """How to translate with such a folder."""
    source, target = companions.languages
    subwords = {
        "sentencepiece": f" --bpe sentencepiece --sentencepiece-model {SENTENCEPIECE}",
        "subword_nmt": f" --bpe subword_nmt --bpe-codes {BPE_CODES}",
    }.get(companions.bpe or "", "")
    return Usage(
        title="a plain fairseq Transformer",
        needs="fairseq and nothing else",
        code=(
            "from fairseq.models.transformer import TransformerModel",
            f'model = TransformerModel.from_pretrained(".", "{MODEL}")',
            'print(model.translate("A sentence to translate.", beam=5))',
        ),
        more=f"""Raw text from the command line:

    fairseq-interactive . --path {MODEL} -s {source} -t {target} --beam 5{subwords}

A binarised test set (made with the dictionaries in this folder):

    fairseq-generate DATA-BIN --path {MODEL} -s {source} -t {target} --beam 5 \\
        --required-batch-size-multiple 1{subwords}

Without --required-batch-size-multiple 1 fairseq may drop sentences at the end of a test set.""",
    )
