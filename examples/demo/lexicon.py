"""The words of the demo corpus: hand-written nouns, adjectives and names, and territories, towns,
languages, dates, times, numbers, money and units from the Unicode CLDR data that Babel carries.

``KINDS`` maps a kind of filler to its atoms. An atom is what the split of the corpus keeps apart (a
noun, a town, a date); ``Atom.make`` turns it into a phrase, with a random determiner, number and
adjective where it is a noun.
"""

import datetime
import random
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, List

from babel import Locale, dates, lists, numbers, units
from grammar import (
    CASES,
    DEFINITE,
    DER_WORD,
    EIN_WORD,
    MIXED,
    STRONG,
    WEAK,
    Determiner,
    Noun,
    Phrase,
    endings,
    invariable,
    noun_phrase,
)


@dataclass(frozen=True)
class Atom:
    """One filler that can be held out: its key, and how to make a phrase of it."""

    key: str
    make: Callable[[random.Random], Phrase]


# ---------------------------------------------------------------------------- nouns
# English singular, English plural, gender, German singular, genitive, plural[, weak]
NOUNS = {
    "vehicle": """
        train,trains,m,Zug,Zuges,Züge
        bus,buses,m,Bus,Busses,Busse
        coach,coaches,m,Reisebus,Reisebusses,Reisebusse
        ship,ships,n,Schiff,Schiffs,Schiffe
        ferry,ferries,f,Fähre,Fähre,Fähren
        tram,trams,f,Straßenbahn,Straßenbahn,Straßenbahnen
        taxi,taxis,n,Taxi,Taxis,Taxis
        boat,boats,n,Boot,Bootes,Boote
        truck,trucks,m,Lastwagen,Lastwagens,Lastwagen
        motorcycle,motorcycles,n,Motorrad,Motorrads,Motorräder""",
    "thing": """
        car,cars,n,Auto,Autos,Autos
        bicycle,bicycles,n,Fahrrad,Fahrrads,Fahrräder
        table,tables,m,Tisch,Tisches,Tische
        lamp,lamps,f,Lampe,Lampe,Lampen
        chair,chairs,m,Stuhl,Stuhls,Stühle
        bag,bags,f,Tasche,Tasche,Taschen
        suitcase,suitcases,m,Koffer,Koffers,Koffer
        clock,clocks,f,Uhr,Uhr,Uhren
        knife,knives,n,Messer,Messers,Messer
        coat,coats,m,Mantel,Mantels,Mäntel
        camera,cameras,f,Kamera,Kamera,Kameras
        umbrella,umbrellas,m,Regenschirm,Regenschirms,Regenschirme
        phone,phones,n,Telefon,Telefons,Telefone
        carpet,carpets,m,Teppich,Teppichs,Teppiche
        picture,pictures,n,Bild,Bildes,Bilder
        guitar,guitars,f,Gitarre,Gitarre,Gitarren
        jacket,jackets,f,Jacke,Jacke,Jacken
        shirt,shirts,n,Hemd,Hemdes,Hemden
        bed,beds,n,Bett,Bettes,Betten
        mirror,mirrors,m,Spiegel,Spiegels,Spiegel
        key,keys,m,Schlüssel,Schlüssels,Schlüssel
        bottle,bottles,f,Flasche,Flasche,Flaschen
        basket,baskets,m,Korb,Korbes,Körbe
        ring,rings,m,Ring,Ringes,Ringe""",
    "device": """
        computer,computers,m,Computer,Computers,Computer
        radio,radios,n,Radio,Radios,Radios
        heater,heaters,f,Heizung,Heizung,Heizungen
        television,televisions,m,Fernseher,Fernsehers,Fernseher
        washing machine,washing machines,f,Waschmaschine,Waschmaschine,Waschmaschinen
        printer,printers,m,Drucker,Druckers,Drucker
        oven,ovens,m,Ofen,Ofens,Öfen
        engine,engines,m,Motor,Motors,Motoren
        device,devices,n,Gerät,Geräts,Geräte
        pump,pumps,f,Pumpe,Pumpe,Pumpen""",
    "document": """
        letter,letters,m,Brief,Briefes,Briefe
        book,books,n,Buch,Buches,Bücher
        report,reports,m,Bericht,Berichts,Berichte
        contract,contracts,m,Vertrag,Vertrags,Verträge
        bill,bills,f,Rechnung,Rechnung,Rechnungen
        newspaper,newspapers,f,Zeitung,Zeitung,Zeitungen
        form,forms,n,Formular,Formulars,Formulare
        map,maps,f,Karte,Karte,Karten
        list,lists,f,Liste,Liste,Listen
        poem,poems,n,Gedicht,Gedichts,Gedichte
        novel,novels,m,Roman,Romans,Romane
        certificate,certificates,n,Zeugnis,Zeugnisses,Zeugnisse
        message,messages,f,Nachricht,Nachricht,Nachrichten
        application,applications,m,Antrag,Antrags,Anträge""",
    "building": """
        house,houses,n,Haus,Hauses,Häuser
        hotel,hotels,n,Hotel,Hotels,Hotels
        school,schools,f,Schule,Schule,Schulen
        museum,museums,n,Museum,Museums,Museen
        church,churches,f,Kirche,Kirche,Kirchen
        tower,towers,m,Turm,Turmes,Türme
        station,stations,m,Bahnhof,Bahnhofs,Bahnhöfe
        theater,theaters,n,Theater,Theaters,Theater
        library,libraries,f,Bibliothek,Bibliothek,Bibliotheken
        apartment,apartments,f,Wohnung,Wohnung,Wohnungen
        factory,factories,f,Fabrik,Fabrik,Fabriken
        garden,gardens,m,Garten,Gartens,Gärten
        shop,shops,m,Laden,Ladens,Läden
        castle,castles,n,Schloss,Schlosses,Schlösser
        office,offices,n,Büro,Büros,Büros
        hall,halls,m,Saal,Saales,Säle""",
    "human": """
        customer,customers,m,Kunde,Kunden,Kunden,weak
        colleague,colleagues,m,Kollege,Kollegen,Kollegen,weak
        student,students,m,Student,Studenten,Studenten,weak
        teacher,teachers,m,Lehrer,Lehrers,Lehrer
        doctor,doctors,m,Arzt,Arztes,Ärzte
        neighbor,neighbors,m,Nachbar,Nachbarn,Nachbarn,weak
        woman,women,f,Frau,Frau,Frauen
        girl,girls,n,Mädchen,Mädchens,Mädchen
        boy,boys,m,Junge,Jungen,Jungen,weak
        child,children,n,Kind,Kindes,Kinder
        man,men,m,Mann,Mannes,Männer
        engineer,engineers,m,Ingenieur,Ingenieurs,Ingenieure
        director,directors,m,Direktor,Direktors,Direktoren
        aunt,aunts,f,Tante,Tante,Tanten
        uncle,uncles,m,Onkel,Onkels,Onkel
        daughter,daughters,f,Tochter,Tochter,Töchter
        son,sons,m,Sohn,Sohnes,Söhne
        sister,sisters,f,Schwester,Schwester,Schwestern
        brother,brothers,m,Bruder,Bruders,Brüder
        guest,guests,m,Gast,Gastes,Gäste
        nurse,nurses,f,Krankenschwester,Krankenschwester,Krankenschwestern
        journalist,journalists,m,Journalist,Journalisten,Journalisten,weak
        lawyer,lawyers,m,Anwalt,Anwalts,Anwälte
        tourist,tourists,m,Tourist,Touristen,Touristen,weak""",
    "event": """
        meeting,meetings,f,Besprechung,Besprechung,Besprechungen
        concert,concerts,n,Konzert,Konzerts,Konzerte
        course,courses,m,Kurs,Kurses,Kurse
        exhibition,exhibitions,f,Ausstellung,Ausstellung,Ausstellungen
        conference,conferences,f,Konferenz,Konferenz,Konferenzen
        wedding,weddings,f,Hochzeit,Hochzeit,Hochzeiten
        celebration,celebrations,f,Feier,Feier,Feiern
        match,matches,n,Spiel,Spiels,Spiele
        lecture,lectures,m,Vortrag,Vortrags,Vorträge
        trip,trips,f,Reise,Reise,Reisen
        exam,exams,f,Prüfung,Prüfung,Prüfungen
        festival,festivals,n,Fest,Festes,Feste
        dance,dances,m,Tanz,Tanzes,Tänze
        walk,walks,m,Spaziergang,Spaziergangs,Spaziergänge""",
}

# English word, and the German stem as it stands before an ending
ADJECTIVES = {
    "vehicle": "new neu, old alt, small klein, large groß, fast schnell, slow langsam, white weiß",
    "thing": "new neu, old alt, small klein, large groß, beautiful schön, expensive teur, "
    "cheap billig, heavy schwer, red rot, green grün, blue blau, black schwarz, white weiß",
    "device": "new neu, old alt, small klein, large groß, expensive teur, quiet leis",
    "document": "new neu, old alt, long lang, short kurz, important wichtig, secret geheim, "
    "interesting interessant",
    "building": "new neu, old alt, small klein, large groß, beautiful schön, modern modern, "
    "famous berühmt, quiet ruhig, dark dunkl",
    "human": "old alt, young jung, friendly freundlich, famous berühmt, clever klug, tired müd, "
    "new neu, rich reich",
    "event": "long lang, short kurz, important wichtig, interesting interessant, large groß, "
    "boring langweilig, successful erfolgreich",
}

THE, DIES = endings(DEFINITE), endings(DER_WORD)
EIN, NO_ENDING = endings(EIN_WORD), dict.fromkeys(THE, "")
AFTER_DER, AFTER_EIN, AFTER_NUMERAL = endings(WEAK), endings(MIXED), endings(STRONG)

# Determiners with their frequency. The first six of either list can stand in a genitive and before
# a relative clause.
SINGULAR = [
    (8, Determiner("the", "", THE, AFTER_DER)),
    (2, Determiner("this", "dies", DIES, AFTER_DER)),
    (2, Determiner("my", "mein", EIN, AFTER_EIN)),
    (1, Determiner("our", "unser", EIN, AFTER_EIN)),
    (1, Determiner("his", "sein", EIN, AFTER_EIN)),
    (1, Determiner("her", "ihr", EIN, AFTER_EIN)),
    (4, Determiner("a", "ein", EIN, AFTER_EIN)),
    (1, Determiner("every", "jed", DIES, AFTER_DER)),
]
PLURAL = [
    (8, Determiner("the", "", THE, AFTER_DER)),
    (2, Determiner("these", "dies", DIES, AFTER_DER)),
    *SINGULAR[2:6],
    (1, Determiner("many", "viel", DIES, AFTER_NUMERAL)),
    (1, Determiner("two", "zwei", NO_ENDING, AFTER_NUMERAL)),
    (1, Determiner("three", "drei", NO_ENDING, AFTER_NUMERAL)),
    (1, Determiner("four", "vier", NO_ENDING, AFTER_NUMERAL)),
    (1, Determiner("seven", "sieben", NO_ENDING, AFTER_NUMERAL)),
    (1, Determiner("twelve", "zwölf", NO_ENDING, AFTER_NUMERAL)),
]
DEFINITE_ONLY = 6


def _random_phrase(rng: random.Random, noun: Noun, adjectives: list, definite: bool) -> Phrase:
    """A noun with a random determiner, number and adjective."""
    plural = rng.random() < 0.3
    pool = (PLURAL if plural else SINGULAR)[: DEFINITE_ONLY if definite else None]
    weights, determiners = zip(*pool, strict=True)
    determiner = rng.choices(determiners, weights)[0]
    adjective = rng.choice(adjectives) if rng.random() < 0.5 else ("", "")
    return noun_phrase(determiner, adjective, noun, plural)


def _noun_atoms(kind: str, definite: bool = False) -> List[Atom]:
    """The atoms of one class of nouns; ``definite`` leaves out `a`, `every` and numerals."""
    adjectives = [tuple(pair.split()) for pair in ADJECTIVES[kind].split(", ")]
    atoms = []
    for line in NOUNS[kind].strip().split("\n"):
        fields = line.strip().split(",")
        noun = Noun(*fields[:6], weak=len(fields) == 7)
        make = lambda rng, noun=noun: _random_phrase(rng, noun, adjectives, definite)  # noqa: E731
        atoms.append(Atom(noun.english, make))
    return atoms


def _attribute_of(atom: Atom, english: str, german: str) -> Atom:
    """`The price of` something: the thing stands in the genitive."""

    def make(rng: random.Random) -> Phrase:
        thing = atom.make(rng)
        return invariable(f"{english} of {thing.english}", f"{german} {thing:gen}", gender="m")

    return Atom(atom.key, make)


# ---------------------------------------------------------------------------- names of people

WOMEN = "Anna Maria Julia Laura Sophie Emma Lena Clara Eva Nora Ida Paula".split()
MEN = "Peter Paul Jonas Felix Martin Thomas David Simon Oskar Leon Anton Erik".split()
SURNAMES = (
    "Weber Schmidt Fischer Meyer Wagner Becker Schulz Hoffmann Koch Richter Klein Wolf Neumann "
    "Schwarz Krüger Hartmann Lange Werner"
).split()


def _fixed(phrase: Phrase) -> Atom:
    """An atom that always gives the same phrase."""
    return Atom(phrase.english, lambda rng: phrase)


def _first_names() -> List[Atom]:
    """First names, which are the same in all cases."""
    women = [_fixed(invariable(name, name, gender="f")) for name in WOMEN]
    return women + [_fixed(invariable(name, name, gender="m")) for name in MEN]


def _titled_names() -> List[Atom]:
    """Surnames with a title; `Herr` is declined."""
    women = [invariable(f"Mrs. {name}", f"Frau {name}", gender="f") for name in SURNAMES]
    men = []
    for name in SURNAMES:
        german = {**dict.fromkeys(CASES, f"Herrn {name}"), "nom": f"Herr {name}"}
        men.append(Phrase(f"Mr. {name}", german, gender="m"))
    return [_fixed(phrase) for phrase in women + men]


# ---------------------------------------------------------------------------- CLDR

LOCALES = (Locale("en"), Locale("de"))
# Territories whose German name has no article, and those with one by gender.
COUNTRIES = (
    "FR IT ES PT DE AT BE LU DK SE NO FI IS IE PL CZ HU RO BG GR HR SI RS AL MK EE LV LT BY RU GE "
    "AM AZ KZ UZ KG TJ TM CN JP KR IN PK BD NP TH VN KH MY ID AU NZ CA MX GT HN NI CR PA CO VE EC "
    "PE BO BR CL AR UY PY MA DZ TN LY EG ET KE UG TZ RW ZM ZW BW NA ZA MZ AO GH NG CM ML IL JO SA "
    "OM QA KW SY AF MM"
).split()
COUNTRIES_WITH_ARTICLE = {
    **dict.fromkeys(("CH", "TR", "SK", "UA", "MN"), "f"),
    **dict.fromkeys(("IQ", "LB", "SD", "TD"), "m"),
    **dict.fromkeys(("US", "NL", "PH"), "p"),
}
ARTICLES = {  # nominative, accusative, dative
    "m": ("der", "den", "dem"),
    "f": ("die", "die", "der"),
    "p": ("die", "die", "den"),
}
CITIES = {
    "Europe": "Vienna Brussels Prague Copenhagen London Dublin Athens Rome Warsaw Lisbon Bucharest "
    "Belgrade Moscow Zurich Berlin Paris Madrid Oslo Stockholm Helsinki Budapest Sofia Zagreb Riga "
    "Tallinn Vilnius Sarajevo Skopje Minsk Kiev Istanbul Amsterdam Volgograd",
    "Asia": "Tokyo Tehran Baghdad Damascus Tbilisi Yerevan Baku Tashkent Dushanbe Bishkek Kabul "
    "Karachi Calcutta Dhaka Bangkok Jakarta Manila Shanghai Seoul Pyongyang Taipei Riyadh Muscat "
    "Dubai Jerusalem Beirut Vladivostok Novosibirsk Rangoon Saigon Colombo",
    "Africa": "Cairo Algiers Tripoli Khartoum Addis_Ababa Mogadishu Nairobi Lagos Accra Casablanca "
    "Tunis Johannesburg",
    "America": "Havana Bogota Lima Caracas Montevideo Toronto Chicago Denver Mexico_City New_York "
    "Los_Angeles Sao_Paulo",
    "Australia": "Sydney Melbourne Perth",
}
LANGUAGES = (
    "en fr it es pt nl da sv no fi is ga cy pl cs sk hu ro bg el hr sl sr sq mk et lv lt be ru uk "
    "ka hy az kk uz ky tg tk tr ar he fa ja ko zh th vi id ms my mn ne bn eu ca gl mt lb am ku ug"
).split()
CURRENCIES = "EUR USD GBP JPY".split()
NAMED_CURRENCIES = "EUR USD CHF JPY SEK DKK INR".split()


def _plain(text: str) -> str:
    """Replace the no-break spaces of CLDR by plain ones and drop soft hyphens."""
    return text.replace("\u202f", " ").replace("\xa0", " ").replace("\xad", "")


def _localised(function: Callable, *values: object, **options: object) -> Atom:
    """An atom from a Babel formatting function, called once for English and once for German."""
    english, german = (_plain(function(*values, locale=locale, **options)) for locale in LOCALES)
    return _fixed(invariable(english, german))


def _country(code: str) -> Atom:
    """A territory: its nominative, accusative, and the forms for `in`, `to` and `from`."""
    english, german = (_plain(locale.territories[code]) for locale in LOCALES)
    gender = COUNTRIES_WITH_ARTICLE.get(code)
    if gender is None:
        forms = {"in": f"in {german}", "to": f"nach {german}", "from": f"aus {german}"}
        return _fixed(Phrase(english, {"nom": german, "acc": german, **forms}))
    nominative, accusative, dative = ARTICLES[gender]
    name = german.replace("Vereinigte ", "Vereinigten ")
    plural_dative = name + ("n" if gender == "p" and name[-1] not in "ns" else "")
    german_forms = {
        "nom": f"{nominative} {name}",
        "acc": f"{accusative} {name}",
        "in": f"in {dative} {plural_dative}",
        "to": f"in {accusative} {name}",
        "from": f"aus {dative} {plural_dative}",
    }
    if gender == "p":  # "The Netherlands has", but "Die Niederlande haben"
        return _fixed(Phrase(f"the {english}", german_forms, "sie", english_person="er"))
    return _fixed(Phrase(english, german_forms))


def _city(zone: str) -> Atom:
    """The town that a time zone is named after."""
    tail = zone.rsplit("/", 1)[-1].replace("_", " ")
    english, german = (_plain(loc.time_zones.get(zone, {}).get("city", tail)) for loc in LOCALES)
    return _fixed(invariable(english, german))


def _language(code: str) -> Atom:
    """The name of a language."""
    return _fixed(invariable(*(locale.languages[code] for locale in LOCALES)))


def _triples(rng: random.Random, atoms: List[Atom], count: int) -> List[Atom]:
    """Lists of three: "a, b, and c"; "a, b und c"."""
    triples = []
    for _ in range(count):
        phrases = [atom.make(rng) for atom in rng.sample(atoms, 3)]
        english = lists.format_list([phrase.english for phrase in phrases], locale=LOCALES[0])
        german = lists.format_list([f"{phrase}" for phrase in phrases], locale=LOCALES[1])
        triples.append(_fixed(invariable(english, german)))
    return triples


def _money(rng: random.Random) -> Atom:
    """An amount of money with a sign (`$4.50`) or spelt out (`450 Swiss francs`)."""
    if rng.random() < 0.5:
        amount = rng.choice((rng.randint(1, 99) + 0.5, rng.randint(100, 9999), rng.randint(2, 40)))
        return _localised(numbers.format_currency, amount, rng.choice(CURRENCIES))
    amount, name = rng.randint(2, 999) * rng.choice((1, 10)), rng.choice(NAMED_CURRENCIES)
    whole = "#,##0 ¤¤¤"
    return _localised(numbers.format_currency, amount, name, currency_digits=False, format=whole)


def _quantity(rng: random.Random, unit: str, largest: int) -> Atom:
    """A number with a unit, with one decimal now and then."""
    value = rng.randint(2, largest) + (0.5 if rng.random() < 0.3 else 0)
    return _localised(units.format_unit, value, unit)


def _spans(signs: Iterable[int]) -> List[Atom]:
    """`3 days ago` (negative) and `in 3 days` (positive)."""
    day = 86400
    ranges = {"day": (day, 30), "week": (7 * day, 12), "month": (30 * day, 11)}
    ranges["year"] = (365 * day, 20)
    return [
        _localised(
            dates.format_timedelta,
            datetime.timedelta(seconds=sign * count * seconds),
            granularity=unit,
            threshold=999,
            add_direction=True,
        )
        for sign in signs
        for unit, (seconds, largest) in ranges.items()
        for count in range(2, largest + 1)
    ]


def _duration(value: int, unit: str) -> Atom:
    """`45 minutes`, `3 hours`, `12 days`, ...; a dative where the plural does not end in n."""
    english, german = (
        _plain(units.format_unit(value, f"duration-{unit}", locale=locale)) for locale in LOCALES
    )
    dative = german if german.endswith("n") else german + "n"
    return _fixed(Phrase(english, {"nom": german, "acc": german, "dat": dative}))


def _durations() -> List[Atom]:
    """Stretches of time from minutes to months."""
    ranges = {"minute": range(5, 60, 5), "hour": range(2, 25), "day": range(2, 31)}
    ranges.update(week=range(2, 13), month=range(2, 12))
    return [_duration(value, unit) for unit, values in ranges.items() for value in values]


def _days(pattern_en: str, pattern_de: str, days: Iterable[datetime.date]) -> List[Atom]:
    """Dates in one CLDR pattern per language."""
    return [
        _fixed(
            invariable(
                dates.format_date(day, pattern_en, locale=LOCALES[0]),
                dates.format_date(day, pattern_de, locale=LOCALES[1]),
            )
        )
        for day in days
    ]


def _times() -> List[Atom]:
    """Every quarter of an hour: `3:15 PM`, `15:15 Uhr`."""
    atoms = []
    for quarter in range(96):
        time = datetime.time(quarter // 4, quarter % 4 * 15)
        english, german = (_plain(dates.format_time(time, "short", locale=loc)) for loc in LOCALES)
        atoms.append(_fixed(invariable(english, f"{german} Uhr")))
    return atoms


def _unique(atoms: Iterable[Atom]) -> List[Atom]:
    """Drop atoms with a key that was there before, keeping the order."""
    return list({atom.key: atom for atom in atoms}.values())


def _fixed_words(pairs: str) -> List[Atom]:
    """Hand-written pairs, `english = german`, separated by semicolons."""
    return [_fixed(invariable(*pair.strip().split(" = "))) for pair in pairs.split(";")]


def build_kinds() -> Dict[str, List[Atom]]:
    """All kinds of fillers by name; the numbers are drawn with a fixed seed of their own."""
    rng = random.Random(2021)
    year = [datetime.date(2025, 1, 1) + datetime.timedelta(days=day) for day in range(365)]
    past = [datetime.date(1950, 1, 1) + datetime.timedelta(rng.randrange(26_000)) for _ in year]
    kinds = {kind: _noun_atoms(kind) for kind in NOUNS}
    kinds["name"] = _first_names()
    kinds["title"] = _titled_names()
    kinds["person"] = kinds["human"] + kinds["name"] + kinds["title"]
    for kind in ("vehicle", "building", "event"):
        kinds[f"definite_{kind}"] = _noun_atoms(kind, definite=True)
    kinds["definite_person"] = _noun_atoms("human", definite=True)
    things = _noun_atoms("thing", definite=True)
    kinds["price"] = [_attribute_of(atom, "the price", "der Preis") for atom in things]
    kinds["country"] = [_country(code) for code in [*COUNTRIES, *COUNTRIES_WITH_ARTICLE]]
    kinds["city"] = [_city(f"{area}/{name}") for area in CITIES for name in CITIES[area].split()]
    kinds["language"] = [_language(code) for code in LANGUAGES]
    kinds["cities"] = _triples(rng, kinds["city"], 150)
    kinds["languages"] = _triples(rng, kinds["language"], 150)
    kinds["money"] = [_money(rng) for _ in range(300)]
    kinds["weight"] = [_quantity(rng, "mass-kilogram", 90) for _ in range(100)]
    kinds["distance"] = [_quantity(rng, "length-kilometer", 900) for _ in range(100)]
    kinds["length"] = [_quantity(rng, "length-meter", 300) for _ in range(100)]
    kinds["volume"] = [_quantity(rng, "volume-liter", 25) for _ in range(80)]
    kinds["percent"] = [
        _localised(numbers.format_percent, rng.randint(1, 199) / 200, decimal_quantization=False)
        for _ in range(100)
    ]
    kinds["million"] = [
        _localised(
            numbers.format_compact_decimal,
            rng.randint(11, 990) * 100_000,
            format_type="long",
            fraction_digits=1,
        )
        for _ in range(120)
    ]
    counts = (rng.randint(20, 99_999) for _ in range(200))
    kinds["count"] = [_localised(numbers.format_decimal, count) for count in counts]
    kinds["duration"] = _durations()
    kinds["ago"], kinds["hence"] = _spans([-1]), _spans([1])
    kinds["date"] = _days("MMMM d", "d. MMMM", year)
    kinds["fulldate"] = _days("MMMM d, y", "d. MMMM y", past)
    kinds["weekday"] = _days("EEEE", "EEEE", year[:7])
    kinds["month"] = _days("MMMM", "MMMM", year[::31])
    kinds["year"] = _fixed_words(";".join(f"{y} = {y}" for y in range(1950, 2025)))
    kinds["time"] = _times()
    kinds["comparative"] = _fixed_words(
        "older = älter; larger = größer; smaller = kleiner; cheaper = billiger; newer = neuer; "
        "more expensive = teurer; more beautiful = schöner; heavier = schwerer; longer = länger"
    )
    return {kind: _unique(atoms) for kind, atoms in kinds.items()}


KINDS = build_kinds()
