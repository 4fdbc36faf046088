"""HTTP File Upload (XEP-0363) and the link to an uploaded file (XEP-0066)."""

from plugins.upload.stanza import (
    Slot,
    info_request,
    is_upload_service,
    items_of,
    items_request,
    linked,
    most_bytes,
    slot_of,
    slot_request,
)

__all__ = [
    "Slot",
    "info_request",
    "is_upload_service",
    "items_of",
    "items_request",
    "linked",
    "most_bytes",
    "slot_of",
    "slot_request",
]
