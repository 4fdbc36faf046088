"""HTTP File Upload (XEP-0363) and the link to an uploaded file (XEP-0066)."""

from plugins.upload.stanza import (
    Slot,
    is_upload_service,
    make_info_request,
    make_items_request,
    make_slot_request,
    mark_as_link,
    max_file_bytes_from_result,
    services_from_result,
    slot_from_result,
)

__all__ = [
    "Slot",
    "is_upload_service",
    "make_info_request",
    "make_items_request",
    "make_slot_request",
    "mark_as_link",
    "max_file_bytes_from_result",
    "services_from_result",
    "slot_from_result",
]
