"""The sentences that share a batch stay together when a training is started again.

fairseq groups sentences into batches once, in the first epoch of the process, by a seed that holds
the number of that epoch. A training that goes on in its fifth epoch would group them anew: in the
middle of an epoch some sentences would come twice and others not at all. A checkpoint therefore
tells the epoch whose grouping the run has. Data that are grouped in every epoch need none of this.
"""

import functools
from typing import Any, Dict

from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer

GROUPED_IN = "grouped_in_epoch"
"""Key of the epoch among what a checkpoint keeps."""

_epoch = 0
_of_training = False


def kept() -> Dict[str, int]:
    """What a checkpoint keeps."""
    return {GROUPED_IN: _epoch}


def restore(found: Dict[str, Any]) -> None:
    """Takes the grouping of a run that goes on; without a word of it fairseq's own stays."""
    global _epoch
    _epoch = found.get(GROUPED_IN, 0)


def install() -> None:
    """Replaces what makes fairseq's batches of training data; once."""
    make, train = FairseqTask.get_batch_iterator, Trainer.get_train_iterator
    if getattr(make, "keeps_groups", False):
        return

    @functools.wraps(make)
    def make_kept(self, dataset, *args, seed=1, epoch=1, disable_iterator_cache=False, **kwargs):
        options = {**kwargs, "epoch": epoch, "disable_iterator_cache": disable_iterator_cache}
        grouped_once = self.can_reuse_epoch_itr(dataset) and not (
            disable_iterator_cache or kwargs.get("update_epoch_batch_itr")
        )
        if not (_of_training and grouped_once and not args):
            return make(self, dataset, *args, seed=seed, **options)
        iterator = make(self, dataset, seed=seed + _epoch - epoch, **options)
        iterator.seed = seed  # which shuffles the batches of an epoch
        return iterator

    @functools.wraps(train)
    def train_kept(self, epoch, *args, **kwargs):
        global _epoch, _of_training
        _epoch, _of_training = _epoch or epoch, True
        try:
            return train(self, epoch, *args, **kwargs)
        finally:
            _of_training = False

    make_kept.__dict__["keeps_groups"] = True
    FairseqTask.get_batch_iterator, Trainer.get_train_iterator = make_kept, train_kept
