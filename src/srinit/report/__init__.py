"""The report of a run: one offline page for the engineer and for the person who signs."""

from srinit.config import RoiInputs
from srinit.report.data import DataFile, ReportInput, RoundInput
from srinit.report.overlays import make_overlays
from srinit.report.pictures import make_pictures
from srinit.report.reading import load_report_input
from srinit.report.roi import Roi, RoiFacts, return_on_investment
from srinit.report.side_by_side import write_side_by_side
from srinit.report.write import write_report
from srinit.runs.pictures import Pictures

__all__ = [
    "DataFile",
    "Pictures",
    "ReportInput",
    "Roi",
    "RoiFacts",
    "RoiInputs",
    "RoundInput",
    "load_report_input",
    "make_overlays",
    "make_pictures",
    "return_on_investment",
    "write_report",
    "write_side_by_side",
]
