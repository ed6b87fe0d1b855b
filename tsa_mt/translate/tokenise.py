"""Moses tokenisation around a subword model, for models whose training text was tokenised."""

from typing import List, Optional, Tuple

from tsa_mt.translate.subwords import Codec


class Moses:
    """sacremoses as Moses' tokenizer.perl and detokenizer.perl, which nearly all corpora saw.

    Args:
        languages: Source and target.
        split_hyphens: Whether ``a-b`` becomes ``a @-@ b``.

    Raises:
        ValueError: The languages are not known.
    """

    def __init__(self, languages: Tuple[Optional[str], Optional[str]], split_hyphens: bool):
        from sacremoses import MosesDetokenizer, MosesTokenizer

        if None in languages:
            raise ValueError("the model does not say its languages, which Moses tokenises by")
        self.split_hyphens = split_hyphens
        self.tokeniser = MosesTokenizer(lang=languages[0])
        self.detokeniser = MosesDetokenizer(lang=languages[1])

    def tokenise(self, text: str) -> str:
        """Parts words from punctuation."""
        text = self.tokeniser.tokenize(
            text, aggressive_dash_splits=self.split_hyphens, return_str=True
        )
        # tokenizer.perl parts the last full stop of a line even from an abbreviation
        if len(text) > 1 and text.endswith(".") and text[-2] not in " .":
            text = f"{text[:-1]} ."
        return text

    def detokenise(self, text: str) -> str:
        """Joins what `tokenise` parted."""
        return self.detokeniser.detokenize(text.split())


class Tokenised(Codec):
    """A subword model behind a tokeniser.

    Args:
        inner: The subword model.
        moses: The tokeniser; ``None`` where text is lower-cased only.
        lowercase: Whether sources are lower-cased.
    """

    def __init__(self, inner: Codec, moses: Optional[Moses], lowercase: bool):
        self.inner, self.moses, self.lowercase = inner, moses, lowercase
        self.languages = inner.languages

    def split(self, text: str) -> List[str]:
        """See `Codec.split`."""
        text = text if self.moses is None else self.moses.tokenise(text)
        return self.inner.split(text.lower() if self.lowercase else text)

    def join(self, pieces: List[str]) -> str:
        """See `Codec.join`."""
        text = self.inner.join(pieces)
        return text if self.moses is None else self.moses.detokenise(text)
