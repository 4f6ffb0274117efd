"""Names that nobody has, by kind of thing, from parts: a seeded stand-in for the names of a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

ONSETS = "B Bl Br D Dr F Fl G Gr H J K Kl Kr L M N P Pl R S Sk St T Tr V Vl W Z"
VOWELS = "a a e e i i o o u u ai ea ei ou"
MIDDLES = "b d g k l m n r s t v z ld mb nd rk rn st"
CODAS = "k l m n r s t v x lt nd rg rn sk th"
ADJECTIVES = (
    "amber ashen bitter brazen crooked distant drowned early eastern empty fallen frozen gilded hollow idle inner last "
    "leaden lesser lonely marble mended narrow nameless ninth old painted paper patient pale quiet restless rusted "
    "salted scarlet second seventh silver sleepless slow southern stolen tender third tin unlit upper velvet waning"
)
NOUNS = (
    "acre almanac anchor anvil apron barrel bell brook cedar chapel chimney cinder compass copper crane curtain dial "
    "ember fathom ferry fiddle flint furrow gable garden granary harbour harvest hearth hedge heron kettle ladder "
    "lantern ledger lichen loom marrow meadow mill mirror orchard oriole parade pebble plough quarry quay quill reed "
    "ribbon saddle sandbar sparrow spindle stable thimble thistle tinder turnstile valley weir willow windmill"
)
CRAFTS = "binder broker carver cutter dyer engraver grader grinder keeper mender polisher sorter surveyor tuner"
POSTS = "almoner bailiff castellan chancellor intendant provost quaestor reeve steward syndic verderer warden"
STYLES = "ballad chant hop lament metal noise pastoral polka pop revel romance saga shuffle stomp tragedy wave"
STUDIES = "botany cartography dynamics ethics geometry grammar history hydrology mechanics optics statistics"
SOUNDERS = "bugle cittern drum flute gong harp horn lute lyre pipe rattle viol whistle zither"
PLAYERS = "back blocker bowler catcher guard hooker runner setter sweeper thrower wing"

Maker = Callable[["Names"], str]


class Names:
    """A maker of names: each once, whatever the letter case, and none of `taken`."""

    def __init__(self, random: Random, taken: Iterable[str]) -> None:
        self.random = random
        self._taken = {name.casefold() for name in taken}

    def of(self, kind: str) -> str:
        """Return a new name for a thing of a kind in MAKERS. Raises RuntimeError if its parts are used up."""
        return self.first(lambda: MAKERS[kind](self))

    def first(self, make: Callable[[], str]) -> str:
        """Return the first name that `make` gives and nothing has yet."""
        for _ in range(1000):
            name = make()
            if name.casefold() not in self._taken:
                self._taken.add(name.casefold())
                return name
        raise RuntimeError("the parts of these names are used up")

    def root(self) -> str:
        """Return a word that could be a name, of two or three syllables."""
        middle = (MIDDLES, VOWELS) if self.random.random() < 0.5 else ()
        return "".join(map(self.word, (ONSETS, VOWELS, MIDDLES, VOWELS, *middle, CODAS)))

    def pick(self, *texts: str) -> str:
        """Return one of the texts."""
        return self.random.choice(texts)

    def word(self, words: str) -> str:
        """Return one of the words of a text."""
        return self.random.choice(words.split())

    def pair(self, seconds: str) -> str:
        """Return two or three common words, the last of `seconds`."""
        middle = f"{self.word(NOUNS)} " if self.random.random() < 0.7 else ""
        return f"{self.word(ADJECTIVES)} {middle}{self.word(seconds)}"

    def title(self) -> str:
        """Return a title, of a book or a song."""
        first, second = (self.word(NOUNS).title() for _ in range(2))
        adjective = self.word(ADJECTIVES).title()
        forms = (
            f"{adjective} {first}",
            f"The {first} of {self.root()}",
            f"{first} and {second}",
            f"{_a(first)} in {self.root()}",
        )
        return self.pick(*forms, f"{adjective} {first} {second}", f"{self.root()}'s {first}")


def _a(noun: str) -> str:
    return f"{'An' if noun[0] in 'AEIO' else 'A'} {noun}"


def _person(names: Names) -> str:
    particle = names.pick("", "", "", "", "de ", "van ", "al-")
    return f"{names.root()} {particle}{names.root()}{names.pick('', 'sen', 'ley', 'ini', 'ova', 'wick')}"


def _plural(noun: str) -> str:
    return f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"


MAKERS: dict[str, Maker] = {
    "person": _person,
    "settlement": lambda names: f"{names.pick('', '', '', 'Port ')}{names.root()}{names.pick('', 'ford', 'o')}",
    "region": lambda names: f"{names.root()}{names.pick('mark', 'shire', 'ria')}",
    "country": lambda names: f"{names.root()}{names.pick('ia', 'land', 'stan')}",
    "continent": lambda names: f"{names.root()}ica",
    "language": lambda names: f"{names.root()}{names.pick('ish', 'ese', 'ic')}",
    "religion": lambda names: names.pick(f"{names.root()}ism", f"Church of {names.root()}"),
    "occupation": lambda names: names.pair(CRAFTS),
    "office": lambda names: f"{names.word(POSTS)} of {names.root()}",
    "genre": lambda names: names.pair(STYLES),
    "field": lambda names: names.pair(STUDIES),
    "instrument": lambda names: names.pair(SOUNDERS),
    "position": lambda names: names.pair(PLAYERS),
    "band": lambda names: f"{names.word(ADJECTIVES).title()} {_plural(names.word(NOUNS)).title()}",
    "label": lambda names: f"{names.root()} {names.pick('Records', 'Sound', 'Discs')}",
    "channel": lambda names: f"{names.root()} {names.pick('TV', 'Television', 'Channel')}",
    "paper": lambda names: f"{names.root()} {names.pick('Courier', 'Gazette', 'Review', 'Letters')}",
    "maker": lambda names: f"{names.root()} {names.pick('Works', 'Motors', 'Industries', 'Group', '& Sons')}",
    "product": lambda names: f"{names.root()} {names.pick('Mk', 'Series', 'Model')} {names.random.randint(2, 900)}",
    "club": lambda names: f"{names.pick('FC ', 'SC ', '')}{names.root()} {names.pick('Rovers', 'United', 'Athletic')}",
    "organization": lambda names: f"{names.pick('Institute', 'League', 'University', 'Party')} of {names.root()}",
    "mountain": lambda names: names.pick(f"Mount {names.root()}", f"{names.root()} Glacier", f"{names.root()} Range"),
    "river": lambda names: f"{names.root()} River",
    "airport": lambda names: f"{names.root()} {names.pick('Airport', 'International Airport')}",
    "road": lambda names: f"{names.root()} {names.pick('Road', 'Street', 'Highway', 'Line')}",
    "event": lambda names: f"{names.pick('Battle', 'Festival', 'Siege')} of {names.root()}",
    "substance": lambda names: f"{names.root().lower()}{names.pick('ine', 'ol', 'ate', 'ase')}",
    "work": lambda names: names.title(),
    "thing": lambda names: names.pair(NOUNS),
}
"""A maker for each kind of thing."""

_LATIN = "abcdefghijklmnopqrstuvwxyz"
SCRIPTS = {
    "ru": str.maketrans(_LATIN, "абкдефгхийклмнопкрстуввхйз"),
    "el": str.maketrans(_LATIN, "αβκδεφγχιικλμνοπκρστυββχιζ"),
    "ka": str.maketrans(_LATIN, "აბკდეფგჰიჯკლმნოპქრსტუვვხიზ"),
}
"""Letters of another script for Latin ones, by language: read aloud they need not be right."""


def spelled(name: str, language: str) -> str:
    """Return `name` in the letters of a language of SCRIPTS."""
    return name.lower().translate(SCRIPTS[language]).title()
