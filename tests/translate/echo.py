"""A translator without a model: it says every word of its source backwards."""

from tsa_mt.translate.subwords import Words
from tsa_mt.translate.translator import Decoding, Translator


class Echo(Translator):
    """Reads words; its k-th hypothesis ends in k marks."""

    def __init__(self, limit: int = 50, **options):
        super().__init__(Words(), Decoding(**options), limit)
        self.batches: list[list[list[str]]] = []

    def decode_batch(self, sentences):
        self.batches.append([list(pieces) for pieces in sentences])
        return [
            [
                ([word[::-1] for word in pieces] + ["!"] * rank, -1.0 - rank)
                for rank in range(self.decoding.beam)
            ]
            for pieces in sentences
        ]
