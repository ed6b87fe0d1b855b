"""``tsa-mt plan``: what it promises is what real updates under fairseq's trainer cost."""

import argparse
import json
import time
from types import SimpleNamespace

import pytest
import torch
from fairseq import options as fairseq_options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer
from torch.utils.flop_counter import FlopCounterMode

from tsa_mt import cli
from tsa_mt.plan import command, report
from tsa_mt.plan.images import ImageSubject
from tsa_mt.plan.pretence import pretending
from tsa_mt.plan.report import Setting, costs
from tsa_mt.plan.translation import TranslationSubject
from tsa_mt.plan.update import update_cost

TOLERANCE = 0.15  # the promise for memory; operations and parameters are held to be exact
SMALL = {
    "encoder_embed_dim": 32,
    "encoder_ffn_embed_dim": 64,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}
aten = torch.ops.aten


def attention_flops(query, key, value, *rest, out_shape=None, **options):
    batch, heads, length, dim = query
    return 4 * batch * heads * length * key[2] * dim


MISSING_IN_TORCH = {
    aten.addmm_: lambda own, left, right, **rest: 2 * left[0] * left[1] * right[1],
    aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, *rest, **options: 5 * attention_flops(*rest) // 2
    ),
}


class PlainTask(FairseqTask):
    """fairseq's own training step, over the dictionaries of a subject."""

    def __init__(self, subject):
        super().__init__(None)
        self.subject = subject.task()

    @property
    def target_dictionary(self):
        return getattr(self.subject, "target_dictionary", None)


def real_trainer(subject, optimizer, *flags):
    """fairseq's trainer around the model of a subject."""
    command = ["DATA", "--arch", subject.arch, "--optimizer", optimizer, "--lr", "0.001"]
    parsed = fairseq_options.parse_args_and_arch(
        fairseq_options.get_training_parser(), [*command, "--disable-validation", *flags]
    )
    model = subject.model()
    criterion = subject.criterion(model)
    config = convert_namespace_to_omegaconf(parsed)
    return Trainer(config, PlainTask(subject), model, criterion)


def real_peak(subject, optimizer, *flags, batches=1):
    """Most bytes that tensors and kernels held on a CPU, from an empty start to two updates."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        trainer = real_trainer(subject, optimizer, "--cpu", *flags)
        samples = [subject.batch() for _ in range(batches)]
        for _ in range(2):
            trainer.train_step(samples)
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return trainer, samples, peak


def real_flops(trainer, samples):
    with FlopCounterMode(display=False, custom_mapping=MISSING_IN_TORCH) as counter:
        trainer.train_step(samples)
    return counter.get_total_flops()


def text(arch="tree_transformer_tiny", max_tokens=400, vocabulary=(300, 300), **options):
    return TranslationSubject(arch, options, vocabulary=vocabulary, max_tokens=max_tokens)


def image(objective, batch_size=8, arch="tree_resnet20", **options):
    return ImageSubject(arch, {"kd_objective": objective, **options}, batch_size=batch_size)


CASES = {
    "tsa": (text(kd_objective="tsa"), "adam", 1),
    "okddip, tied, two batches": (
        text("tree_transformer_multi30k", 200, kd_objective="okddip", share_all_embeddings=True),
        "adam",
        2,
    ),
    "pcl on an own tree": (
        text("tree_transformer_iwslt_de_en", kd_objective="pcl", tree="3(3,1(2,4))", **SMALL),
        "adam",
        1,
    ),
    "rdrop": (text(kd_objective="rdrop"), "sgd", 1),
    "dml, own encoders, wide vocabulary": (
        text(vocabulary=(90, 4000), kd_objective="dml", peer_encoders=True),
        "adam",
        1,
    ),
    "sokd": (text(kd_objective="sokd"), "adam", 1),
    "images, tsa": (image("tsa"), "momentum_sgd", 1),
    "images, ahbf": (image("ahbf", batch_size=4), "momentum_sgd", 1),
    "images, sokd": (image("sokd", batch_size=16), "momentum_sgd", 1),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_planned_update_is_a_real_one(case):
    subject, optimizer, batches = case
    planned = costs(subject, Setting("cpu", optimizer, update_freq=batches)).training
    trainer, samples, peak = real_peak(subject, optimizer, batches=batches)
    parameters = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    assert planned.parameters == parameters
    assert planned.flops == pytest.approx(real_flops(trainer, samples), rel=1e-3)
    assert planned.peak_bytes == pytest.approx(peak, rel=TOLERANCE)
