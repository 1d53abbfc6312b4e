"""The web application: a page, its assets, four answers, an API page and metrics."""

from pathlib import Path
from typing import TYPE_CHECKING

from embed_assets.monitor.access import Guard, check_binding
from embed_assets.monitor.lake import ReadOnlyLake
from embed_assets.monitor.models import History, Partitions, Progress, Workers
from embed_assets.monitor.watch import Watch

if TYPE_CHECKING:
    from fastapi import FastAPI

STATIC = Path(__file__).parent / "static"


def build_api(watch: Watch) -> "FastAPI":
    """The routes, without the guard."""
    from fastapi import FastAPI, HTTPException, Request, Response
    from fastapi.responses import FileResponse
    from fastapi.staticfiles import StaticFiles

    api = FastAPI(
        title="embed-assets monitor",
        description="How far the embeddings are, from the lake alone; nothing here changes it.",
        version="1",
        docs_url=None,  # FastAPI's own pages load from a CDN
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )

    def ready(request: Request, what: str, run: str | None = None) -> Response:
        try:
            answer = watch.answer(what, run)
        except KeyError:
            raise HTTPException(404, "there is no such run; /api/progress lists them") from None
        headers = {"etag": answer.tag, "vary": "accept-encoding", "cache-control": "private, no-cache"}
        if answer.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
            return Response(answer.packed, media_type="application/json", headers=headers)
        return Response(answer.body, media_type="application/json", headers=headers)

    @api.get("/api/progress", response_model=Progress)
    def progress(request: Request) -> Response:
        """Totals of the current runs: rows, states, rates, ETA with its range, spend, regions."""
        return ready(request, "progress")

    @api.get("/api/partitions", response_model=Partitions)
    def partitions(request: Request, run: str | None = None) -> Response:
        """Every partition of the current runs; with `run`, of that one."""
        return ready(request, "partitions", run)

    @api.get("/api/workers", response_model=Workers)
    def workers(request: Request) -> Response:
        """Every attempt that is alive, and those that have fallen silent."""
        return ready(request, "workers")

    @api.get("/api/history", response_model=History)
    def history(request: Request) -> Response:
        """Rates over time, oldest first."""
        return ready(request, "history")

    @api.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def metrics() -> Response:
        """For Prometheus."""
        from embed_assets.monitor.metrics import exposition

        body, kind = exposition(watch)
        return Response(body, headers={"content-type": kind})

    @api.get("/", include_in_schema=False)
    def page() -> Response:
        return FileResponse(STATIC / "index.html")

    @api.get("/api", include_in_schema=False)
    def api_page() -> Response:
        return FileResponse(STATIC / "api.html")

    api.mount("/static", StaticFiles(directory=STATIC))
    return api


def build_app(watch: Watch, token: str | None) -> Guard:
    """The whole application, as a server takes it."""
    return Guard(build_api(watch), token)


def serve(lake: str, host: str, port: int, token: str | None, interval: float) -> None:
    """Serves until it is interrupted. Raises ValueError where the page would be open to others."""
    check_binding(host, token)
    import uvicorn

    watch = Watch(ReadOnlyLake(lake), interval)
    watch.start()
    try:
        # No access log: it would hold the token of /?token=…
        uvicorn.run(
            build_app(watch, token),
            host=host, port=port, access_log=False, log_level="warning", server_header=False, proxy_headers=False,
        )  # fmt: skip
    finally:
        watch.stop()
