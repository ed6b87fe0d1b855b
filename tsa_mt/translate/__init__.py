"""Translating with whatever a training or an export left: one class, one way of decoding.

The way of a text: `lines` reads it, `subwords` cuts it into pieces, `parts` divides what is too
long for the model, a `translator` sorts and batches, one of the `readers` decodes. Every reader
decodes as ``fairseq-generate --beam 5`` does, so that what two of them say can be compared.
"""

from tsa_mt.translate.readers import load_translator
from tsa_mt.translate.translator import Hypothesis, Translator

__all__ = ["Hypothesis", "Translator", "load_translator"]
