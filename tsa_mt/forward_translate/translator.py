"""Beam search over one chunk of a corpus, with fairseq's own generator.

``fairseq-generate`` would load the teacher again for every chunk, fails on a chunk without
sentences and reads the references, which may be too long for it; so its loop is here, on the source
side alone, and nothing else of it.
"""

import ast
import contextlib
import os
import sys

import torch
from fairseq import checkpoint_utils, options, tasks, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf, open_dict

from tsa_mt.averaged import averaged_weights
from tsa_mt.dictionaries import check_dictionaries
from tsa_mt.forward_translate.corpus import Corpus
from tsa_mt.forward_translate.plan import Chunk
from tsa_mt.forward_translate.selection import Hypothesis
from tsa_mt.sources import AVERAGED, Source


class Translator:
    """A teacher (or several, as an ensemble) ready to decode.

    Args:
        corpus: What will be translated.
        teacher: Checkpoints and their branches; several are an ensemble.
        flags: Flags of fairseq-generate that say how to decode.
        nbest: How many hypotheses of a sentence are kept.

    Raises:
        ValueError: The teacher has other dictionaries or no branches, or a sentence that it could
            read does not fit into a batch.
    """

    def __init__(self, corpus: Corpus, teacher: list[Source], flags: list[str], nbest: int = 1):
        source, target = corpus.languages
        paths = os.pathsep.join(each.path for each in teacher)
        arguments = [str(corpus.folder), *flags, "--path", paths, "-s", source, "-t", target]
        parser = options.get_generation_parser()
        config = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments))
        utils.import_user_module(config.common)
        self.corpus, self.config = corpus, config
        self.cuda = torch.cuda.is_available() and not config.common.cpu
        self.task = tasks.setup_task(config.task)
        self.nbest = nbest
        self.models = [self._load(each) for each in teacher]
        self.generator = self.task.build_generator(self.models, config.generation)
        limits = (self.task.max_positions(), *(model.max_positions() for model in self.models))
        self.limit = utils.resolve_max_positions(*limits)[0]
        self.datasets = {split: self._dataset(split) for split in corpus.splits}

    def _load(self, teacher: Source):
        """One model of the ensemble, ready to decode."""
        overrides = ast.literal_eval(self.config.common_eval.model_overrides)
        state = checkpoint_utils.load_checkpoint_to_cpu(teacher.path, overrides)
        check_dictionaries(state, self.task, "teacher", teacher.path)
        if teacher.branch == AVERAGED:
            state["model"] = averaged_weights(state["model"], f"teacher {teacher.path}")
        elif teacher.branch:
            _choose_branch(state["cfg"]["model"], teacher)
        (model,), _ = checkpoint_utils.load_model_ensemble(
            [teacher.path], task=self.task, state=state
        )
        if self.config.common.fp16:
            model.half()
        if self.cuda:
            model.cuda()
        model.prepare_for_inference_(self.config)
        return model

    def _dataset(self, split: str):
        source = self.corpus.dataset(split, 0)
        dataset = self.task.build_dataset_for_inference(source, source.sizes)
        dataset.left_pad_source = utils.eval_bool(self.config.task.left_pad_source)
        readable = source.sizes[source.sizes <= self.limit]
        budget = self.config.dataset.max_tokens
        if budget and len(readable) and readable.max() > budget:
            raise ValueError(
                f"the longest sentence of {split} has {readable.max()} tokens, more than the "
                f"{budget} of --max-tokens; allow that many"
            )
        return dataset

    def too_long(self, split: str) -> set[int]:
        """Numbers of the sentences that the teacher cannot read."""
        sizes = self.datasets[split].src_sizes
        return {number for number, size in enumerate(sizes) if size > self.limit}

    def translate(self, chunk: Chunk) -> dict[int, list[Hypothesis]]:
        """The best translations of every readable sentence of a chunk, by its number."""
        # Sampling, if asked for, must not depend on which chunks this process has done before.
        utils.set_torch_seed((self.config.common.seed or 1) + chunk.number)
        batches = self.task.get_batch_iterator(
            self.datasets[chunk.split],
            max_tokens=self.config.dataset.max_tokens,
            max_sentences=self.config.dataset.batch_size,
            max_positions=(self.limit, sys.maxsize),
            ignore_invalid_inputs=True,
            num_shards=chunk.total,
            shard_id=chunk.number,
            disable_iterator_cache=True,
        ).next_epoch_itr(shuffle=False)
        found: dict[int, list[Hypothesis]] = {}
        for batch in batches:
            if "net_input" in batch:
                found.update(self._translate_batch(batch))
        return found

    def _translate_batch(self, batch: dict) -> dict[int, list[Hypothesis]]:
        numbers = batch["id"].tolist()
        if self.cuda:
            batch = utils.move_to_cuda(batch)
        found = self.task.inference_step(self.generator, self.models, batch)
        best = [[self._hypothesis(each) for each in some[: self.nbest]] for some in found]
        return dict(zip(numbers, best, strict=True))

    def _hypothesis(self, found: dict) -> Hypothesis:
        text = self.task.target_dictionary.string(found["tokens"].int().cpu())
        return Hypothesis(text, float(found["score"]))


def _choose_branch(config, teacher: Source) -> None:
    """Sets which branch the model of a checkpoint decodes with.

    Raises:
        ValueError: It has no branches.
    """
    if not hasattr(config, "decode_branch"):
        raise ValueError(
            f"teacher {teacher} names branch {teacher.branch}, but {teacher.path} is a plain "
            f"network without branches; leave ':{teacher.branch}' out"
        )
    with open_dict(config) if OmegaConf.is_config(config) else contextlib.nullcontext():
        config.decode_branch = teacher.branch
