"""Remarks on the running request, made wherever they come up, that its answer carries as headers."""

from contextvars import ContextVar

TRUNCATED_IMAGE = "X-Truncated-Image"

current_remarks: ContextVar[dict[str, str] | None] = ContextVar("current_remarks", default=None)
"""Headers by name, for the answer to the running request; None outside of requests."""


def remark(header: str, value: str) -> None:
    """Have the answer to the running request carry a header; until its status is sent, and on the event loop."""
    remarks = current_remarks.get()
    if remarks is not None:
        remarks[header] = value
