"""Which checkpoints of a model stay: rules that people give, and what other things need.

=====================  ===================================================================
``KeepLast(5)``        the 5 highest steps of each run
``KeepEvery(1000)``    of each run, the first step from 0, 1000, 2000 ... on
``KeepBest(3, ...)``   the 3 best by a metric, of all that are looked at
``KeepTagged()``       what has a tag
=====================  ===================================================================

A checkpoint stays if one rule keeps it or something needs it. Laws: the rules together keep what
each alone keeps; what is needed never goes; a second pass over what stayed takes nothing more.

A checkpoint that another content has replaced at its step counts for ``KeepTagged`` alone.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from mstore.domain.records import Checkpoint
from mstore.domain.references import Best, higher_is_better, parse_best
from mstore.errors import UsageError

_COUNT = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class KeepLast:
    """The highest steps of each run."""

    count: int

    def __str__(self) -> str:
        """Return the option that gives the rule."""
        return f"--keep-last {self.count}"

    def keeps(self, checkpoints: Iterable[Checkpoint]) -> frozenset[str]:
        """Return the ids that the rule keeps."""
        return frozenset(
            item.id for run in _runs(checkpoints) for item in run[max(0, len(run) - self.count) :]
        )


@dataclass(frozen=True, slots=True)
class KeepEvery:
    """Of each run the first step in each interval of ``steps``, counted from 0.

    Where training saved at the multiples, those stay; where it did not, the next step after each.
    """

    steps: int

    def __str__(self) -> str:
        """Return the option that gives the rule."""
        return f"--keep-every {self.steps}"

    def keeps(self, checkpoints: Iterable[Checkpoint]) -> frozenset[str]:
        """Return the ids that the rule keeps."""
        return frozenset(
            next(interval).id
            for run in _runs(checkpoints)
            for _, interval in groupby(run, key=lambda item: item.step // self.steps)
        )


@dataclass(frozen=True, slots=True)
class KeepBest:
    """The best by a metric; of equals the later step, as ``@best`` chooses."""

    count: int
    metric: str
    highest: bool

    def __str__(self) -> str:
        """Return the option that gives the rule."""
        best = str(Best(self.metric, highest=self.highest)).removeprefix("best:")
        return f"--keep-best {self.count}:{best}"

    def keeps(self, checkpoints: Iterable[Checkpoint]) -> frozenset[str]:
        """Return the ids that the rule keeps.

        Raises:
            UsageError: there are checkpoints, and none has the metric.
        """
        items = [item for item in checkpoints if not item.superseded]
        measured = [item for item in items if not math.isnan(self._value(item))]
        if items and not measured:
            names = sorted({name for item in items for name in item.metrics})
            raise UsageError(
                f"{self}: none of these checkpoints has a metric {self.metric!r}",
                hint=f"metrics recorded: {', '.join(names) or 'none'}",
            )
        measured.sort(key=self._rank)
        return frozenset(item.id for item in measured[: self.count])

    def _value(self, item: Checkpoint) -> float:
        return item.metrics.get(self.metric, math.nan)

    def _rank(self, item: Checkpoint) -> tuple[float, int]:
        value = self._value(item)
        return (-value if self.highest else value, -item.step)


@dataclass(frozen=True, slots=True)
class KeepTagged:
    """What has a tag."""

    def __str__(self) -> str:
        """Return the option that gives the rule."""
        return "--keep-tagged"

    def keeps(self, checkpoints: Iterable[Checkpoint]) -> frozenset[str]:
        """Return the ids that the rule keeps."""
        return frozenset(item.id for item in checkpoints if item.tags)


Rule = KeepLast | KeepEvery | KeepBest | KeepTagged


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to become of one checkpoint.

    Attributes:
        checkpoint: which.
        rules: those that keep it, as options.
        needs: what needs it, in words.
    """

    checkpoint: Checkpoint
    rules: tuple[str, ...]
    needs: tuple[str, ...]

    @property
    def stays(self) -> bool:
        """Whether anything keeps it."""
        return bool(self.rules or self.needs)


def decide(
    checkpoints: Sequence[Checkpoint],
    rules: Sequence[Rule],
    needs: Mapping[str, Sequence[str]],
) -> tuple[Decision, ...]:
    """Return a decision for each checkpoint, in the order given.

    Args:
        checkpoints: those of one model that are looked at, the last added first; of equals in
            value and step the first given is the better, as for ``@best``.
        rules: the rules; one at least.
        needs: id of a checkpoint to what needs it.

    Raises:
        UsageError: there is no rule, or a rule is about a metric that none of them has.
    """
    if not rules:
        raise UsageError(
            "no rule says what to keep",
            hint="give one or more of --keep-last N, --keep-every STEPS, "
            "--keep-best N:METRIC, --keep-tagged",
        )
    # A rule given twice is one rule; the reasons come in the order of the options.
    kept = [(str(rule), rule.keeps(checkpoints)) for rule in dict.fromkeys(rules)]
    return tuple(
        Decision(
            item,
            tuple(name for name, ids in kept if item.id in ids),
            tuple(needs.get(item.id, ())),
        )
        for item in checkpoints
    )


def rules_of(
    last: int | None, every: int | None, best: Iterable[str], *, tagged: bool
) -> tuple[Rule, ...]:
    """Return the rules that options give.

    Args:
        last: of ``--keep-last``.
        every: of ``--keep-every``.
        best: texts of ``--keep-best``.
        tagged: whether ``--keep-tagged`` is given.

    Raises:
        UsageError: one of them cannot be used.
    """
    rules: list[Rule] = []
    if last is not None:
        rules.append(KeepLast(check_count("--keep-last", last)))
    if every is not None:
        rules.append(KeepEvery(check_count("--keep-every", every)))
    rules += map(parse_keep_best, best)
    if tagged:
        rules.append(KeepTagged())
    return tuple(rules)


def warnings_of(rules: Iterable[Rule]) -> tuple[str, ...]:
    """Return what is likely a slip of the hand in rules: the lowest of what should be high."""
    return tuple(
        f"{rule} keeps the lowest {rule.metric}, and its name says that higher is better; "
        f"for the highest write --keep-best {rule.count}:+{rule.metric}"
        for rule in rules
        if isinstance(rule, KeepBest) and not rule.highest and higher_is_better(rule.metric)
    )


def parse_keep_best(text: str) -> KeepBest:
    """Return the rule of ``3:val_loss`` (lowest) or ``3:+accuracy`` (highest).

    Law: ``str`` of the rule is ``--keep-best`` and a text that gives an equal rule.

    Raises:
        UsageError: it is something else.
    """
    digits, _, metric = text.partition(":")
    if _COUNT.fullmatch(digits) is None or not metric:
        raise UsageError(
            f"{text!r} does not say how many and by which metric",
            hint="write --keep-best 3:val_loss, or 3:+accuracy where higher is better",
        )
    best = parse_best(metric, text)
    assert best.metric is not None  # noqa: S101 - parse_best names one
    return KeepBest(check_count("--keep-best", int(digits)), best.metric, bool(best.highest))


def check_count(option: str, count: int) -> int:
    """Return ``count`` if a rule can have it.

    Raises:
        UsageError: it is below 1; a rule that keeps nothing is a slip of the hand.
    """
    if count < 1:
        raise UsageError(f"{option} {count} keeps nothing", hint=f"give {option} 1 or more")
    return count


def _runs(checkpoints: Iterable[Checkpoint]) -> list[list[Checkpoint]]:
    """Return the current checkpoints of each run by rising step; a run has each step once."""
    runs: dict[str, list[Checkpoint]] = defaultdict(list)
    for item in checkpoints:
        if not item.superseded:
            runs[item.run].append(item)
    return [sorted(run, key=lambda item: item.step) for run in runs.values()]
