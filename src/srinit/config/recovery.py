"""The section of the recovery after a cut: how a network is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from srinit.config.base import Fraction, Section

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["finetune", "rewind"]
TrainingPrecision = Literal["auto", "float32", "bfloat16", "float16"]


class LoraSettings(Section):
    """Low-rank adapters that are trained in place of the weights, and merged into them."""

    r: int = Field(
        default=0, ge=0, le=4096, description="rank, such as 16; 0: all weights are trained"
    )
    alpha: int | None = Field(
        default=None, ge=1, description="their weight is alpha / r; default: 2 r"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="on what they read")
    targets: Literal["auto"] | tuple[str, ...] = Field(
        default="auto",
        description="linear maps that get them: auto (all but the output), or names, ends of names "
        "or globs",
    )


class TrainingSettings(Section):
    """What a recipe and the config's section have in common."""

    lr: float | None = Field(default=None, gt=0, description="peak rate; null: chosen by trials")
    weight_decay: float | None = Field(default=None, ge=0, description="not on norms and biases")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of the steps")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="of the targets")
    distill_weight: Fraction = Field(
        default=0.5, description="share of the loss that copies the unpruned network"
    )
    temperature: float = Field(default=2.0, gt=0, description="of distillation")
    distill_top: int | None = Field(
        default=None,
        ge=1,
        description="of the unpruned network's classes or tokens only the so many likeliest are "
        "copied, the rest as one; null: all",
    )
    feature_weight: float = Field(
        default=0.0, ge=0, description="weight of copying features after every cut; 0: none"
    )
    schedule: Schedule = Field(
        default="finetune", description="rewind: default peak rate 0.1 or 2e-3, of a first training"
    )
    micro_batch: int | None = Field(
        default=None,
        ge=1,
        description="examples at a time, whose gradients add up to a step's; null: all of a step",
    )
    checkpointing: bool = Field(
        default=False,
        description="compute layers again in the backward pass in place of keeping what they put "
        "out (models of transformers)",
    )
    patience: int | None = Field(
        default=None, ge=1, description="validations without gain before stopping"
    )
    ema: float | None = Field(
        default=None, gt=0, lt=1, title="decay", description="decay of averaged weights"
    )
    views: int | None = Field(
        default=None,
        ge=1,
        description="versions of every augmented image, which then repeat; what the unpruned "
        "network says of them is kept; null: new versions every epoch",
    )
    precision: TrainingPrecision = Field(
        default="auto",
        description="of the forward pass; auto: bfloat16 where device and network gain by it",
    )
    lora: LoraSettings = Field(
        default=LoraSettings(),
        description="low-rank adapters in place of all weights; needs peft",
    )

    @model_validator(mode="before")
    @classmethod
    def _adapters_by_adamw(cls, value: object) -> object:
        """Let AdamW train adapters, where no optimizer is named; take them as a mapping too."""
        if not isinstance(value, dict) or not value.get("lora"):
            return value
        given = value["lora"]
        lora = LoraSettings.model_validate(given) if isinstance(given, dict) else given
        if not isinstance(lora, LoraSettings) or not lora.r:
            return {**value, "lora": lora}
        return {"optimizer": "adamw", **value, "lora": lora}


class RecipeSettings(TrainingSettings):
    """How a network is trained after a cut; `srinit.finetune.Recipe` has the same settings."""

    epochs: float = Field(
        default=5, ge=0, le=100_000, description="passes over the training data; 0: none"
    )
    optimizer: Optimizer = Field(default="sgd", description="with cosine schedule")
    batch_size: int = Field(default=128, ge=1, le=65536, description="examples a step")


class FinetuneSection(TrainingSettings):
    """Recovery after the cut; a command or function of your own may take its place.

    What is left out is chosen from the data, the network and trials on copies of it.
    """

    epochs: float | None = Field(
        default=None,
        ge=0,
        le=100_000,
        description="passes over the training data; 0: none; null: from their number or minutes",
    )
    minutes: float | None = Field(
        default=None, gt=0, description="time for the training of each round, in place of epochs"
    )
    optimizer: Optimizer | None = Field(
        default=None,
        description="with cosine schedule; null: by the network's kind and trials, with lora adamw",
    )
    batch_size: int | None = Field(
        default=None, ge=1, le=65536, description="examples a step; null: from the number of data"
    )
    loss: str | None = Field(
        default=None,
        pattern=r"^(cross_entropy|next_token|.+:.+)$",
        description="cross_entropy (each place predicts its own target), next_token (the token "
        "after it) or py:FILE.py:FUNCTION(output, target), a scalar; default: what belongs to "
        "score, which has to be named for a score of your own",
    )
    rehearsal: int = Field(
        default=20,
        ge=0,
        description="steps of every recipe that is tried on a copy of the cut network before it is "
        "trained, to choose by and to say what to expect; 0: none",
    )
    command: str | None = Field(
        default=None, description="your own training: a command with {weights} and {out}"
    )
    fn: str | None = Field(
        default=None, description="your own training: py:FILE.py:FUNCTION(model, train, validation)"
    )

    @field_validator("batch_size")
    @classmethod
    def _more_than_one(cls, value: int | None) -> int | None:
        if value is not None and value < 2:  # of one example, batch normalization has no spread
            raise ValueError("should be greater than or equal to 2")
        return value

    @model_validator(mode="before")
    @classmethod
    def _auto_is_short(cls, value: object) -> object:
        return {} if value == "auto" else value

    @model_validator(mode="after")
    def _one_way_of_training(self) -> FinetuneSection:
        if self.command is not None and self.fn is not None:
            raise ValueError("command and fn are both given; keep one")
        if self.epochs is not None and self.minutes is not None:
            raise ValueError("epochs and minutes are both given; keep one")
        lacking = [part for part in ("{weights}", "{out}") if part not in (self.command or part)]
        if lacking:
            raise ValueError(f"command should name {' and '.join(lacking)}")
        return self
