"""The SkyPilot API server, with the controllers of managed jobs inside it, and the node's runtime."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from functools import cached_property
from pathlib import Path

from tests.kits.slurm_lab import templates
from tests.kits.slurm_lab.catalogs import seed_catalogs
from tests.kits.slurm_lab.layout import SYSTEM_PATH, Layout, Ports
from tests.kits.slurm_lab.procs import Services, family, stop_pids, wait_for

FAR_FUTURE = 4_102_444_800  # 2100: caches with this time are never refreshed

_VERIFY = """\
import importlib.util, json, socket, sys
from sky.backends import backend_utils
for name in ("sky.skylet.attempt_skylet", "sky.skylet.skylet"):
    importlib.util.find_spec(name).loader.get_code(name)
try:
    socket.getaddrinfo("host.invalid", 80)
    guarded = False
except OSError as error:
    guarded = "slurm lab" in str(error)
from sky.server import version_check
newest = str(version_check.VERSION_CACHE_FILE)
print(json.dumps({"probe": backend_utils._TEST_IP_LIST, "guarded": guarded, "version_cache": newest}))
"""


class SkyPilot:
    def __init__(
        self, layout: Layout, ports: Ports, fakes: templates.Fakes, services: Services, sky_python: Path
    ) -> None:
        self.layout, self.ports, self.fakes, self.services = layout, ports, fakes, services
        self.python = sky_python

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports.api}"

    @property
    def user_id(self) -> str:
        """SkyPilot's user: one of its own for each lab, so that nothing in /tmp is shared."""
        return hashlib.sha256(str(self.layout.root).encode()).hexdigest()[:8]

    @cached_property
    def version(self) -> str:
        return self._python("import importlib.metadata as m; print(m.version('skypilot'))").strip()

    @property
    def bin(self) -> Path:
        return self.python.parent

    def server_env(self) -> dict[str, str]:
        return self.layout.service_env(
            PATH=f"{self.bin}:{SYSTEM_PATH}",
            PYTHONPATH=str(self.layout.hook),
            SKYPILOT_API_SERVER_LOCAL_PORT=str(self.ports.api),
            SKYPILOT_DISABLE_USAGE_COLLECTION="1",
            SKYPILOT_POD_MEMORY_GB_LIMIT=str(self.fakes.server_memory_gb),
            SKYPILOT_USER_ID=self.user_id,
            TMPDIR=str(self.layout.tmp),
        )

    def client_env(self) -> dict[str, str]:
        """What a client of the API server adds to its environment: it sees a remote server, like users do."""
        return {
            "HOME": str(self.layout.client),
            "PATH": f"{self.bin}:{SYSTEM_PATH}",
            "SKYPILOT_API_SERVER_ENDPOINT": self.url,
            "SKYPILOT_DISABLE_LOCAL_API_SERVER": "1",
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
            "SKYPILOT_USER_ID": self.user_id,
            "SLURM_CONF": str(self.layout.slurm_conf),
        }

    def prepare(self) -> None:
        """Everything that must be in place before the first SkyPilot process starts."""
        lay, write = self.layout, templates.write
        shutil.copyfile(Path(__file__).with_name("hook.py"), lay.hook / "sitecustomize.py")
        settings = {"probe_url": f"{self.url}/api/health", "refused_log": str(lay.log / "refused.log")}
        write(lay.hook / "lab.json", json.dumps(settings))
        write(lay.home / ".slurm" / "config", templates.ssh_client_config(lay, self.ports), 0o600)
        write(lay.home / ".sky" / "config.yaml", templates.sky_config(lay, self.fakes))
        seed_catalogs(lay.home)
        seed_catalogs(lay.client)
        self._make_environments()
        self._stub_downloads()
        self.verify()

    def _make_environments(self) -> None:
        """Make the node's runtime and the jobs' default environment.

        The runtime is the very environment of the server: same version, nothing to install. It is a folder with
        a Python of its own that looks into that environment; it has no pip.
        """
        lay, write = self.layout, templates.write
        paths = self._python("import sys, sysconfig; print(sys._base_executable, sysconfig.get_path('purelib'))")
        base, purelib = paths.split()
        if not (lay.runtime / "bin" / "activate").exists():
            subprocess.run([base, "-m", "venv", "--without-pip", str(lay.runtime)], check=True)
        if not (lay.user_env / "bin" / "pip").exists():
            more = ["--system-site-packages", "--clear"]
            subprocess.run([base, "-m", "venv", *more, str(lay.user_env)], check=True)
        site = next(lay.runtime.glob("lib/python3*/site-packages"))
        write(site / "slurm_lab.pth", f"import sys; sys.path.insert(0, {str(lay.hook)!r})\n{purelib}\n")
        write(lay.etc / "uv_pip_list", f"Package  Version\n-------- -------\nskypilot {self.version}\n")

    def _stub_downloads(self) -> None:
        """What the server would fetch or build: its newest release's number, the wheel that it ships to nodes.

        The wheel is never installed, for the node has its runtime already: an empty file will do.
        """
        state = self.layout.home / ".sky"
        newest = {"release_version": self.version, "cached_at": FAR_FUTURE}
        templates.write(state / "version_cache.json", json.dumps(newest))
        wheel = state / "wheels" / "slurmlab" / f"skypilot-{self.version}-py3-none-any.whl"
        wheel.parent.mkdir(parents=True, exist_ok=True)
        wheel.write_bytes(b"")
        os.utime(wheel, (FAR_FUTURE, FAR_FUTURE))

    def _python(self, code: str, python: Path | None = None) -> str:
        env = self.server_env()
        if python is not None:
            env.pop("PYTHONPATH")  # as on the node
        done = subprocess.run(
            [python or self.python, "-c", code], env=env, cwd=self.layout.root, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{python or self.python} failed:\n{done.stderr}")
        return done.stdout

    def verify(self) -> None:
        """Fail loudly unless server and node really run with the hook: local probe, guarded sockets."""
        cache = str(self.layout.home / ".sky" / "version_cache.json")
        wanted = {"probe": [f"{self.url}/api/health"], "guarded": True, "version_cache": cache}
        for python in (None, self.layout.runtime / "bin" / "python"):
            got = json.loads(self._python(_VERIFY, python).splitlines()[-1])
            if got != wanted:
                raise RuntimeError(f"{python or self.python}: SkyPilot runs with {got}, not with {wanted}")
        log = self.layout.log / "refused.log"
        if log.exists():
            kept = [line for line in log.read_text().splitlines(True) if "host.invalid" not in line]
            log.write_text("".join(kept))

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/health", timeout=3) as answer:  # noqa: S310
                return bool(json.load(answer).get("status") == "healthy")
        except (OSError, ValueError, urllib.error.URLError):
            return False

    def up(self) -> None:
        """Start the API server and wait until it answers."""
        if self.services.pid("api") is None:
            command: list[str | Path] = [
                self.bin / "sky",
                "api",
                "start",
                "--foreground",
                "--host",
                "127.0.0.1",
            ]
            self.services.start("api", command, self.server_env())

        def ready() -> bool:
            if self.services.pid("api") is None:
                raise RuntimeError(f"the API server ended at once; see {self.layout.log}/api.out")
            return self.healthy()

        wait_for("the API server is healthy", ready, 120, pause=0.3)

    def check(self) -> None:
        """Let the server find out that it may use Slurm."""
        done = subprocess.run(
            [self.bin / "sky", "check", "slurm"], env=self._full_client_env(), capture_output=True, text=True
        )
        if done.returncode or "Slurm: enabled" not in done.stdout:
            raise RuntimeError(f"sky check slurm:\n{done.stdout}{done.stderr}")

    def _full_client_env(self) -> dict[str, str]:
        return {"LANG": "C.UTF-8", **self.client_env()}

    def stop_server(self, kill: bool = False) -> None:
        """Stop the API server only, as a deployment does (it drains: 15 to 20 s), or at once."""
        pid = self.services.pid("api")
        workers = family({pid}, without="sky.jobs.controller") if pid else set()
        self.services.stop("api", 0 if kill else 30)
        stop_pids(workers, 0)  # a killed server leaves them, and its queue's port taken

    @property
    def sockets(self) -> Path:
        """Folder of the server's ssh control sockets: SkyPilot wants it in /tmp, for the paths' length."""
        return Path(f"/tmp/sky_ssh_{self.user_id}")
