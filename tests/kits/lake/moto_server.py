"""moto's S3 server, whose conditional puts are one step, as a real server's are: moto looks first and puts later, and of
two puts at once both may find nothing."""

import sys
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from moto.s3.responses import S3Response
from moto.server import main

ONE_AT_A_TIME = threading.Lock()


def in_one_step(respond: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(respond)
    def locked(*args: Any, **kwargs: Any) -> Any:
        with ONE_AT_A_TIME:
            return respond(*args, **kwargs)

    return locked


for name in ("put_object", "_key_response_post"):
    setattr(S3Response, name, in_one_step(getattr(S3Response, name)))

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
