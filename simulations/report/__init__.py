"""The self-contained HTML report of a run: `write_report(path, Material(...))`."""

from simulations.report.material import Material
from simulations.report.write import write_report

__all__ = ["Material", "write_report"]
