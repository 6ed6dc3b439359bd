"""How far a window of good data lies from the baseline: limits from the baseline's own variation.

Windows and baselines are drawn anew from the baseline many times. Each pair gives one distance a
quantity; the limits are set so that, over all quantities together, at most the wanted share of
such pairs goes beyond any of them (Westfall and Young's max-T, with each distance scaled by its
own mean and spread). So a limit knows the size of the window, the size of the baseline, and how
the quantities hang together. All windows share the error of one baseline, which the bootstrap
only estimates: the limits are set for `KEPT_BACK` of the share that was asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from srinit.errors import DataError
from srinit.monitor import distances
from srinit.monitor.observations import Observations
from srinit.monitor.properties import PROPERTIES

# N reference examples, R resamples, K classes

Floats = npt.NDArray[np.float64]
MIN_REFERENCE = 50
KEPT_BACK = 0.5
SCALARS = ("confidence", *PROPERTIES)
SHARES = {"class_mix": distances.total_variation, "class_share": distances.largest_change}


@dataclass(frozen=True)
class Limits:
    """The distances of good windows of one size, by quantity."""

    window: int
    baseline: int
    limit: dict[str, float]
    least: float  # smaller distances never count
    drawn: dict[str, Floats]  # R distances of good windows, sorted

    def of(self, name: str, count: int) -> float:
        """Return the limit of a quantity that was seen on fewer examples than the window has."""
        widened = (1 / count + 1 / self.baseline) / (1 / self.window + 1 / self.baseline)
        return max(self.limit[name] * math.sqrt(max(widened, 1.0)), self.least)

    def p_value(self, name: str, effect: float) -> float:
        """Return the share of good windows at least as far away; never 0."""
        values = self.drawn[name]
        beyond = len(values) - int(np.searchsorted(values, effect, "left"))
        return (beyond + 1) / (len(values) + 1)


class Reference:
    """The baseline that windows are compared with.

    Args:
        baseline: What was observed on data that is known to be good.
        num_classes: Of the model.
        most: Examples that are kept, drawn with `seed`.
        seed: Of every random choice.

    Raises:
        DataError: Fewer than 50 examples.
    """

    def __init__(
        self, baseline: Observations, *, num_classes: int, most: int = 2000, seed: int = 0
    ) -> None:
        if len(baseline) < MIN_REFERENCE:
            raise DataError(
                f"the baseline has {len(baseline)} examples; {MIN_REFERENCE} at least are needed "
                "to say how much good windows vary."
            )
        self.seed, self.num_classes = seed, num_classes
        self._limits: dict[tuple[object, ...], Limits] = {}
        random = np.random.default_rng(seed)
        chosen = np.sort(random.permutation(len(baseline))[:most])
        self.whole, self.sample = baseline, baseline.part(chosen)
        self._sorted = {
            name: np.sort(values)
            for name in SCALARS
            if (values := getattr(self.sample, name)) is not None
        }
        if self.sample.features is not None:
            self._distance = distances.between(self.sample.features, self.sample.features)
            self._spread = float(self._distance.mean())

    def watched(self, window: Observations) -> tuple[str, ...]:
        """Return the quantities that both the baseline and a window have."""
        return tuple(
            name
            for name in (*SHARES, *SCALARS, "features")
            if name in SHARES
            or (getattr(self.sample, name) is not None and getattr(window, name) is not None)
        )

    def distances(self, window: Observations) -> dict[str, tuple[float, int]]:
        """Return how far a window lies from the baseline, by quantity.

        Each distance lies in [0, 1]; beside it stands on how many examples it was seen.
        """
        found: dict[str, tuple[float, int]] = {}
        for name in self.watched(window):
            if name in SHARES:
                shares = [self.shares(part.prediction) for part in (self.sample, window)]
                found[name] = float(SHARES[name](*shares)), len(window)
                continue
            theirs = getattr(window, name)
            theirs = theirs[np.isfinite(theirs if theirs.ndim == 1 else theirs[:, 0])]
            if not len(theirs):
                continue
            if name == "features":
                mine = self.sample.features
                assert mine is not None
                if mine.shape[1] != theirs.shape[1]:
                    raise DataError(
                        f"the window has {theirs.shape[1]} features, the baseline "
                        f"{mine.shape[1]}; they are not of the same model."
                    )
                across = distances.between(mine, theirs).mean()
                within = distances.between(theirs, theirs).mean()
                effect = float(distances.energy(np.array(self._spread), within, across))
            else:
                effect = distances.kolmogorov_to(self._sorted[name], theirs)
            found[name] = effect, len(theirs)
        return found

    def limits(
        self,
        names: tuple[str, ...],
        *,
        window: int,
        false_alarm: float,
        min_effect: float = 0.0,
        resamples: int = 1000,
        block: int = 1,
    ) -> Limits:
        """Return the limits for windows of a size.

        Args:
            names: Quantities that are watched together.
            window: Examples of a window.
            false_alarm: Share of good windows that may go beyond any limit.
            min_effect: Distances below this never count.
            resamples: Pairs that are drawn.
            block: Examples that follow each other and are drawn together, for baselines whose
                order is that of production.
        """
        key = (names, window, false_alarm, min_effect, resamples, block)
        if key in self._limits:
            return self._limits[key]
        random = np.random.default_rng([self.seed, window])
        count = len(self.sample)
        window_RN = drawn(random, count, window, resamples, block)
        other_RN = drawn(random, count, count, resamples, block)
        table: dict[str, Floats] = {}
        for name in names:
            if name in SHARES:
                classes_NK = np.eye(self.num_classes)[self.sample.prediction]
                table[name] = SHARES[name](window_RN @ classes_NK, other_RN @ classes_NK)
            elif name == "features":
                table[name] = distances.energy_of_counts(self._distance, window_RN, other_RN)
            else:
                table[name] = distances.kolmogorov_of_counts(
                    getattr(self.sample, name), window_RN, other_RN
                )
        centers = {name: float(values.mean()) for name, values in table.items()}
        spreads = {name: float(values.std()) or 1e-12 for name, values in table.items()}
        worst_R = np.max([(table[n] - centers[n]) / spreads[n] for n in table], axis=0)
        reach = float(np.quantile(worst_R, 1 - KEPT_BACK * false_alarm, method="higher"))
        found = Limits(
            window=window,
            baseline=count,
            least=min_effect,
            limit={n: max(centers[n] + reach * spreads[n], min_effect) for n in table},
            drawn={name: np.sort(values) for name, values in table.items()},
        )
        self._limits[key] = found
        return found

    def permutation_p(self, window: Observations, permutations: int = 199) -> float | None:
        """Return the permutation p-value of the features' energy distance; None without."""
        if self.sample.features is None or window.features is None:
            return None
        theirs = window.features[np.isfinite(window.features[:, 0])]
        return distances.energy_permutation(
            self.sample.features[:500],
            theirs[:500],
            permutations=permutations,
            random=np.random.default_rng(self.seed),
        )

    def shares(self, prediction: npt.NDArray[np.int64]) -> Floats:
        """Return the share of every class."""
        counts = np.bincount(prediction, minlength=self.num_classes)
        shares: Floats = counts / len(prediction)
        return shares


def drawn(random: np.random.Generator, count: int, size: int, resamples: int, block: int) -> Floats:
    """Return how large a share of each sample every example has, (resamples, count)."""
    block = min(block, count, size)
    blocks = -(-size // block)
    found = np.zeros((resamples, count))
    for row in found:
        starts = random.integers(0, count, blocks)
        positions = (starts[:, None] + np.arange(block)).reshape(-1)[:size] % count
        row += np.bincount(positions, minlength=count)
    found /= size
    return found
