"""English and German morphology for the demo corpus: noun phrases, verbs and clauses.

Only what the corpus needs, but that without exceptions: determiners and adjectives agree with the
noun in gender, number and case; weak nouns are declined; separable verbs separate in a main clause
and close up in a subordinate one; the perfect, the future and the modals put their second part at
the end; the finite verb stands second, first or last according to the kind of clause.
"""

from dataclasses import dataclass, field
from typing import Mapping, Tuple

CASES = ("nom", "acc", "dat", "gen")
GENDERS = ("m", "f", "n", "p")  # masculine, feminine, neuter, plural of any gender

# Endings, or articles: one row per case, one column per gender; a hyphen is no ending.
DEFINITE = """
    nom der die das die
    acc den die das die
    dat dem der dem den
    gen des der des der"""
DER_WORD = """
    nom er e es e
    acc en e es e
    dat em er em en
    gen es er es er"""
EIN_WORD = """
    nom - e - e
    acc en e - e
    dat em er em en
    gen es er es er"""
# Adjective endings after `der` and its like, after `ein` and its like, and after a bare numeral.
WEAK = """
    nom e e e en
    acc en e e en
    dat en en en en
    gen en en en en"""
MIXED = """
    nom er e es en
    acc en e es en
    dat en en en en
    gen en en en en"""
STRONG = """
    nom er e es e
    acc en e es e
    dat em er em en
    gen en er en er"""

Endings = Mapping[Tuple[str, str], str]


def endings(table: str) -> Endings:
    """Read a table; the keys are pairs of case and gender."""
    rows = (line.split() for line in table.strip().split("\n"))
    return {
        (case, gender): cell.replace("-", "")
        for case, *cells in rows
        for gender, cell in zip(GENDERS, cells, strict=True)
    }


def conjugation(forms: str) -> Mapping[str, str]:
    """A verb's present tense by person; `wir` stands for all plurals and for polite `Sie`."""
    return dict(zip(("ich", "du", "er", "wir"), forms.split(), strict=True))


HABEN = conjugation("habe hast hat haben")
SEIN = conjugation("bin bist ist sind")
REFLEXIVE = {"ich": "mich", "du": "dich", "er": "sich", "wir": "uns", "sie": "sich"}


@dataclass(frozen=True)
class Phrase:
    """A filler in both languages.

    Attributes:
        english: The English words.
        german: The German words by form: the four cases, or what the kind of filler offers.
        person: Which German verb form a subject takes: ich, du, er, wir or sie (plural, polite).
        english_person: The same for the English verb, where it differs.
        gender: m, f or n; p for a plural.
    """

    english: str
    german: Mapping[str, str]
    person: str = "er"
    english_person: str = ""
    gender: str = "n"

    def __format__(self, form: str) -> str:
        """The German words in the form that a template asks for, e.g. ``{thing:acc}``."""
        return self.german[form or "nom"]


def invariable(english: str, german: str, **attributes: str) -> Phrase:
    """A filler that is the same in all cases, such as a date or a town."""
    return Phrase(english, dict.fromkeys(CASES, german), **attributes)


@dataclass(frozen=True)
class Noun:
    """A countable noun; a ``weak`` one takes its genitive form in all cases but the nominative."""

    english: str
    english_plural: str
    gender: str
    german: str
    genitive: str
    plural: str
    weak: bool = False

    def form(self, case: str, plural: bool) -> str:
        """The German noun in one case and number."""
        if plural:
            return self.plural + ("n" if case == "dat" and self.plural[-1] not in "ns" else "")
        return self.genitive if case == "gen" or self.weak and case != "nom" else self.german


@dataclass(frozen=True)
class Determiner:
    """An article, possessive, demonstrative or numeral with the endings that go with it."""

    english: str
    stem: str
    endings: Endings
    adjective: Endings

    def german(self, case: str, gender: str) -> str:
        """The German determiner in one case and gender."""
        return self.stem + self.endings[case, gender]


def noun_phrase(
    determiner: Determiner, adjective: Tuple[str, str], noun: Noun, plural: bool
) -> Phrase:
    """Put determiner, adjective (English word and German stem, may be empty) and noun together."""
    gender = "p" if plural else noun.gender
    german = {}
    for case in CASES:
        inflected = adjective[1] and adjective[1] + determiner.adjective[case, gender]
        words = (determiner.german(case, gender), inflected, noun.form(case, plural))
        german[case] = " ".join(word for word in words if word)
    article, head = determiner.english, noun.english_plural if plural else noun.english
    rest = f"{adjective[0]} {head}".strip()
    if article == "a" and rest[0] in "aeiou":
        article = "an"
    return Phrase(f"{article} {rest}", german, "sie" if plural else "er", gender=gender)


@dataclass(frozen=True)
class Verb:
    """A verb in both languages.

    Attributes:
        english: Base form, third person singular, past tense.
        german: The German present tense by person, without the prefix.
        infinitive: The German infinitive without the prefix.
        prefix: The separable prefix, or nothing.
        participle: The German past participle.
        auxiliary: The present of ``haben`` or ``sein``.
    """

    english: Tuple[str, str, str]
    german: Mapping[str, str]
    infinitive: str
    prefix: str
    participle: str
    auxiliary: Mapping[str, str]


@dataclass(frozen=True)
class Tense:
    """How a verb is put together: the auxiliaries of both languages.

    Attributes:
        english: The auxiliary for the third person singular and for all others.
        infix: What stands between auxiliary and verb, such as ``to``.
        german: The finite German auxiliary by person; empty for the present and the perfect.
    """

    english: Tuple[str, str] = ("", "")
    infix: str = ""
    german: Mapping[str, str] = field(default_factory=dict)


def modal(english: str, german: str, infix: str = "", third: str = "") -> Tense:
    """A tense whose German half is a finite auxiliary with an infinitive at the end."""
    return Tense((third or english, english), infix, conjugation(german))


TENSES = {
    "present": Tense(),
    "past": Tense(),
    "future": modal("will", "werde wirst wird werden"),
    "must": modal("must", "muss musst muss müssen"),
    "can": modal("can", "kann kannst kann können"),
    "should": modal("should", "soll sollst soll sollen"),
    "want": modal("want", "will willst will wollen", "to ", "wants"),
    "like": modal("would like", "möchte möchtest möchte möchten", "to "),
}


def plural_as(forms: Mapping[str, str], person: str) -> str:
    """Look a verb form up; `sie` and polite `Sie` take the form of `wir`."""
    return forms["wir" if person == "sie" else person]


@dataclass(frozen=True)
class Clause:
    """A subject, a verb in a tense, and the rest of the clause in both languages.

    ``german`` is what stands between the finite verb and the part of the verb that comes last.
    """

    subject: Phrase
    verb: Verb
    tense: str
    english: str
    german: str

    # English

    def _english_verb(self, split: bool) -> Tuple[str, str]:
        """Auxiliary and main verb; ``split`` forces an auxiliary, for a question or a negation."""
        person = self.subject.english_person or self.subject.person
        third, (base, present, past) = person == "er", self.verb.english
        if base == "be" and self.tense in ("present", "past"):
            forms = {"present": ("am", "is", "are"), "past": ("was", "was", "were")}[self.tense]
            return forms[{"ich": 0, "er": 1}.get(person, 2)], ""
        if self.tense in ("present", "past") and not split:
            return "", past if self.tense == "past" else present if third else base
        if self.tense in ("present", "past"):
            return "did" if self.tense == "past" else "does" if third else "do", base
        tense = TENSES[self.tense]
        auxiliary = tense.english[0 if third else 1]
        if split and self.tense == "want":
            return "does" if third else "do", "want to " + base
        return auxiliary, tense.infix + base

    def statement(self) -> str:
        """English word order: subject, verb, rest."""
        return join(self.subject.english, *self._english_verb(False), self.english)

    def negation(self) -> str:
        """The English statement with `not`."""
        auxiliary, verb = self._english_verb(True)
        negated = "cannot" if auxiliary == "can" else auxiliary + " not"
        return join(self.subject.english, negated, verb, self.english)

    def question(self) -> str:
        """The English question: auxiliary first."""
        auxiliary, verb = self._english_verb(True)
        if self.tense == "like":
            auxiliary, verb = "would", "like to " + self.verb.english[0]
        return join(auxiliary, self.subject.english, verb, self.english)

    # German

    def _german_verb(self) -> Tuple[str, str]:
        """The finite verb and what closes the clause."""
        person, verb = self.subject.person, self.verb
        if self.tense == "present":
            return plural_as(verb.german, person), verb.prefix
        if self.tense == "past":
            return plural_as(verb.auxiliary, person), verb.participle
        return plural_as(TENSES[self.tense].german, person), verb.prefix + verb.infinitive

    def main(self) -> str:
        """German main clause: the finite verb is second."""
        finite, end = self._german_verb()
        return join(f"{self.subject}", finite, self.german, end)

    def inverted(self) -> str:
        """German question, or a main clause after something else: the finite verb comes first."""
        finite, end = self._german_verb()
        return join(finite, f"{self.subject}", self.german, end)

    def final(self) -> str:
        """German subordinate clause: the finite verb is last."""
        finite, end = self._german_verb()
        verb = end + finite if self.tense == "present" else f"{end} {finite}"
        return join(f"{self.subject}", self.german, verb)

    def polite_imperative(self) -> str:
        """German request to somebody addressed as `Sie`."""
        return join(self.verb.infinitive, "Sie bitte", self.german, self.verb.prefix)

    def with_zu(self) -> str:
        """German infinitive clause: `zu` goes between a separable prefix and the verb."""
        verb = self.verb
        end = f"{verb.prefix}zu{verb.infinitive}" if verb.prefix else f"zu {verb.infinitive}"
        return join(self.german, end)


def join(*words: str) -> str:
    """Join what is not empty with single spaces."""
    return " ".join(word for word in words if word)
