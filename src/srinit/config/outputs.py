"""Sections of what comes out: exported files, the report, the return on investment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from srinit.config.base import Section
from srinit.config.inputs import ModelSection

Amount = Annotated[float, Field(ge=0)]
Currency = Literal["JPY", "USD", "EUR"]


class ExportSection(Section):
    """What is written for deployment."""

    onnx: bool = Field(default=True, description="ONNX with a dynamic batch")
    openvino: bool = Field(
        default=False, description="OpenVINO IR too (the extra openvino); int8 by NNCF beside"
    )
    torch_export: bool = Field(default=True, description="torch.export program")
    opset: int | None = Field(
        default=None, ge=17, le=30, description="ONNX opset; default: the exporter's"
    )
    int8: bool = Field(
        default=False,
        description="quantize, beside the others; written if gates and time agree",
    )
    package: bool = Field(
        default=False,
        description="the edge package: a folder that answers without torch, if the gates passed",
    )
    license: str | None = Field(
        default=None, min_length=1, description="of the network, named in the package"
    )
    huggingface: Literal["auto", "required", "none"] = Field(
        default="auto",
        description="a folder for from_pretrained, of networks of transformers; required: the run "
        "ends before the work where the config has no words for a cut",
    )
    shard_size: str = Field(
        default="5GB",
        pattern=r"^[1-9][0-9]*(KB|MB|GB|KiB|MiB|GiB)$",
        description="largest file of weights in that folder",
    )


class AlternativesSection(Section):
    """What else would make the network faster: measured beside pruning, on validation data."""

    measure: bool = Field(
        default=False, description="in `srinit run`; `srinit alternatives RUN` measures in any case"
    )
    examples: int = Field(
        default=1000, ge=30, description="validation examples that each answers at most"
    )
    resolutions: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        default=[0.75, 0.5], description="shares of the sides of the images, with the same weights"
    )
    compile: bool = Field(default=False, description="torch.compile too")
    siblings: list[ModelSection] = Field(
        default=[], description="smaller trained networks for the same inputs and classes"
    )


class ReportSection(Section):
    """The report."""

    languages: list[Literal["ja", "en"]] = Field(
        default=["ja", "en"], min_length=1, description="the first is shown first"
    )
    pictures: int = Field(default=4, ge=0, le=12, description="examples explained by pictures")


class RegistrySection(Section):
    """The model registry (MLflow), which `srinit promote` and `rollback` write to."""

    uri: str | None = Field(
        default=None,
        min_length=1,
        description="a tracking server (http://...) or database; default: SQLite in OUT/mlflow",
    )
    model: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="name of the registered model; default: the name of the run",
    )
    track: bool = Field(default=False, description="log every finished run, promoted or not")
    smoke_examples: int = Field(
        default=8,
        ge=0,
        le=1024,
        description="test examples kept with a version, with its answers, to check it by",
    )
    read_environment: bool = Field(
        default=False, description="let MLflow read MLFLOW_* variables, e.g. a server's token"
    )


class MonitorSection(Section):
    """What `srinit monitor` compares with the run's own baseline, and when it raises an alarm."""

    window: int = Field(default=500, ge=30, le=1_000_000, description="examples of a window")
    false_alarm: float = Field(
        default=0.01, gt=0, lt=0.5, description="share of good windows beyond any limit"
    )
    confirm: int = Field(default=2, ge=1, le=100, description="windows in a row for an alarm")
    min_effect: float = Field(
        default=0.02, ge=0, lt=1, description="distances below this never count; all are 0 to 1"
    )
    reference: int = Field(
        default=2000, ge=50, le=20_000, description="baseline examples that are compared with"
    )
    block: int = Field(
        default=1, ge=1, le=100_000, description="baseline examples that vary together, in order"
    )
    max_left_out: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="share of a log's lines that may fail, be left out or lack a field",
    )
    shadow: float = Field(
        default=0.1, ge=0, le=1, description="share that the unpruned network answers too"
    )


class InferenceCostSection(Section):
    """Stated power, for the estimate of the energy where the system tells none."""

    watts_per_core: float = Field(default=15.0, gt=0, le=1000, description="busy processor core")
    device_watts: float = Field(default=300.0, gt=0, le=10_000, description="busy GPU")


class RoiInputs(Section):
    """What the report computes the return on investment from; all optional."""

    currency: Currency = Field(default="JPY", description="of all amounts")
    pieces_per_year: Amount | None = Field(default=None, description="inspected pieces")
    cost_per_compute_hour: Amount | None = Field(default=None, description="of the device")
    device_price: Amount | None = Field(default=None, description="if bought")
    device_years: Amount | None = Field(default=None, gt=0, description="of use of that device")
    device_hours_per_year: Amount | None = Field(
        default=None, gt=0, le=8784, description="that it works; with the two above: cost per hour"
    )
    cheaper_device_price: Amount | None = Field(
        default=None,
        description="of one that is fast enough after the cut, in place of device_price",
    )
    devices: Amount | None = Field(default=None, description="that are replaced; default: 1")
    line_hour_value: Amount | None = Field(
        default=None, description="of an hour of the line, where it waits for the inspection"
    )
    engineering_hours: Amount | None = Field(default=None, description="one-off work")
    hourly_rate: Amount | None = Field(default=None, description="of that work")
    missed_defect_cost: Amount | None = Field(default=None, description="of one")
    false_reject_cost: Amount | None = Field(default=None, description="of one good part")
    defect_share: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="share of all pieces that are defective; default: the test data's"
    )
