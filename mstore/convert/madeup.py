"""What models are called with where the user gave no example."""

import base64
import itertools
from collections.abc import Iterator

LENGTHS = (8, 32, 64, 128, 224, 299, 1)
"""Lengths to try for open dimensions that are not the batch: sequences, then pictures."""

BATCHES = (1, 3)
"""Batches to try; a model that only works for one of them has its batch fixed somewhere."""

# The smallest PNG, one white pixel; TensorFlow's decode_jpeg and decode_image take it too.
_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"
)

TEXTS = (b"1", _PNG, b"{}", b"")
"""Strings to try: a word or number, a picture, JSON, and an empty ``tf.train.Example``."""


def choices(*, has_open: bool, has_strings: bool) -> Iterator[tuple[int, bytes]]:
    """Yield length of open dimensions and string, for inputs that have such."""
    texts = TEXTS if has_strings else TEXTS[:1]
    for text, length in itertools.product(texts, LENGTHS if has_open else LENGTHS[:1]):
        yield length, text
