"""The server: answers, caching, who is let in, what a browser is held to; the command and its files."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from embed_assets.cli.app import app as cli_app
from embed_assets.monitor.access import check_binding, is_loopback
from embed_assets.monitor.app import STATIC, build_app
from embed_assets.monitor.lake import ReadOnlyLake
from embed_assets.monitor.watch import Watch
from tests.kits import ROOT
from tests.kits.monitor_lake import FakeLake, large
from tests.kits.processes import free_port

TOKEN = "correct-horse-battery"
HOSTILE = "<img src=x onerror=alert(1)>"


def client(lake: Path, token: str | None = None) -> TestClient:
    watch = Watch(ReadOnlyLake(str(lake)))
    watch.look()
    return TestClient(build_app(watch, token), base_url="http://127.0.0.1:8000", follow_redirects=False)


@pytest.fixture
def web(lake: Path) -> TestClient:
    large(lake, time.time(), 100)
    return client(lake)


@pytest.mark.parametrize("what", ["progress", "partitions", "workers", "history"])
def test_answers_are_made_once_and_sent_only_when_they_have_changed(web: TestClient, what: str) -> None:
    first = web.get(f"/api/{what}")
    assert first.status_code == 200 and first.json()
    assert first.headers["content-encoding"] == "gzip"
    assert web.get(f"/api/{what}", headers={"accept-encoding": "identity"}).json() == first.json()
    again = web.get(f"/api/{what}", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_answers_are_what_the_api_page_says(web: TestClient) -> None:
    described = web.get("/api/openapi.json").json()
    for what in ("progress", "partitions", "workers", "history"):
        schema = described["paths"][f"/api/{what}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        properties = described["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]["properties"]
        assert set(web.get(f"/api/{what}").json()) == set(properties)
    assert web.get("/api/partitions", params={"run": "no/such/run"}).status_code == 404
    one = web.get("/api/progress").json()["runs"][0]["run"]
    assert len(web.get("/api/partitions", params={"run": one}).json()["partitions"]) == 100


def test_metrics_parse_and_say_nothing_of_what_is_unknown(web: TestClient, tmp_path: Path) -> None:
    def samples(client: TestClient) -> dict[str, float]:
        answer = client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = text_string_to_metric_families(answer.text)
        return {f"{s.name}{sorted(s.labels.values())}": s.value for f in families for s in f.samples}

    known = samples(web)
    assert known["embed_rows['books']"] == 2_950_000 and known["embed_spend_dollars[]"] > 0
    assert known["embed_partitions['books', 'damaged']"] == known["embed_damaged_files[]"] == 0
    assert known["embed_partitions['books', 'committed']"] == web.get("/api/progress").json()["counts"]["committed"]
    made = FakeLake(tmp_path / "other", 2)
    made.beat(0, time.time())
    unknown = samples(client(tmp_path / "other"))
    assert "embed_spend_dollars[]" not in unknown and unknown["embed_spend_unknown_jobs[]"] == 1
    assert unknown["embed_monitor_lake_requests_total['list']"] > 0


def test_browsers_are_held_to_our_own_files(web: TestClient) -> None:
    for path in ("/", "/api", "/api/progress", "/metrics", "/static/app.js", "/nothing"):
        headers = web.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
    for file in STATIC.glob("*.*"):
        text = file.read_text()
        found = set(re.findall(r"https?://[^\s\"'<>]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not found, f"{file}: {found}"
        assert "innerHTML" not in text and not re.search(r"<script>|\son\w+=|style=", text), file
    used = set(re.findall(r'(?:src|href)="/static/([^"]+)"', (STATIC / "index.html").read_text()))
    assert "vendor/uPlot.iife.min.js" in used
    assert all(web.get(f"/static/{name}").status_code == 200 for name in used)
    assert "MIT" in (STATIC / "vendor/uPlot.LICENSE").read_text()


def test_nothing_outside_the_assets_is_served_and_nothing_can_be_sent(web: TestClient) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2f..%2fsettings.py", "/static/"):
        assert web.get(path).status_code in (404, 405), path
    for method in ("post", "put", "delete", "patch", "options"):
        assert getattr(web, method)("/api/progress").status_code == 405


def test_hostile_texts_reach_the_browser_as_text(lake: Path) -> None:
    made = FakeLake(lake, 1)
    made.beat(0, time.time(), host=HOSTILE, region=HOSTILE, error=HOSTILE, phase=HOSTILE)
    answer = client(lake).get("/api/workers")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["workers"][0]["host"] == HOSTILE
    metrics = client(lake).get("/metrics")
    assert HOSTILE not in metrics.text and metrics.headers["content-type"].startswith("text/plain")


# -- who is let in -------------------------------------------------------------------------------------------


def test_only_loopback_goes_without_a_token() -> None:
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert is_loopback(host)
        check_binding(host, None)
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", ""):  # noqa: S104
        with pytest.raises(ValueError, match="EMBED_MONITOR_TOKEN"):
            check_binding(host, None)
        check_binding(host, TOKEN)
    with pytest.raises(ValueError, match="at least 16"):
        check_binding("127.0.0.1", "short")


@pytest.mark.parametrize("path", ["/", "/api/progress", "/api/openapi.json", "/metrics", "/static/app.js", "/nothing"])
def test_with_a_token_everything_asks_for_it(lake: Path, path: str) -> None:
    web = client(lake, TOKEN)
    for headers in (
        {}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}, {"authorization": "Bearer "},
        {"cookie": "embed_monitor="}, {"cookie": f"embed_monitor={TOKEN}"}, {"cookie": "\x00;;="},
        {"authorization": "Bearer \xff".encode("latin-1").decode("latin-1")},
    ):  # fmt: skip
        refused = web.get(path, headers=[(k.encode(), v.encode("latin-1")) for k, v in headers.items()])
        assert refused.status_code == 401, headers
        assert TOKEN not in refused.text
    assert web.get(path, params={"token": "wrong"}).status_code == 401
    assert web.get(path, headers={"authorization": f"Bearer {TOKEN}"}).status_code == (
        404 if path == "/nothing" else 200
    )


def test_a_token_in_the_address_becomes_a_cookie_and_leaves_the_address(lake: Path) -> None:
    web = client(lake, TOKEN)
    answer = web.get("/", params={"token": TOKEN, "x": "1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?x=1")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
    assert web.get("/api/progress").status_code == 200  # the client keeps the cookie
    for path in ("//evil.example", "/\\evil.example", "/%0d%0aset-cookie:x=1"):
        where = client(lake, TOKEN).get(f"http://127.0.0.1:8000{path}", params={"token": TOKEN}).headers["location"]
        assert re.fullmatch(r"/[^/\\\r\n][^\r\n]*", where), where


def test_another_sites_name_for_this_machine_is_not_served(lake: Path) -> None:
    web = client(lake)
    assert web.get("/", headers={"host": "evil.example:8000"}).status_code == 400
    for host in ("localhost", "localhost:8000", "[::1]:8000", "127.0.0.1:9"):
        assert web.get("/", headers={"host": host}).status_code == 200, host
    assert (
        client(lake, TOKEN).get("/", headers={"host": "monitor.example", "authorization": f"Bearer {TOKEN}"}).is_success
    )


# -- the command ---------------------------------------------------------------------------------------------


def test_the_command_refuses_an_open_port_and_says_what_is_missing(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("EMBED_MONITOR_TOKEN", raising=False)
    open_port = CliRunner().invoke(cli_app, ["monitor", "--lake", str(lake), "--host", "0.0.0.0"])  # noqa: S104
    assert open_port.exit_code == 2 and "EMBED_MONITOR_TOKEN" in open_port.output
    monkeypatch.setattr("embed_worker.extras.find_spec", lambda name: None if name == "uvicorn" else True)
    missing = CliRunner().invoke(cli_app, ["monitor", "--lake", str(lake)])
    assert (
        missing.exit_code == 2
        and "uvicorn is not installed here: pip install 'embed-assets[monitor]'" in missing.output
    )


@pytest.mark.slow
def test_the_command_serves_a_real_lake_and_logs_no_token(lake: Path) -> None:
    FakeLake(lake, 3).shard(0, time.time())
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", "from embed_assets.cli.app import app; app()", "monitor", "--port", str(port)],
        cwd=ROOT, env=os.environ | {"EMBED_LAKE": str(lake), "EMBED_MONITOR_TOKEN": TOKEN}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/progress", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        deadline = time.monotonic() + 120
        while True:
            assert time.monotonic() < deadline and process.poll() is None
            try:
                answer = json.load(urllib.request.urlopen(asked, timeout=5))  # noqa: S310
                if answer["at"]:
                    break
            except OSError:
                time.sleep(0.2)
        assert answer["counts"]["committed"] == 1
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/?token=wrong-{TOKEN}", timeout=5)
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=30)
    assert f"http://127.0.0.1:{port}" in output and TOKEN not in output


def test_the_monitors_cluster_opens_no_port_and_carries_no_secret() -> None:
    value = yaml.safe_load((ROOT / "sky/monitor.yaml").read_text())
    assert "ports" not in value["resources"] and "accelerators" not in value["resources"]
    assert (value["envs"]["EMBED_LAKE"], value["envs"]["EMBED_MONITOR_HOST"]) == (None, "127.0.0.1")
    assert value["secrets"] == {"EMBED_MONITOR_TOKEN": ""}
    for script in (value["setup"], value["run"]):
        assert script.startswith("set -e")
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
