"""The templates of the demo corpus: one line per clause, hand-written, with slots for fillers.

``FRAMES`` has the columns subject, German verb, the rest of the clause in English, the rest in
German, and, where only some make sense, the tenses. A slot ``{thing}`` is filled by an atom of
that kind (see ``lexicon.KINDS``); ``{thing:acc}`` asks for a German form; a number tells two slots
of one kind apart; ``{refl}`` is the reflexive pronoun and ``{nicht}`` the place of the negation.
"""

import re
from dataclasses import dataclass
from typing import Dict, Tuple

from grammar import HABEN, SEIN, TENSES, Verb, conjugation

# German infinitive with | after a separable prefix and, if it has several translations here, one
# after a colon; first, second, third person singular; participle; auxiliary; English base, third
# person, past
VERBS_TABLE = """
an|kommen; komme kommst kommt; angekommen; sein; arrive arrives arrived
ab|fahren; fahre fährst fährt; abgefahren; sein; depart departs departed
aus|steigen; steige steigst steigt; ausgestiegen; sein; get_off gets_off got_off
um|ziehen; ziehe ziehst zieht; umgezogen; sein; move moves moved
zurück|kommen; komme kommst kommt; zurückgekommen; sein; return returns returned
auf|stehen; stehe stehst steht; aufgestanden; sein; get_up gets_up got_up
ein|schlafen; schlafe schläfst schläft; eingeschlafen; sein; fall_asleep falls_asleep fell_asleep
ein|laden; lade lädst lädt; eingeladen; haben; invite invites invited
ab|holen; hole holst holt; abgeholt; haben; pick_up picks_up picked_up
an|rufen; rufe rufst ruft; angerufen; haben; call calls called
mit|bringen; bringe bringst bringt; mitgebracht; haben; bring brings brought
statt|finden; finde findest findet; stattgefunden; haben; take_place takes_place took_place
teil|nehmen; nehme nimmst nimmt; teilgenommen; haben; take_part takes_part took_part
ab|sagen; sage sagst sagt; abgesagt; haben; cancel cancels canceled
vor|bereiten; bereite bereitest bereitet; vorbereitet; haben; prepare prepares prepared
aus|füllen; fülle füllst füllt; ausgefüllt; haben; fill_in fills_in filled_in
vor|lesen; lese liest liest; vorgelesen; haben; read_out reads_out read_out
vor|stellen; stelle stellst stellt; vorgestellt; haben; introduce introduces introduced
ein|schalten; schalte schaltest schaltet; eingeschaltet; haben; turn_on turns_on turned_on
aus|schalten; schalte schaltest schaltet; ausgeschaltet; haben; turn_off turns_off turned_off
zurück|geben; gebe gibst gibt; zurückgegeben; haben; give_back gives_back gave_back
kommen; komme kommst kommt; gekommen; sein; come comes came
reisen; reise reist reist; gereist; sein; travel travels traveled
fliegen; fliege fliegst fliegt; geflogen; sein; fly flies flew
fahren; fahre fährst fährt; gefahren; sein; drive drives drove
fahren:go; fahre fährst fährt; gefahren; sein; go goes went
laufen; laufe läufst läuft; gelaufen; sein; run runs ran
bleiben; bleibe bleibst bleibt; geblieben; sein; stay stays stayed
sein; bin bist ist; gewesen; sein; be is was
steigen; steige steigst steigt; gestiegen; sein; rise rises rose
sinken; sinke sinkst sinkt; gesunken; sein; fall falls fell
wohnen; wohne wohnst wohnt; gewohnt; haben; live lives lived
arbeiten; arbeite arbeitest arbeitet; gearbeitet; haben; work works worked
besuchen; besuche besuchst besucht; besucht; haben; visit visits visited
schreiben; schreibe schreibst schreibt; geschrieben; haben; write writes wrote
geben; gebe gibst gibt; gegeben; haben; give gives gave
zeigen; zeige zeigst zeigt; gezeigt; haben; show shows showed
schicken; schicke schickst schickt; geschickt; haben; send sends sent
verkaufen; verkaufe verkaufst verkauft; verkauft; haben; sell sells sold
kaufen; kaufe kaufst kauft; gekauft; haben; buy buys bought
bezahlen; bezahle bezahlst bezahlt; bezahlt; haben; pay pays paid
kosten; koste kostest kostet; gekostet; haben; cost costs cost
wiegen; wiege wiegst wiegt; gewogen; haben; weigh weighs weighed
verlieren; verliere verlierst verliert; verloren; haben; lose loses lost
finden; finde findest findet; gefunden; haben; find finds found
suchen; suche suchst sucht; gesucht; haben; look_for looks_for looked_for
reparieren; repariere reparierst repariert; repariert; haben; repair repairs repaired
bauen; baue baust baut; gebaut; haben; build builds built
eröffnen; eröffne eröffnest eröffnet; eröffnet; haben; open opens opened
schließen; schließe schließt schließt; geschlossen; haben; close closes closed
beginnen; beginne beginnst beginnt; begonnen; haben; begin begins began
enden; ende endest endet; geendet; haben; end ends ended
dauern; dauere dauerst dauert; gedauert; haben; last lasts lasted
verschieben; verschiebe verschiebst verschiebt; verschoben; haben; postpone postpones postponed
sprechen; spreche sprichst spricht; gesprochen; haben; speak speaks spoke
lernen; lerne lernst lernt; gelernt; haben; learn learns learned
übersetzen; übersetze übersetzt übersetzt; übersetzt; haben; translate translates translated
lesen; lese liest liest; gelesen; haben; read reads read
unterschreiben; unterschreibe unterschreibst unterschreibt; unterschrieben; haben; sign signs signed
verstehen; verstehe verstehst versteht; verstanden; haben; understand understands understood
unterrichten; unterrichte unterrichtest unterrichtet; unterrichtet; haben; teach teaches taught
warten; warte wartest wartet; gewartet; haben; wait waits waited
freuen; freue freust freut; gefreut; haben; look_forward looks_forward looked_forward
erinnern; erinnere erinnerst erinnert; erinnert; haben; remember remembers remembered
treffen; treffe triffst trifft; getroffen; haben; meet meets met
helfen; helfe hilfst hilft; geholfen; haben; help helps helped
danken; danke dankst dankt; gedankt; haben; thank thanks thanked
gehören; gehöre gehörst gehört; gehört; haben; belong belongs belonged
gratulieren; gratuliere gratulierst gratuliert; gratuliert; haben; \
    congratulate congratulates congratulated
kennen; kenne kennst kennt; gekannt; haben; know knows knew
fragen; frage fragst fragt; gefragt; haben; ask asks asked
haben; habe hast hat; gehabt; haben; have has had
exportieren; exportiere exportierst exportiert; exportiert; haben; export exports exported
brauchen; brauche brauchst braucht; gebraucht; haben; need needs needed
trinken; trinke trinkst trinkt; getrunken; haben; drink drinks drank
verdienen; verdiene verdienst verdient; verdient; haben; earn earns earned
sparen; spare sparst spart; gespart; haben; save saves saved
mieten; miete mietest mietet; gemietet; haben; rent rents rented
bestellen; bestelle bestellst bestellt; bestellt; haben; order orders ordered
vergleichen; vergleiche vergleichst vergleicht; verglichen; haben; compare compares compared
tragen; trage trägst trägt; getragen; haben; carry carries carried
vergessen; vergesse vergisst vergisst; vergessen; haben; forget forgets forgot
"""

# subject | verb | English | German | tenses
FRAMES_TABLE = """
vehicle | an|kommen | in {city} at {time} | um {time} {nicht} in {city}
vehicle | ab|fahren | from {city} on {date} | am {date} {nicht} aus {city}
vehicle | fahren:go | from {city} to {city2} | {nicht} von {city} nach {city2}
vehicle | brauchen | {duration} for {distance} | {duration} für {distance}
person | an|kommen | in {country} on {weekday} | am {weekday} {nicht} {country:in}
person | aus|steigen | in {city} | {nicht} in {city}
person | um|ziehen | to {city} in {month} | im {month} {nicht} nach {city}
person | um|ziehen | from {country} to {country2} | {nicht} {country:from} {country2:to}
person | zurück|kommen | from {country} on {date} | am {date} {nicht} {country:from}
person | auf|stehen | at {time} on {weekday} | am {weekday} {nicht} um {time}
person | ein|schlafen | at {time} | {nicht} um {time}
person | kommen | from {country} | {nicht} {country:from} | present
person | kommen | to {event} in {city} | {nicht} zu {event:dat} in {city}
person | reisen | to {country} in {month} | im {month} {nicht} {country:to}
person | reisen | to {cities} | {nicht} nach {cities}
person | fliegen | from {city} to {country} at {time} | um {time} {nicht} von {city} {country:to}
person | fahren | {distance} to {city} | {distance} nach {city}
person | fahren | to {city} with {vehicle} | mit {vehicle:dat} nach {city}
person | laufen | {distance} in {duration} | in {duration:dat} {distance} | present
person | bleiben | in {country} for {duration} | {duration} {country:in}
person | wohnen | in {building} in {city} | {nicht} in {building:dat} in {city}
person | arbeiten | in {building} until {time} | bis {time} {nicht} in {building:dat}
person | besuchen | {person} in {country} | {person:acc} {country:in}
person | besuchen | {cities} in {month} | im {month} {cities}
person | ein|laden | {person} to {event} | {person:acc} {nicht} zu {event:dat}
person | ab|holen | {person} at {time} | {person:acc} {nicht} um {time}
person | an|rufen | {person} on {date} | {person:acc} am {date} {nicht}
person | treffen | {person} in {city} | {person:acc} {nicht} in {city}
person | warten | for {person} in {building} | {nicht} in {building:dat} auf {person:acc}
person | helfen | {person} in {building} | {person:dat} {nicht} in {building:dat}
person | danken | {person} for {thing} | {person:dat} {nicht} für {thing:acc}
person | gratulieren | {person} on {event} | {person:dat} {nicht} zu {event:dat}
person | kennen | {person} from {country} | {person:acc} {country:from} | present
person | fragen | {person} about {document} | {person:acc} {nicht} nach {document:dat}
person | vor|stellen | {person} to {person2} | {person2:dat} {person:acc}
person | schreiben | {document} to {person} | {person:dat} {document:acc}
person | schreiben | {document} in {language} | {document:acc} auf {language}
person | geben | {thing} to {person} | {person:dat} {thing:acc}
person | zurück|geben | {document} to {person} on {weekday} \
    | {person:dat} am {weekday} {document:acc}
person | zeigen | {building} to {person} | {person:dat} {building:acc}
person | schicken | {document} to {person} in {country} | {person:dat} {country:in} {document:acc}
person | verkaufen | {thing} for {money} | {thing:acc} {nicht} für {money}
person | verkaufen | {building} to {person} | {person:dat} {building:acc}
person | kaufen | {thing} in {city} | in {city} {thing:acc}
person | kaufen | {device} for {money} | {device:acc} {nicht} für {money}
person | bezahlen | {money} for {thing} | {money} für {thing:acc}
person | verlieren | {thing} in {building} | in {building:dat} {thing:acc}
person | finden | {document} in {building} | in {building:dat} {document:acc}
person | suchen | {thing} in {city} | in {city} {thing:acc}
person | mit|bringen | {thing} from {country} | {country:from} {thing:acc}
person | reparieren | {device} in {duration} | in {duration:dat} {device:acc} | present
person | reparieren | {device} {ago} | {ago} {device:acc} | past
person | reparieren | {vehicle} {hence} | {hence} {vehicle:acc} | future can must want
person | tragen | {weight} | {weight} | present past can
person | bauen | {building} in {year} | im Jahr {year} {building:acc} | past
person | eröffnen | {building} on {fulldate} | am {fulldate} {building:acc} | past
person | mieten | {building} for {money} | {building:acc} {nicht} für {money}
person | teil|nehmen | in {event} in {country} | {country:in} {nicht} an {event:dat}
person | ab|sagen | {event} on {weekday} | am {weekday} {event:acc}
person | verschieben | {event} to {date} | {event:acc} {nicht} auf den {date}
person | vor|bereiten | {event} for {person} | {event:acc} für {person:acc}
person | freuen | to {event} in {city} | {refl} {nicht} auf {event:acc} in {city} | present past
person | erinnern | {event} in {country} | {refl} {nicht} an {event:acc} {country:in} | present past
person | sprechen | {language} with {person} | mit {person:dat} {language}
person | sprechen | {languages} | {languages} | present can
person | lernen | {language} in {city} | in {city} {language}
person | lernen | {languages} | {languages}
person | unterrichten | {language} in {country} | {country:in} {language}
person | übersetzen | {document} into {language} | {document:acc} {nicht} ins {language}e
person | übersetzen | from {language} into {language2} \
    | {nicht} aus dem {language}en ins {language2}e
person | lesen | {document} in {language} | {document:acc} {nicht} auf {language}
person | vor|lesen | {document} to {person} | {person:dat} {document:acc}
person | unterschreiben | {document} on {fulldate} | am {fulldate} {document:acc} | past
person | unterschreiben | {document} at {time} | um {time} {document:acc}
person | aus|füllen | {document} in {language} | {document:acc} {nicht} auf {language}
person | verstehen | {document} about {country} | {document:acc} über {country:acc} {nicht} \
    | present past can
person | ein|schalten | {device} at {time} | um {time} {device:acc}
person | aus|schalten | {device} on {weekday} | am {weekday} {device:acc}
person | vergleichen | {thing} with {thing2} | {thing:acc} {nicht} mit {thing2:dat}
person | bestellen | {thing} for {person} | für {person:acc} {thing:acc}
person | bestellen | {volume} of milk for {money} | {volume} Milch für {money}
person | trinken | {volume} of water in {duration} | in {duration:dat} {volume} Wasser
person | verdienen | {money} a month | {money} im Monat
person | sparen | {money} for {thing} | {money} für {thing:acc}
person | vergessen | {thing} in {building} | in {building:dat} {thing:acc}
thing | kosten | {money} | {nicht} {money}
thing | kosten | {money} in {country} | {country:in} {money}
thing | wiegen | {weight} | {nicht} {weight}
thing | gehören | to {person} | {person:dat} {nicht} | present past
thing | sein | {comparative} than {thing} | {nicht} {comparative} als {thing:nom} | present
device | kosten | {money} | {nicht} {money}
device | brauchen | {count} watts | {count} Watt | present
building | schließen | at {time} on {weekday} | am {weekday} {nicht} um {time}
building | gehören | to {person} | {person:dat} {nicht} | present past
building | sein | {length} high | {nicht} {length} hoch | present
building | sein | {length} long | {nicht} {length} lang | present
building | sein | {comparative} than {building} | {nicht} {comparative} als {building:nom} | present
building | haben | {count} visitors in {year} | im Jahr {year} {count} Besucher | past
event | statt|finden | in {city} on {date} | am {date} {nicht} in {city}
event | statt|finden | in {building} at {time} | um {time} {nicht} in {building:dat}
event | beginnen | on {date} at {time} | {nicht} am {date} um {time}
event | enden | at {time} | {nicht} um {time}
event | dauern | {duration} | {nicht} {duration}
event | kosten | {money} a day | {money} am Tag
price | steigen | by {percent} in {country} | {country:in} um {percent}
price | sinken | by {percent} in {month} | im {month} {nicht} um {percent}
price | sinken | to {money} in {year} | im Jahr {year} auf {money} | past
country | haben | {million} inhabitants | {million} Einwohner | present
country | exportieren | goods for {million} euros | Waren für {million} Euro
country | exportieren | {count} cars in {year} | im Jahr {year} {count} Autos | past
"""

ANIMATE = "person"
ALL_TENSES = tuple(TENSES)
# What somebody can say of a thing; a thing neither wants nor would like.
THING_TENSES = ("present", "past", "future")
TEMPORAL = {"time", "date", "fulldate", "weekday", "month", "year", "ago", "hence"}


def parse_verb(line: str) -> Tuple[str, Verb]:
    """Read one line of ``VERBS_TABLE``; the key is the infinitive as written there."""
    key, german, participle, auxiliary, english = (field.strip() for field in line.split(";"))
    prefix, infinitive = key.partition(":")[0].rpartition("|")[::2]
    forms = tuple(form.replace("_", " ") for form in english.split())
    forms_of = HABEN if auxiliary == "haben" else SEIN
    present = SEIN if infinitive == "sein" else conjugation(f"{german} {infinitive}")
    return key, Verb(forms, present, infinitive, prefix, participle, forms_of)


@dataclass(frozen=True)
class Frame:
    """One template: a clause with slots.

    Attributes:
        name: What identifies the template when fillers are split.
        subject: Kind of the subject.
        verb: The verb in both languages.
        english: The clause after the verb, with slots.
        german: What stands between finite verb and the end of the clause, with slots.
        tenses: The tenses it can stand in.
        slots: Names of its slots.
        temporal: Whether it already says when.
        negatable: Whether it marks the place of a negation.
    """

    name: str
    subject: str
    verb: Verb
    english: str
    german: str
    tenses: Tuple[str, ...]
    slots: Tuple[str, ...]
    temporal: bool
    negatable: bool


def parse_frame(line: str, verbs: Dict[str, Verb]) -> Frame:
    """Read one line of ``FRAMES_TABLE``."""
    fields = [field.strip() for field in line.split(" | ")]
    subject, verb, english, german = fields[:4]
    tenses = ALL_TENSES if subject == ANIMATE else THING_TENSES
    if len(fields) == 5:
        tenses = tuple(fields[4].split())
    if verbs[verb].english[0] == verbs[verb].english[2]:  # "they read": is it present or past?
        tenses = tuple(tense for tense in tenses if tense != "past")
    slots = tuple(re.findall(r"\{(\w+)\}", english))
    kinds = {slot.rstrip("0123456789") for slot in slots}
    return Frame(
        name=f"{subject} {verb} {english}",
        subject=subject,
        verb=verbs[verb],
        english=english,
        german=german,
        tenses=tenses,
        slots=slots,
        temporal=bool(kinds & TEMPORAL),
        negatable="{nicht}" in german,
    )


def _lines(table: str) -> list:
    return [line.strip() for line in table.strip().split("\n")]


VERBS = dict(parse_verb(line) for line in _lines(VERBS_TABLE))
FRAMES = [parse_frame(line, VERBS) for line in _lines(FRAMES_TABLE)]
