"""What can be shown of a class on so many test examples, known before the work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from srinit.records import record
from srinit.stats import paired

FEW = 100  # examples of a class; of more nobody needs to be warned
SHOWN = 5


@record
class ClassOutlook:
    """What so many test examples of one class can show of its recall."""

    name: str
    num_examples: int
    excluded: float  # smallest loss that can be excluded, if not one prediction changes
    noticed: int | None  # fewest examples lost (none gained) that are significant; None: too few

    @property
    def sentence(self) -> str:
        """The same in words."""
        count = self.num_examples
        if not count:
            return f"class {self.name}: no test example; nothing can be shown of it."
        lost = (
            "not even the loss of all of them is significant"
            if self.noticed is None
            else f"a loss of {self.noticed} or more ({100 * self.noticed / count:.0f} points) is "
            "noticed"
        )
        return (
            f"class {self.name}: {count} test example{'s' if count > 1 else ''}; {lost}, one "
            f"below {100 * self.excluded:.0f} points can never be excluded."
        )


def class_outlooks(
    class_counts: Mapping[str, int],
    *,
    defects: Sequence[str] = (),
    confidence: float = 0.95,
    few: float = FEW,
    classes: int | None = None,
) -> tuple[ClassOutlook, ...]:
    """Return what can be shown of classes with few test examples, the fewest first.

    Args:
        class_counts: Test examples of every class.
        defects: Classes that mean defective: only they are named where there are some.
        confidence: Of the intervals, two-sided.
        few: Classes with so many examples or more are left out.
        classes: How many are judged together; default: all of `class_counts`.

    Example:
        >>> found = class_outlooks({"good": 900, "crack": 24}, defects=["crack"])
        >>> print(found[0].sentence)  # doctest: +ELLIPSIS
        class crack: 24 test examples; a loss of 4 or more (17 points) is noticed, one below ...

    """
    names = [name for name in class_counts if not defects or name in defects]
    fewest = sorted((class_counts[name], name) for name in names if class_counts[name] < few)
    z = paired.quantile(confidence)
    return tuple(
        ClassOutlook(
            name=name,
            num_examples=count,
            excluded=z * z / (count + z * z),
            noticed=_noticed(
                count,
                confidence,
                len(class_counts) if classes is None else classes,
                alone=name in defects,
            ),
        )
        for count, name in fewest[:SHOWN]
    )


def _noticed(count: int, confidence: float, classes: int, *, alone: bool) -> int | None:
    """Return how many lost examples `srinit.comparison.worse` takes for a class that got worse.

    McNemar's exact test, adjusted for the number of classes; the class's own interval is enough
    where it means defective.
    """
    for lost in range(1, count + 1):
        if classes * paired.mcnemar_exact(lost, 0) < 1 - confidence:
            return lost
        if alone and paired.tango_interval(lost, 0, count, confidence)[0] > 0:
            return lost
    return None
