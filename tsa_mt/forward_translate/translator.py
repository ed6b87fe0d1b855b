"""Beam search over one chunk of a corpus, with fairseq's own generator.

``fairseq-generate`` would load the teacher again for every chunk, fails on a chunk without
sentences and reads the references, which may be too long for it; so its loop is here, on the source
side alone, and nothing else of it.
"""

import ast
import sys

import torch
from fairseq import checkpoint_utils, options, tasks, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from tsa_mt.forward_translate.corpus import Corpus
from tsa_mt.forward_translate.plan import Chunk
from tsa_mt.teacher import check_dictionaries


class Translator:
    """A teacher (or several, as an ensemble) ready to decode.

    Args:
        corpus: What will be translated.
        teacher: Checkpoints, separated by ``:``.
        flags: Flags of fairseq-generate that say how to decode.

    Raises:
        ValueError: The teacher has other dictionaries, or a sentence that it could read does not
            fit into a batch.
    """

    def __init__(self, corpus: Corpus, teacher: str, flags: list[str]):
        source, target = corpus.languages
        arguments = [str(corpus.folder), *flags, "--path", teacher, "-s", source, "-t", target]
        parser = options.get_generation_parser()
        config = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments))
        utils.import_user_module(config.common)
        self.corpus, self.config = corpus, config
        self.cuda = torch.cuda.is_available() and not config.common.cpu
        self.task = tasks.setup_task(config.task)
        self.models = self._load(utils.split_paths(teacher))
        self.generator = self.task.build_generator(self.models, config.generation)
        limits = (self.task.max_positions(), *(model.max_positions() for model in self.models))
        self.limit = utils.resolve_max_positions(*limits)[0]
        self.datasets = {split: self._dataset(split) for split in corpus.splits}

    def _load(self, paths: list[str]) -> list:
        overrides = ast.literal_eval(self.config.common_eval.model_overrides)
        models = []
        for path in paths:
            state = checkpoint_utils.load_checkpoint_to_cpu(path, overrides)
            check_dictionaries(state, self.task, path)
            (model,), _ = checkpoint_utils.load_model_ensemble([path], task=self.task, state=state)
            if self.config.common.fp16:
                model.half()
            if self.cuda:
                model.cuda()
            model.prepare_for_inference_(self.config)
            models.append(model)
        return models

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

    def translate(self, chunk: Chunk) -> dict[int, str]:
        """The best translation of every readable sentence of a chunk, by its number."""
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
        found: dict[int, str] = {}
        for batch in batches:
            if "net_input" in batch:
                found.update(self._translate_batch(batch))
        return found

    def _translate_batch(self, batch: dict) -> dict[int, str]:
        numbers = batch["id"].tolist()
        if self.cuda:
            batch = utils.move_to_cuda(batch)
        found = self.task.inference_step(self.generator, self.models, batch)
        target = self.task.target_dictionary
        best = [hypotheses[0]["tokens"].int().cpu() for hypotheses in found]
        return {n: target.string(tokens) for n, tokens in zip(numbers, best, strict=True)}
