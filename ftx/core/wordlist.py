"""256 short words, one for each value of a byte, for fingerprints that people compare aloud.

Chosen so that a mistake is heard or seen: four to seven letters, no two words share their first three
letters, and at least three letters must change to turn one into another. The order is alphabetical and, like
the list, frozen: a machine's fingerprint words must never change.
"""

from __future__ import annotations

from typing import Final

__all__ = ["WORDS"]

_TEXT: Final = """
    acorn adobe agate alarm alder alpha angle apron arena armor aspen atlas attic autumn axis badge
    bamboo banjo barley basil beacon beetle bench berry bicycle bishop blanket bonnet breeze brick
    bucket buffalo bundle butter cabin cactus camel canvas castle cedar cello cement chalk cinema
    citrus clover cobalt coffee copper cotton cradle cube cymbal daisy dancer decade delta denim
    desert diary doctor dolphin domino donkey dragon duck echo editor eight elbow ember emerald
    engine epoch equator escort evening fabric falcon feather fender fiddle figure filter fjord
    flute foam forest fossil funnel galaxy garden gazelle geyser ginger giraffe glacier goblet
    gondola gravel guitar gypsum hammer helmet hickory horizon hotel hydrant igloo indigo insect
    island ivory jaguar jasmine jewel jigsaw juniper kayak kernel kidney kitten kiwi koala lagoon
    lantern laurel lawyer lemon lentil lettuce library lilac linen lizard lobster lotus lunar lyric
    magnet maple meadow mentor mirror mocha morning muffin museum mystic napkin nature nectar nephew
    nickel noodle north nugget nutmeg nylon object ocean octave office olive omelet onion opal orbit
    orchid osprey oxygen palace panda paper parrot pebble pelican piano picnic pilot pirate plum
    poplar potato prism pumpkin puzzle pyramid quartz queen quiver quota rabbit recipe reef ribbon
    rope rubber runway salad scarf school sherbet sketch smoke snow sofa spider spruce squash stable
    sultan sunset swan syrup tadpole talent temple tennis thimble thunder toast tower tractor
    trumpet tulip turtle tuxedo twig typhoon urban utensil vanilla vessel village violin visitor
    volcano voyage vulture waffle walnut weaver wedding wheat willow wolf yacht yard yogurt zebra
    zenith zephyr zigzag zinc zodiac
"""

#: The word of byte value `i` is `WORDS[i]`.
WORDS: Final[tuple[str, ...]] = tuple(_TEXT.split())
