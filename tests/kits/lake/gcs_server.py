"""gcp-storage-emulator with what a lake asks of Google's: `ifGenerationMatch=0`, which it takes and does not heed.

`python -m tests.kits.lake.gcs_server PORT`
"""

import sys
import threading
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote_plus

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

ONE_AT_A_TIME = threading.RLock()
NEW_ONLY: dict[str, tuple[str, str]] = {}
"""Uploads in pieces that may only make an object → which."""
CLOSED = SimpleNamespace(value=499, phrase="Client Closed Request")
insert, finalize = objects.insert, objects._finalize_resumable_object


def is_there(storage: Any, bucket: str, name: str) -> bool:
    try:
        storage.get_file_obj(bucket, name)
    except NotFound:
        return False
    return True


def refused(response: Any) -> None:
    response.status = HTTPStatus.PRECONDITION_FAILED
    response.json({"error": {"code": 412, "message": "At least one of the pre-conditions you specified did not hold."}})


def guarded_insert(request: Any, response: Any, storage: Any, *rest: Any, **more: Any) -> None:
    with ONE_AT_A_TIME:
        if request.query.get("ifGenerationMatch") != ["0"] or "upload_id" in request.query:
            insert(request, response, storage, *rest, **more)
            return
        data = request.data if isinstance(request.data, dict) else {}
        [name] = request.query.get("name") or [data.get("name") or data["meta"]["name"]]
        if is_there(storage, request.params["bucket_name"], name):
            refused(response)
            return
        insert(request, response, storage, *rest, **more)
        if request.query.get("uploadType") == ["resumable"]:
            upload = unquote_plus(response["Location"].rpartition("upload_id=")[2])
            NEW_ONLY[upload] = request.params["bucket_name"], name


def guarded_finalize(response: Any, storage: Any, obj: Any, data: Any, upload_id: str) -> None:
    with ONE_AT_A_TIME:
        if upload_id in NEW_ONLY and is_there(storage, *NEW_ONLY[upload_id]):
            refused(response)
        else:
            finalize(response, storage, obj, data, upload_id)


def cancelled(request: Any, response: Any, storage: Any, *rest: Any, **more: Any) -> None:
    """An upload in pieces that its client gives up."""
    response.status = CLOSED


objects.insert, objects._finalize_resumable_object = guarded_insert, guarded_finalize

if __name__ == "__main__":
    from gcp_storage_emulator.server import HANDLERS, create_server  # takes the handlers as they are now

    for _, methods in HANDLERS:
        if methods.get("PUT") is objects.upload_partial:
            methods["DELETE"] = cancelled
    create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket="lakes").run()
