"""Windows of production data against the baseline, one by one: what is beyond its limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from srinit.errors import DataError
from srinit.monitor.drift import MIN_WINDOW, TRENDS, DriftReport, Finding, Window
from srinit.monitor.limits import SCALARS, SHARES, Reference
from srinit.monitor.observations import (
    FAILED,
    LEFT_OUT,
    Floats,
    Observations,
    from_plain,
    joined,
    to_plain,
)
from srinit.monitor.rates import fall
from srinit.records import record
from srinit.stats.share_trend import ShareTrend

MOST_WINDOWS = 5000  # that are kept
RATES = {"agrees": "agreement", "right": "accuracy"}
TRENDS_AS = 5  # windows: trends may err over a whole log as often as so many windows
RATIO = 1.25  # a share that changes by less, and by less than `min_effect`, never counts


@record
class WatchSettings:
    """When something is an alarm.

    A quantity raises an alarm when it is beyond its limit in `confirm` windows in a row; evidence
    that adds up over windows, a trend, when there is enough of it. See `srinit.monitor.limits`,
    `srinit.monitor.rates` and `srinit.stats.share_trend`.
    """

    window: int = 500  # examples; fewer where there are not enough for `confirm` windows
    false_alarm: float = 0.01  # share of good windows beyond any limit; trends: see `TRENDS_AS`
    confirm: int = 2  # windows in a row
    min_effect: float = 0.02  # distances below this never count
    resamples: int = 1000  # good windows that are drawn to set the limits
    block: int = 1  # examples that vary together, in order; see `Reference.limits`
    max_left_out: float = 0.02  # share of lines of a log that may fail, be left out or lack a field


class Watch:
    """Judges windows as examples come in; holds less than `confirm` windows of them.

    Args:
        reference: The baseline.
        settings: When something is an alarm.
        class_names: For people; numbers without.
    """

    def __init__(
        self,
        reference: Reference,
        settings: WatchSettings | None = None,
        class_names: Sequence[str] = (),
    ) -> None:
        self.reference, self.settings = reference, settings or WatchSettings()
        self.names = tuple(class_names) or tuple(map(str, range(reference.num_classes)))
        self.size: int | None = None  # of a window, once it is known
        self.windows: list[Window] = []
        self.windows_before = 0
        self.examples = 0  # of all judged windows
        self.digest = ""  # of all that was judged, in order
        self.alarm_digest = ""  # up to the first alarm: a log that only grew has the same
        self._pending: Observations | None = None
        self._seen = set[str]()
        self._run = dict[str, int]()
        self._standing: tuple[str, ...] = ()  # alarms that the window before a pause was part of
        self._causes = dict[str, int]()
        self._trends = dict[str, ShareTrend]()

    def add(self, observed: Observations) -> list[Window]:
        """Take in what was observed next; return the windows that it completed."""
        if not len(observed):
            return []
        parts = [part for part in (self._pending, observed) if part is not None]
        self._pending = joined(parts)
        wanted = self.settings
        if self.size is None:
            if not self._holds(wanted.confirm * wanted.window):
                return []
            self.size = wanted.window
        return self._cut()

    def finish(self) -> DriftReport:
        """Return what was found when nothing more will come.

        Raises:
            DataError: There was next to nothing.
        """
        if self.size is None and self._pending is not None:
            count = int(self._pending.used.sum())
            share = max(count, len(self._pending) // 2) // self.settings.confirm
            self.size = max(min(self.settings.window, share), MIN_WINDOW)
            # So few tell nothing of a course: dealt out in turn, files of one class do no harm.
            entries, turns = len(self._pending), range(self.settings.confirm)
            dealt = [np.arange(turn, entries, self.settings.confirm) for turn in turns]
            self._pending = self._pending.part(np.concatenate(dealt))
            self._cut()
        return self.report()

    def report(self) -> DriftReport:
        """Return what was found so far."""
        settings = self.settings
        last = self.windows[-1].beyond if self.windows else ()
        left = 0 if self._pending is None else int(self._pending.used.sum())
        known = (*SCALARS, "features", *RATES)
        absent = [n for n in known if getattr(self.reference.whole, n) is not None]
        return DriftReport(
            alarm=bool(self._causes),
            causes=tuple(self._causes),
            first_alarm=min(self._causes.values(), default=None),
            false_alarm=settings.false_alarm,
            confirm=settings.confirm,
            windows=tuple(self.windows),
            examples_left=left,
            window=self.size or settings.window,
            windows_before=self.windows_before,
            unconfirmed=tuple(name for name in last if name not in self._causes),
            not_watched=tuple(RATES.get(n, n) for n in absent if n not in self._seen),
        )

    def _holds(self, count: int) -> bool:
        assert self._pending is not None
        return int(self._pending.used.sum()) >= count or len(self._pending) >= 2 * count

    def _cut(self) -> list[Window]:
        """Judge all whole windows that are there."""
        assert self._pending is not None
        assert self.size is not None
        found, begin = [], 0
        upto = np.cumsum(self._pending.used)
        while True:
            done = int(upto[begin - 1]) if begin else 0
            end = int(np.searchsorted(upto, done + self.size)) + 1
            end = min(end, begin + 2 * self.size)
            if end > len(upto):
                break
            found.append(self._judged(self._pending.part(slice(begin, end))))
            begin = end
        self._pending = self._pending.part(slice(begin, None)) if begin < len(upto) else None
        return found

    def _judged(self, part: Observations) -> Window:
        examples = part.part(part.used)
        failed, left = (int((part.prediction == code).sum()) for code in (FAILED, LEFT_OUT))
        for name in (*SCALARS, "features", *RATES):
            values, mine = getattr(part, name), getattr(self.reference.whole, name)
            if values is not None and mine is not None and np.isfinite(values).any():
                self._seen.add(name)
        findings = []
        if len(examples) >= MIN_WINDOW:
            findings += self._distances(examples)
        findings += self._rates(part)
        findings += self._evidence(part)
        findings += self._lines(examples, failed, left)
        times = part.time[np.isfinite(part.time)] if part.time is not None else ()
        window = Window(
            first=self.examples,
            num_examples=len(examples),
            findings=tuple(findings),
            failed=failed,
            left_out=left,
            begins=float(np.min(times)) if len(times) else None,
            ends=float(np.max(times)) if len(times) else None,
        )
        content = (part.prediction, part.confidence)
        seen = b"".join(np.ascontiguousarray(values).tobytes() for values in content)
        self.digest = sha256(self.digest.encode() + seen).hexdigest()
        self._note(window)
        return window

    def _note(self, window: Window) -> None:
        number = self.windows_before + len(self.windows)
        self.examples += window.num_examples
        self.windows.append(window)
        if len(self.windows) > MOST_WINDOWS:
            del self.windows[0]
            self.windows_before += 1
        self._run = {name: self._run.get(name, 0) + 1 for name in window.beyond}
        for name in self._standing:
            self._causes.pop(name, None)
        for name in filter(self._confirmed, self._run):
            self._causes.setdefault(name, number)
        if self._standing and not self._causes.keys() & set(self._standing):
            self.alarm_digest = ""  # the alarm before is over
        self._standing = ()
        if self._causes and not self.alarm_digest:
            self.alarm_digest = self.digest

    def _confirmed(self, name: str) -> bool:
        return self._run[name] >= self.settings.confirm or name in TRENDS

    def _share(self) -> float:
        """Return what every quantity may err: all have the same part of the false alarms."""
        return self.settings.false_alarm / (len(self._watched()) + len(self._watched_rates()))

    def _watched(self) -> tuple[str, ...]:
        names = (*SHARES, *SCALARS, "features")
        return tuple(name for name in names if name in SHARES or name in self._seen)

    def _watched_rates(self) -> tuple[str, ...]:
        return tuple(name for name in RATES if name in self._seen)

    def _distances(self, examples: Observations) -> list[Finding]:
        settings, reference = self.settings, self.reference
        names = self._watched()
        limits = reference.limits(
            names,
            window=self.size or settings.window,
            false_alarm=self._share() * len(names),
            min_effect=settings.min_effect,
            resamples=settings.resamples,
            block=settings.block,
        )
        findings = []
        for name, (effect, count) in reference.distances(examples).items():
            if name not in names or count < MIN_WINDOW:
                continue
            limit = limits.of(name, count)
            beyond = effect > limit
            about, before, now = self._means(name, examples)
            findings.append(
                Finding(
                    quantity=name,
                    effect=effect,
                    limit=limit,
                    beyond=beyond,
                    window_examples=count,
                    baseline_examples=len(reference.sample),
                    p_value=limits.p_value(name, effect),
                    permutation_p=(
                        reference.permutation_p(examples) if beyond and name == "features" else None
                    ),
                    about=about,
                    before=before,
                    now=now,
                )
            )
        return findings

    def _means(self, name: str, examples: Observations) -> tuple[str, float | None, float | None]:
        """Return what people would compare: means, or the shares of the class that changed most."""
        if name in SCALARS:
            mine, theirs = (getattr(o, name) for o in (self.reference.sample, examples))
            return "", float(mine.mean()), float(np.nanmean(theirs))
        if name != "class_share":
            return "", None, None
        mine, theirs = (
            self.reference.shares(o.prediction) for o in (self.reference.sample, examples)
        )
        place = int(np.abs(theirs - mine).argmax())
        return self.names[place], float(mine[place]), float(theirs[place])

    def _rates(self, part: Observations) -> list[Finding]:
        findings = []
        for name in self._watched_rates():
            before, now = _hits(getattr(self.reference.whole, name)), _hits(getattr(part, name))
            if before[1] and now[1]:
                share, least = self._share(), self.settings.min_effect
                findings.append(fall(RATES[name], before, now, share, least))
        return findings

    def _counts(self, source: Observations) -> dict[str, tuple[Floats, int]]:
        """Return what trends count in the baseline or a window: hits, and of how many."""
        answers = source.prediction[source.used]
        classes = np.bincount(answers, minlength=self.reference.num_classes).astype(float)
        found = {"class_trend": (classes, len(answers))}
        for name in self._watched_rates():
            hits, total = _hits(getattr(source, name))
            found[f"{RATES[name]}_trend"] = np.array([float(hits)]), total
        return {name: pair for name, pair in found.items() if pair[1]}

    def _needed(self) -> float:
        """Return the logarithm of the evidence that a trend needs for an alarm."""
        share = min(TRENDS_AS * self.settings.false_alarm, 0.5)
        return math.log((1 + len(self._watched_rates())) / share)

    def _trend(self, name: str) -> ShareTrend:
        hits, total = self._counts(self.reference.whole)[name]
        block, rises = self.settings.block, name == "class_trend"
        return ShareTrend(hits / block, total / block, rises=rises, one_window=self._needed())

    def _evidence(self, part: Observations) -> list[Finding]:
        """Return the evidence over all windows so far; after an alarm it begins anew."""
        settings, findings = self.settings, []
        base = self._counts(self.reference.whole)
        for name, (counts, total) in self._counts(part).items():
            if name not in base:
                continue
            if name not in self._trends:
                self._trends[name] = self._trend(name)
            trend = self._trends[name]
            trend.add(counts / settings.block, total / settings.block)
            place, before, now = trend.strongest()
            effect = trend.log_evidence() / self._needed()
            matters = abs(now - before) >= settings.min_effect or not (
                before / RATIO < now < before * RATIO
            )
            beyond = effect >= 1 and matters
            if beyond:
                del self._trends[name]
            findings.append(
                Finding(
                    quantity=name,
                    effect=max(effect, 0.0),
                    limit=1.0,
                    beyond=beyond,
                    window_examples=total,
                    baseline_examples=base[name][1],
                    about=self.names[place] if name == "class_trend" else "",
                    before=before,
                    now=now,
                )
            )
        return findings

    def _lines(self, examples: Observations, failed: int, left: int) -> list[Finding]:
        """Return what the log itself lacks; nothing where everything is there."""
        total = len(examples) + failed + left
        shares = [("lines_failed", "", failed / total), ("lines_left_out", "", left / total)]
        lacking = {
            name: 1.0 if (values := getattr(examples, name)) is None else _missing(values)
            for name in (*SCALARS, "features")
            if name in self._seen and len(examples)
        }
        shares += [("fields_missing", name, share) for name, share in lacking.items()]
        limit = self.settings.max_left_out
        return [
            Finding(
                quantity=quantity,
                effect=share,
                limit=limit,
                beyond=share > limit,
                window_examples=total,
                baseline_examples=0,
                about=about,
            )
            for quantity, about, share in shares
            if share > 0
        ]

    def state(self) -> dict[str, Any]:
        """Return what `resume` goes on from, as JSON: the window that is not full, the evidence."""
        trends = {name: trend.state() for name, trend in self._trends.items()}
        return {
            "size": self.size,
            "examples": self.examples,
            "windows": self.windows_before + len(self.windows),
            "digests": [self.digest, self.alarm_digest],
            "seen": sorted(self._seen),
            "run": self._run,
            "trends": trends,
            "pending": None if self._pending is None else to_plain(self._pending),
        }

    def resume(self, state: dict[str, Any], *, standing: bool) -> None:
        """Go on from what `state` returned.

        Args:
            state: Of a watch with the same baseline.
            standing: An alarm that the last window was still part of is one until the next window.
        """
        self.size, self.examples = state["size"], int(state["examples"])
        self.windows_before = int(state["windows"])
        self.digest, self.alarm_digest = state["digests"]
        self._seen, self._run = set(state["seen"]), dict(state["run"])
        for name, kept in state["trends"].items():
            self._trends[name] = self._trend(name)
            self._trends[name].resume(kept)
        if state["pending"] is not None:
            self._pending = from_plain(state["pending"])
        self._standing = tuple(name for name in self._run if self._confirmed(name))
        if standing:
            self._causes = dict.fromkeys(self._standing, self.windows_before - 1)


def _hits(values: Floats | None) -> tuple[int, int]:
    if values is None:
        return 0, 0
    known = values[np.isfinite(values)]
    return int(known.sum()), len(known)


def _missing(values: Floats) -> float:
    return float(np.isnan(values if values.ndim == 1 else values[:, 0]).mean())


def detect_drift(
    reference: Reference,
    observed: Observations,
    settings: WatchSettings | None = None,
    *,
    class_names: Sequence[str] = (),
) -> DriftReport:
    """Return the windows of some data and whether they raise an alarm.

    Args:
        reference: The baseline.
        observed: Production data in its order.
        settings: When something is an alarm.
        class_names: For people.

    Raises:
        DataError: Fewer than 30 examples.
    """
    if len(observed) < MIN_WINDOW:
        raise DataError(
            f"{len(observed)} examples are too few to watch; wait for {MIN_WINDOW} at least."
        )
    watch = Watch(reference, settings, class_names)
    watch.add(observed)
    return watch.finish()
