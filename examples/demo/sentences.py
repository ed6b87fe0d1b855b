"""Sentences of the demo corpus: clauses from the templates, alone or joined by connectives.

A ``Sampler`` fills templates for one split of the corpus. Which fillers a slot may take in which
split is decided once and for all by a hash: every slot of every template has its own small set of
fillers that only the test split uses there, another for validation, and the rest for training. So
no combination of template and filler is shared by two splits, while each filler is free to occur in
training with other templates.
"""

import hashlib
import random
import re
from dataclasses import replace
from functools import cache
from math import ceil
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from frames import ALL_TENSES, ANIMATE, FRAMES, Frame
from grammar import REFLEXIVE, Clause, Phrase
from lexicon import KINDS, Atom

TEST_SHARE, VALID_SHARE = 0.08, 0.04
PAST, OPEN = ("past",), tuple(tense for tense in ALL_TENSES if tense != "past")
PLAN = ("future", "must", "can", "should")

PRONOUNS = [
    Phrase("I", {"nom": "ich"}, "ich"),
    Phrase("we", {"nom": "wir"}, "wir"),
    Phrase("he", {"nom": "er"}, "er"),
    Phrase("she", {"nom": "sie"}, "er"),
    Phrase("they", {"nom": "sie"}, "sie"),
]
HE, SHE = PRONOUNS[2:4]
POLITE, INFORMAL = Phrase("you", {"nom": "Sie"}, "sie"), Phrase("you", {"nom": "du"}, "du")

Sentence = Tuple[str, str, str]  # English, German, closing mark
Pair = Tuple[str, str]


@cache
def pool(template: str, slot: str, kind: str, split: str) -> Tuple[Atom, ...]:
    """The fillers that a slot of a template may take in a split; never empty."""

    def rank(atom: Atom) -> bytes:
        return hashlib.sha256(f"{template}\t{slot}\t{atom.key}".encode()).digest()

    atoms = sorted(KINDS[kind], key=rank)
    test = ceil(TEST_SHARE * len(atoms))
    valid = test + ceil(VALID_SHARE * len(atoms))
    return tuple({"test": atoms[:test], "valid": atoms[test:valid], "train": atoms[valid:]}[split])


@cache
def frames_for(tenses: Tuple[str, ...], kind: str) -> Tuple[Frame, ...]:
    """The templates that allow one of the tenses and, unless it is empty, the kind of subject."""
    return tuple(f for f in FRAMES if kind in ("", f.subject) and set(tenses) & set(f.tenses))


def contract(german: str) -> str:
    """Join preposition and article: `in dem` to `im`, `zu der` to `zur`, `an dem` to `am`."""
    german = re.sub(r"\b(in|an) dem\b", lambda match: match[1][0] + "m", german)
    return german.replace("zu dem ", "zum ").replace("zu der ", "zur ")


def put_english(template: str, phrases: Dict[str, Phrase]) -> str:
    """Put the English side of phrases into the slots of a template."""
    return template.format(**{slot: phrase.english for slot, phrase in phrases.items()})


class Sampler:
    """Draws clauses for one split, and remembers which fillers it put where.

    Args:
        split: ``train``, ``valid`` or ``test``.
        seed: Seed of all choices.

    Attributes:
        used: Every (template, slot, filler) of the sentence drawn last.
        templates: Every template of the sentence drawn last.
    """

    def __init__(self, split: str, seed: int):
        """Start at the beginning of the split's own sequence of random numbers."""
        self.split = split
        self.rng = random.Random(f"{seed} {split}")
        self.used: List[Tuple[str, str, str]] = []
        self.templates: List[str] = []

    def sentence(self) -> Pair:
        """One sentence in both languages."""
        self.used, self.templates = [], []
        weights, patterns = zip(*PATTERNS, strict=True)
        english, german, mark = self.rng.choices(patterns, weights)[0](self)
        return tuple(text[0].upper() + text[1:] + mark for text in (english, german))

    def fill(self, template: str, slot: str, kind: str) -> Phrase:
        """A filler for a slot, from what this split may use there; not one twice if it can be."""
        atoms = pool(template, slot, kind, self.split)
        taken = {key for _, _, key in self.used}
        atom = self.rng.choice([atom for atom in atoms if atom.key not in taken] or atoms)
        self.used.append((template, slot, atom.key))
        return atom.make(self.rng)

    def fill_slots(self, template: str, slots: Sequence[str]) -> Dict[str, Phrase]:
        """A filler for every slot; the kind of a slot is its name without a number."""
        return {slot: self.fill(template, slot, slot.rstrip("0123456789")) for slot in slots}

    def clause(
        self,
        tenses: Sequence[str] = ALL_TENSES,
        subject: Optional[Phrase] = None,
        kind: str = "",
        where: Callable[[Frame], bool] = lambda frame: True,
        negated: bool = False,
    ) -> Clause:
        """A clause from a random template.

        Args:
            tenses: The tenses to choose from.
            subject: The subject; one that suits the template if not given.
            kind: The kind of ``subject``, which the template has to accept.
            where: What the template has to satisfy besides.
            negated: Put the German negation at its place.
        """
        frame = self.rng.choice([f for f in frames_for(tuple(tenses), kind) if where(f)])
        self.templates.append(frame.name)
        tense = self.rng.choice([tense for tense in frame.tenses if tense in tenses])
        subject = subject or self.subject(frame)
        phrases = self.fill_slots(frame.name, frame.slots)
        particles = {"refl": REFLEXIVE[subject.person], "nicht": "nicht" if negated else ""}
        german = " ".join(frame.german.format(**phrases, **particles).split())
        english = put_english(frame.english, phrases)
        return Clause(subject, frame.verb, tense, english, contract(german))

    def subject(self, frame: Frame) -> Phrase:
        """A subject for a template; people are pronouns now and then."""
        if frame.subject == ANIMATE and self.rng.random() < 0.4:
            return self.rng.choice(PRONOUNS)
        return self.fill(frame.name, "subject", frame.subject)

    def somebody(self, template: str) -> Phrase:
        """A person by name."""
        return self.fill(template, "name", self.rng.choice(("name", "title")))

    def pick(self, lines: str) -> List[str]:
        """One line of a table, cut at its bars."""
        line = self.rng.choice(lines.strip().split("\n"))
        return [field.strip() for field in line.split("|")]

    def subordinate(
        self, tenses: Sequence[str], subject: Optional[Phrase] = None, reasons: float = 0.125
    ) -> Pair:
        """A clause for after a conjunction; a share of ``reasons`` carries a reason of its own."""
        clause = self.clause(tenses, subject, ANIMATE if subject else "")
        english, german = clause.statement(), clause.final()
        if self.rng.random() < reasons:
            reason = self.clause((clause.tense,) if clause.tense == "past" else OPEN)
            english += f" because {reason.statement()}"
            german += f", weil {reason.final()}"
        return english, german


# ---------------------------------------------------------------------------- patterns

PATTERNS: List[Tuple[int, Callable[[Sampler], Sentence]]] = []


def pattern(weight: int) -> Callable:
    """Register a kind of sentence with its share of the corpus."""

    def register(function: Callable[[Sampler], Sentence]) -> Callable[[Sampler], Sentence]:
        PATTERNS.append((weight, function))
        return function

    return register


@pattern(24)
def statement(s: Sampler) -> Sentence:
    """The train arrives ..."""
    clause = s.clause()
    return clause.statement(), clause.main(), "."


@pattern(7)
def negation(s: Sampler) -> Sentence:
    """The train does not arrive ..."""
    tenses = ("present", "past", "future", "can")
    clause = s.clause(tenses, where=lambda frame: frame.negatable, negated=True)
    return clause.negation(), clause.main(), "."


# What says when, by tense; `open` serves the future and the modals.
WHEN = {
    "past": """
        {ago} | {ago}
        on {date} | am {date}
        last {weekday} | letzten {weekday}
        yesterday at {time} | gestern um {time}
        in {year} | im Jahr {year}
        yesterday | gestern
        last week | letzte Woche""",
    "open": """
        {hence} | {hence}
        on {date} | am {date}
        next {weekday} | nächsten {weekday}
        tomorrow at {time} | morgen um {time}
        tomorrow | morgen
        next month | nächsten Monat""",
    "present": """
        every {weekday} | jeden {weekday}
        in {month} | im {month}
        every day at {time} | jeden Tag um {time}
        today | heute""",
}


@pattern(12)
def fronted(s: Sampler) -> Sentence:
    """On March 5, ...: the German verb comes before its subject."""
    clause = s.clause(where=lambda frame: not frame.temporal)
    table = WHEN[clause.tense if clause.tense in WHEN else "open"]
    english, german = s.pick(table)
    phrases = s.fill_slots(f"when {english}", re.findall(r"\{(\w+)\}", english))
    english = f"{put_english(english, phrases)}, {clause.statement()}"
    return english, f"{german.format(**phrases)} {clause.inverted()}", "."


@pattern(6)
def question(s: Sampler) -> Sentence:
    """Does the train arrive ...?"""
    clause = s.clause()
    return clause.question(), clause.inverted(), "?"


QUESTION_WORDS = """
    why | warum
    when | wann
    since when | seit wann
    how often | wie oft
"""


@pattern(5)
def question_with_word(s: Sampler) -> Sentence:
    """Why does the train arrive ...?"""
    english, german = s.pick(QUESTION_WORDS)
    tenses = ("present",) if english == "since when" else ("past", "future", "can")
    clause = s.clause(tenses, where=lambda frame: english == "why" or not frame.temporal)
    return f"{english} {clause.question()}", f"{german} {clause.inverted()}", "?"


@pattern(5)
def request(s: Sampler) -> Sentence:
    """Please open ..., Mrs. Weber: the polite imperative."""
    clause = s.clause(("must",), POLITE, ANIMATE)
    somebody = s.fill("request", "name", "title")
    english = f"please {clause.verb.english[0]} {clause.english}, {somebody.english}"
    return english, f"{clause.polite_imperative()}, {somebody}", "."


@pattern(8)
def address(s: Sampler) -> Sentence:
    """Mrs. Weber, you must ... (Sie); Anna, you must ... (du)."""
    kind, you = s.rng.choice((("title", POLITE), ("name", INFORMAL)))
    clause, somebody = s.clause(subject=you, kind=ANIMATE), s.fill("address", "name", kind)
    if s.rng.random() < 0.4:
        english, german, mark = clause.question(), clause.inverted(), "?"
    else:
        english, german, mark = clause.statement(), clause.main(), "."
    return f"{somebody.english}, {english}", f"{somebody}, {german}", mark


@pattern(4)
def address_with_doubt(s: Sampler) -> Sentence:
    """Anna, do you know whether ...?"""
    kind, knows = s.rng.choice((("title", "wissen Sie"), ("name", "weißt du")))
    somebody, (english, german) = s.fill("doubt", "name", kind), s.subordinate(ALL_TENSES)
    conjunction = s.rng.choice((("whether", "ob"), ("why", "warum")))
    english = f"{somebody.english}, do you know {conjunction[0]} {english}"
    return english, f"{somebody}, {knows}, {conjunction[1]} {german}", "?"


# English and German conjunction, tenses before it, tenses after it
LAST = """
    because | weil | past | past
    because | weil | open | open
    although | obwohl | past | past
    although | obwohl | open | open
    before | bevor | past | past
    before | bevor | plan | present
    while | während | past | past
    until | bis | plan | present
    so that | damit | open | can
"""
# The same where the subordinate clause comes first: its tenses, then those of the main clause
FIRST = """
    although | obwohl | past | past
    although | obwohl | present | plan
    if | wenn | present | plan
    as soon as | sobald | present | plan
    because | weil | past | past
    because | weil | open | open
"""
TENSE_GROUPS = {"past": PAST, "open": OPEN, "plan": PLAN, "present": ("present",), "can": ("can",)}


@pattern(15)
def subordinate_last(s: Sampler) -> Sentence:
    """..., because the train arrived: the German verb goes to the end."""
    english, german, before, after = s.pick(LAST)
    main = s.clause(TENSE_GROUPS[before])
    reason = s.subordinate(TENSE_GROUPS[after], reasons=0)
    return f"{main.statement()} {english} {reason[0]}", f"{main.main()}, {german} {reason[1]}", "."


@pattern(12)
def subordinate_first(s: Sampler) -> Sentence:
    """If the train arrives, ...: the German main clause begins with its verb."""
    english, german, before, after = s.pick(FIRST)
    condition = s.subordinate(TENSE_GROUPS[before], reasons=0)
    main = s.clause(TENSE_GROUPS[after])
    english = f"{english} {condition[0]}, {main.statement()}"
    return english, f"{german} {condition[1]}, {main.inverted()}", "."


@pattern(8)
def coordinated(s: Sampler) -> Sentence:
    """..., but the train arrived; ..., so the train arrived."""
    english, german = s.pick("and | und\nbut | aber\nor | oder\nso | deshalb")
    tenses = s.rng.choice((PAST, OPEN))
    first, second = s.clause(tenses), s.clause(tenses)
    rest = second.inverted() if german == "deshalb" else second.main()
    comma = "" if german in ("und", "oder") else ","
    english = f"{first.statement()}, {english} {second.statement()}"
    return english, f"{first.main()}{comma} {german} {rest}", "."


REPORTS = """
    says that | sagt, dass
    believes that | glaubt, dass
    hopes that | hofft, dass
    does not believe that | glaubt nicht, dass
    does not know whether | weiß nicht, ob
    wrote that | hat geschrieben, dass
    asked whether | hat gefragt, ob
    forgot that | hat vergessen, dass
"""


@pattern(14)
def report(s: Sampler) -> Sentence:
    """Anna says that she ..."""
    english, german = s.pick(REPORTS)
    somebody = s.somebody(f"report {english}")
    pronoun = SHE if somebody.gender == "f" else HE
    clause = s.subordinate(ALL_TENSES, pronoun if s.rng.random() < 0.4 else None)
    return f"{somebody.english} {english} {clause[0]}", f"{somebody} {german} {clause[1]}", "."


INTENTIONS = """
    hopes to | hofft
    tries to | versucht
    promised to | hat versprochen
    forgot to | hat vergessen
    decided to | hat beschlossen
    refuses to | weigert sich
    was allowed to | hat die Erlaubnis bekommen
"""


@pattern(8)
def intention(s: Sampler) -> Sentence:
    """Anna hopes to ...: `zu` stands inside a separable verb."""
    english, german = s.pick(INTENTIONS)
    somebody = s.somebody(f"intention {english}")
    clause = s.clause(("must",), somebody, ANIMATE)
    english = f"{somebody.english} {english} {clause.verb.english[0]} {clause.english}"
    return english, f"{somebody} {german}, {clause.with_zu()}", "."


@pattern(5)
def purpose(s: Sampler) -> Sentence:
    """... in order to ...: `um` ... `zu`."""
    main = s.clause(kind=ANIMATE)
    aim = s.clause(("must",), main.subject, ANIMATE)
    english = f"{main.statement()} in order to {aim.verb.english[0]} {aim.english}"
    return english, f"{main.main()}, um {aim.with_zu()}", "."


RELATIVES = {"m": "der", "f": "die", "n": "das", "p": "die"}


@pattern(10)
def relative(s: Sampler) -> Sentence:
    """The customer who lives in ... buys ...: the relative pronoun agrees with its noun."""
    kind = s.rng.choice((ANIMATE, ANIMATE, "vehicle", "building", "event"))
    head = s.fill("relative", kind, f"definite_{kind}")
    pronoun = Phrase("that", {"nom": RELATIVES[head.gender]}, head.person, gender=head.gender)
    if kind == ANIMATE:
        pronoun = replace(pronoun, english="who")
    inner = s.clause(subject=pronoun, kind=kind)
    german = {"nom": f"{head}, {inner.final()},"}
    subject = Phrase(f"{head.english} {inner.statement()}", german, head.person)
    main = s.clause(subject=subject, kind=kind)
    return main.statement(), main.main(), "."
