"""Where versions are served from: a directory, or a prefix in a bucket."""

import re
from dataclasses import dataclass
from pathlib import Path

# A path of one slash is what pathlib makes of a URL.
_URL = re.compile(r"(s3|gs|az)://?([^/].*)")


@dataclass(frozen=True, slots=True, order=True)
class BucketPath:
    """A prefix in a bucket, with the few manners of a path that its users need.

    Attributes:
        url: ``s3://BUCKET/PREFIX`` or ``gs://BUCKET/PREFIX``, without a slash at the end.
    """

    url: str

    def __truediv__(self, name: "str | Path") -> "BucketPath":
        """Return what is below it."""
        return BucketPath(f"{self.url}/{name}")

    def __str__(self) -> str:
        """Return the URL."""
        return self.url

    @property
    def parent(self) -> "BucketPath":
        """What it is below."""
        return BucketPath(self.url.rpartition("/")[0])

    @property
    def name(self) -> str:
        """The last part."""
        return self.url.rpartition("/")[2]


Base = Path | BucketPath
"""Where the versions of a model are served from."""


def is_url(text: str) -> bool:
    """Return whether a text names a bucket and no directory."""
    return _URL.fullmatch(text) is not None


def base_of(text: "str | Path | BucketPath") -> Base:
    """Return the directory or the bucket that a text names.

    >>> base_of("s3://models/mnist/"), str(base_of(Path("gs://models/mnist"))), base_of("models")
    (BucketPath(url='s3://models/mnist'), 'gs://models/mnist', PosixPath('models'))
    """
    match = _URL.fullmatch(str(text))
    if match is not None:
        return BucketPath(f"{match[1]}://{match[2].strip('/')}")
    return text if isinstance(text, BucketPath) else Path(text)
