"""How a network was fine-tuned: the recipe, and what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from pydantic import ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from srinit.config import RecipeSettings
from srinit.errors import ConfigError
from srinit.records import record

WHOLE = ("int_type", "int_from_float")
TOO_MUCH = ("less_than", "less_than_equal")


class Recipe(RecipeSettings):
    """How to recover after a cut; the defaults suit a small cut of a trained classifier.

    The settings are those of the config's section `finetune` (`RecipeSettings`, docs/config.md).

    Raises:
        ConfigError: A setting makes no sense; all of them are named.
    """

    model_config = ConfigDict(strict=True)

    clip: float = Field(default=5.0, gt=0, description="largest norm of a gradient")

    if not TYPE_CHECKING:  # a type checker knows the settings by their names

        def __init__(self, **settings: object) -> None:
            try:
                super().__init__(**settings)
            except ValidationError as error:
                problems = dict.fromkeys(map(self._problem, error.errors()))
                raise ConfigError(f"the recipe of fine-tuning: {'; '.join(problems)}.") from None

    @classmethod
    def _problem(cls, detail: ErrorDetails) -> str:
        name, value = str(detail["loc"][0]), detail["input"]
        if detail["type"] == "extra_forbidden":
            raise TypeError(f"Recipe has no setting {name!r}; it has {', '.join(cls.model_fields)}")
        what = "a whole number" if isinstance(value, float) and detail["type"] in WHOLE else ""
        return f"{name} is {what or _asked(cls.model_fields[name], detail)}, not {value!r}"

    @property
    def peak_lr(self) -> float:
        """The peak learning rate.

        `rewind` goes back to the rate of a first training, as Renda et al. found better after
        pruning: https://arxiv.org/abs/2003.02389
        """
        if self.lr is not None:
            return self.lr
        if self.lora.r and self.optimizer == "adamw":
            return 1e-3
        high = self.schedule == "rewind"
        return {"sgd": 0.1 if high else 0.02, "adamw": 2e-3 if high else 5e-4}[self.optimizer]

    @property
    def decay(self) -> float:
        """The weight decay."""
        if self.weight_decay is not None:
            return self.weight_decay
        return {"sgd": 5e-4, "adamw": 0.02}[self.optimizer]


def _asked(field: FieldInfo, detail: ErrorDetails) -> str:
    """Return what a setting has to be, in words."""
    if detail["type"] == "literal_error":
        return f"one of {', '.join(get_args(field.annotation))}"
    if detail["type"] in TOO_MUCH and "le" in detail["ctx"] and detail["ctx"]["le"] > 1:
        return f"at most {detail['ctx']['le']:g}"
    ends = {key: end for each in field.metadata for key, end in _ends(each)}
    share = ends.get("lt", ends.get("le")) == 1
    if share:
        left, right = "[" if "ge" in ends else "(", ")" if "lt" in ends else "]"
        return f"a {field.title or 'share'} in {left}0, 1{right}"
    return f"{ends['ge']} or more" if "ge" in ends else f"above {ends['gt']}"


def _ends(limit: object) -> list[tuple[str, float]]:
    found = [(key, getattr(limit, key, None)) for key in ("ge", "gt", "le", "lt")]
    return [(key, end) for key, end in found if end is not None]


@record
class TunePoint:
    """One validation during fine-tuning; before the first step too."""

    step: int
    epoch: float
    loss: float | None  # mean training loss since the point before
    lr: float
    validation_score: float | None  # a fraction
    num_examples: int


@record
class FallBack:
    """Training that destroyed more than it won: the weights before it were taken up again."""

    step: int
    score: float  # on validation, before going back
    best: float  # of the weights that were taken up again
    factor: float  # on the learning rate from then on


@record
class TuneLog:
    """What fine-tuning did; the best weights are in the model."""

    recipe: Recipe
    points: tuple[TunePoint, ...]
    steps: int
    best_step: int
    score_before: float | None  # on validation, before the first step
    score_after: float | None  # on validation, of the weights that were kept
    stopped: Literal["finished", "patience", "diverged", "nothing to do", "user"]
    note: str = ""
    part_size: int | None = None  # examples that fitted into memory at once; None: whole batches
    fall_backs: tuple[FallBack, ...] = ()

    @property
    def gained_nothing(self) -> bool:
        """Whether steps were taken, and the weights before the first are those that were kept."""
        return self.steps > 0 and self.best_step == 0 and self.score_before is not None


def nothing_to_do(recipe: Recipe) -> TuneLog:
    """Return the record of a fine-tuning that takes no step."""
    return TuneLog(
        recipe=recipe,
        points=(),
        steps=0,
        best_step=0,
        score_before=None,
        score_after=None,
        stopped="nothing to do",
    )
