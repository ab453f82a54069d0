"""A file in a request: as a part of a form, or as the body itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.datastructures import UploadFile

from obms.errors import Invalid
from obms.web.envelope import UPLOAD_LIMIT

FIELD_LIMIT = 8
# What FastAPI would write of a body that it reads itself.
OF_FILE = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """The bytes, and the other fields of the form."""

    content: bytes
    fields: Mapping[str, str] = field(default_factory=dict)


async def upload_of(request: Request) -> Upload:
    """The one file of a form, whatever its field is called, or the body; its size is bounded before."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return Upload(content=await request.body())
    async with request.form(max_files=1, max_fields=FIELD_LIMIT, max_part_size=UPLOAD_LIMIT) as form:
        files: list[Any] = [value for value in form.values() if isinstance(value, UploadFile)]
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        return Upload(content=await files[0].read() if files else b"", fields=fields)


TheUpload = Annotated[Upload, Depends(upload_of)]


def text_field(upload: Upload, name: str) -> str | None:
    """A field of the form; Invalid if it is longer than any sensible one."""
    value = upload.fields.get(name)
    if value is not None and "\x00" in value:
        raise Invalid(**{name: ["must not contain the character NUL"]})
    return value
