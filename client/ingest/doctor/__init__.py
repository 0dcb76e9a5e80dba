"""The doctor of `crossplant data check`: what a folder is, what is wrong with it, and whether it can be used."""

from client.ingest.doctor.examination import examine
from client.ingest.doctor.findings import Finding, Report, Section, SiteEntry

__all__ = ["Finding", "Report", "Section", "SiteEntry", "examine"]
