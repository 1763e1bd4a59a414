r"""References: how commands name a checkpoint or a version.

========================  =====================================================
``mnist``                 the same as ``mnist@latest``
``mnist@latest``          highest step of the newest run
``mnist@1200``            the checkpoint of that step
``mnist/lr3e4@1200``      run and step
``mnist@best``            best by the model's metric
``mnist@best:val_loss``   lowest ``val_loss``; ``@best:+accuracy`` highest ``accuracy``
``mnist@TAG``             a tag
``a3f9``                  content id, or its first 4 or more hex digits
``mnist:4``               version 4; ``mnist:latest`` the highest number
``mnist:production``      the version with that alias
========================  =====================================================

Law: ``str(parse_reference(text))`` parses to an equal reference.
"""

import re
from dataclasses import dataclass

from mstore.domain.names import check_name, looks_like_hash
from mstore.errors import UsageError

_HIGHER_IS_BETTER = ("acc", "auc", "precision", "recall", "f1", "iou", "bleu", "rouge", "psnr")
_METRIC = re.compile(r"[^\s:@]+")


@dataclass(frozen=True, slots=True)
class Latest:
    """Highest step of the newest run, or of the run that is named."""

    def __str__(self) -> str:
        """Return the text after the ``@``."""
        return "latest"


@dataclass(frozen=True, slots=True)
class Best:
    """Best by a metric.

    Attributes:
        metric: its name, or None for the model's own.
        highest: True for highest, False for lowest, None where the metric's name decides.
    """

    metric: str | None = None
    highest: bool | None = None

    def __str__(self) -> str:
        """Return the text after the ``@``."""
        if self.metric is None:
            return "best"
        # A metric whose own name begins with a sign needs one before it to be read back.
        lowest = "-" if self.metric[:1] in {"+", "-"} else ""
        sign = "+" if self.highest else lowest
        return f"best:{sign}{self.metric}"


@dataclass(frozen=True, slots=True)
class Step:
    """The checkpoint of one step."""

    step: int

    def __str__(self) -> str:
        """Return the text after the ``@``."""
        return str(self.step)


@dataclass(frozen=True, slots=True)
class Named:
    """A tag, or a hash prefix within the model."""

    name: str

    def __str__(self) -> str:
        """Return the text after the ``@``."""
        return self.name


Selector = Latest | Best | Step | Named


@dataclass(frozen=True, slots=True)
class CheckpointRef:
    """A checkpoint of a model.

    Attributes:
        model: name of the model.
        run: name of the run, or None for any.
        selector: which of them.
    """

    model: str
    run: str | None = None
    selector: Selector = Latest()

    def __str__(self) -> str:
        """Return the reference as text."""
        run = f"/{self.run}" if self.run else ""
        return f"{self.model}{run}@{self.selector}"


@dataclass(frozen=True, slots=True)
class VersionRef:
    """A version of a model.

    Attributes:
        model: name of the model.
        number: its number, or None for the highest.
        alias: name of an alias; then the number is None.
    """

    model: str
    number: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        """Return the reference as text."""
        number = "latest" if self.number is None else self.number
        return f"{self.model}:{self.alias or number}"


@dataclass(frozen=True, slots=True)
class WordRef:
    """One bare word: a model's name (its latest checkpoint) or a hash prefix."""

    word: str

    def __str__(self) -> str:
        """Return the word."""
        return self.word


Reference = CheckpointRef | VersionRef | WordRef


def parse_reference(text: str) -> Reference:
    """Parse a reference.

    Raises:
        UsageError: the text has none of the forms above.
    """
    if "@" in text:
        return _checkpoint(text)
    if ":" in text:
        return _version(text)
    if "/" in text:
        model, run = text.split("/", 1)
        return CheckpointRef(check_name("model", model), check_name("run", run))
    return WordRef(check_name("model", text))


def _checkpoint(text: str) -> CheckpointRef:
    head, what = text.split("@", 1)
    model, _, run = head.partition("/")
    check_name("model", model)
    if "/" in head:
        check_name("run", run)
    return CheckpointRef(model, run or None, _selector(what, text))


def _selector(what: str, text: str) -> Selector:
    if what == "latest":
        return Latest()
    if what == "best":
        return Best()
    if what.startswith("best:"):
        return parse_best(what.removeprefix("best:"), text)
    if what.isascii() and what.isdigit():
        return Step(_number(what))
    if not looks_like_hash(what):
        check_name("tag", what)
    return Named(what)


def parse_best(metric: str, text: str) -> Best:
    """Return what a metric's name with its sign means; ``text`` is all that was given.

    Raises:
        UsageError: no metric is named.
    """
    highest = metric.startswith("+")
    name = metric[1:] if metric[:1] in {"+", "-"} else metric
    if _METRIC.fullmatch(name) is None:
        raise UsageError(
            f"no metric is named in {text!r}", hint="name one, such as val_loss or +accuracy"
        )
    return Best(name, highest=highest)


def higher_is_better(metric: str) -> bool:
    """Return whether a metric's name says so; it decides for a bare ``@best`` alone."""
    return any(word in metric.lower() for word in _HIGHER_IS_BETTER)


def _version(text: str) -> VersionRef:
    model, what = text.split(":", 1)
    check_name("model", model)
    if what == "latest":
        return VersionRef(model)
    if what.isascii() and what.isdigit():
        return VersionRef(model, _number(what))
    return VersionRef(model, alias=check_name("alias", what))


def _number(digits: str) -> int:
    """Return a number of any length; beyond 20 digits it is as unknown as its beginning."""
    return int(digits.lstrip("0")[:20] or "0")
