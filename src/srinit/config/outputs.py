"""Sections of what comes out: exported files, the report, the return on investment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from srinit.config.base import Section

Amount = Annotated[float, Field(ge=0)]


class ExportSection(Section):
    """What is written for deployment."""

    onnx: bool = Field(default=True, description="ONNX with a dynamic batch")
    torch_export: bool = Field(default=True, description="torch.export program")
    opset: int | None = Field(
        default=None, ge=17, le=30, description="ONNX opset; default: the exporter's"
    )


class ReportSection(Section):
    """The report."""

    languages: list[Literal["ja", "en"]] = Field(
        default=["ja", "en"], min_length=1, description="the first is shown first"
    )
    pictures: int = Field(default=4, ge=0, le=12, description="examples explained by pictures")


class RoiSection(Section):
    """What the report computes the return on investment from; all optional."""

    currency: Literal["JPY", "USD", "EUR"] = Field(default="JPY", description="of all amounts")
    pieces_per_year: Amount | None = Field(default=None, description="inspected pieces")
    cost_per_compute_hour: Amount | None = Field(default=None, description="of the device")
    device_price: Amount | None = Field(default=None, description="if bought")
    device_years: Amount | None = Field(default=None, gt=0, description="of use of that device")
    device_hours_per_year: Amount | None = Field(
        default=None, gt=0, le=8784, description="that it works; with the two above: cost per hour"
    )
    engineering_hours: Amount | None = Field(default=None, description="one-off work")
    hourly_rate: Amount | None = Field(default=None, description="of that work")
    missed_defect_cost: Amount | None = Field(default=None, description="of one")
    false_reject_cost: Amount | None = Field(default=None, description="of one good part")
    defect_share: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="share of all pieces that are defective; default: the test data's"
    )
