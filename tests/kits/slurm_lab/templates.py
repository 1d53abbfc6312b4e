"""The configuration files of munge's, Slurm's and ssh's daemons, and of SkyPilot."""

from __future__ import annotations

import getpass
import json
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kits.slurm_lab.layout import MARK, Layout, Ports

CLUSTER = "labslurm"
"""Name of the Slurm cluster: SkyPilot's region (`infra: slurm/labslurm/spot`)."""

NODE = socket.gethostname().partition(".")[0]
"""The node's name: one that resolves, for SkyPilot's job runner asks for its address."""

PARTITIONS = ("spot", "ondemand")
"""SkyPilot's zones."""


@dataclass(frozen=True)
class Fakes:
    """What the one node pretends to have: only for scheduling, nothing is bound or limited."""

    cpus: int = 16
    memory_mb: int = 65_536
    gpus: int = 0
    gpu_type: str = "H100"
    server_memory_gb: int = 8
    """The API server sizes its pools by it: 8 gives 2 job controllers, 4 long and 8 short workers."""
    sky_config: dict[str, Any] = field(default_factory=dict)
    """Merged over SkyPilot's server config, e.g. {"slurm": {"pricing": {"cpu": 0.04}}}."""


def slurm_conf(lay: Layout, ports: Ports, fakes: Fakes) -> str:
    gres = f" Gres=gpu:{fakes.gpu_type}:{fakes.gpus}" if fakes.gpus else ""
    user = getpass.getuser()
    lines = [
        f"ClusterName={CLUSTER}",
        f"SlurmctldHost={NODE}(127.0.0.1)",
        f"SlurmUser={user}",
        f"SlurmdUser={user}",
        "AuthType=auth/munge",
        "CredType=cred/munge",
        f"AuthInfo=socket={lay.munge_socket}",
        f"SlurmctldPort={ports.slurmctld}",
        f"SlurmdPort={ports.slurmd}",
        "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny",
        f"StateSaveLocation={lay.state}/ctld",
        f"SlurmdSpoolDir={lay.state}/d",
        f"SlurmctldPidFile={lay.run}/slurmctld.pid",
        f"SlurmdPidFile={lay.run}/slurmd.pid",
        f"SlurmctldLogFile={lay.log}/slurmctld.log",
        f"SlurmdLogFile={lay.log}/slurmd.log",
        "ProctrackType=proctrack/linuxproc",  # no cgroups: works in a container
        "TaskPlugin=task/none",
        "SwitchType=switch/none",
        "MpiDefault=none",
        "JobAcctGatherType=jobacct_gather/none",
        "AccountingStorageType=accounting_storage/none",
        "JobCompType=jobcomp/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU_Memory",
        "SchedulerType=sched/backfill",
        "SchedulerParameters=sched_interval=5,batch_sched_delay=0",
        "SlurmdParameters=config_overrides",  # believe CPUs= and RealMemory=, do not look
        "ReturnToService=2",
        "KillWait=5",
        "MinJobAge=300",  # SkyPilot asks after jobs that are gone
        f"TaskProlog={lay.etc}/task_prolog.sh",
        "GresTypes=gpu",
        f"NodeName={NODE} NodeAddr=127.0.0.1 CPUs={fakes.cpus} RealMemory={fakes.memory_mb}{gres} State=UNKNOWN",
    ]
    for index, name in enumerate(PARTITIONS):
        default = "NO" if index else "YES"
        lines.append(f"PartitionName={name} Nodes=ALL Default={default} MaxTime=1-00:00:00 State=UP")
    return "\n".join(lines) + "\n"


def gres_conf(lay: Layout, fakes: Fakes) -> str:
    """Fake GPUs: empty files stand for the devices."""
    lines = ["AutoDetect=off"]
    for index in range(fakes.gpus):
        device = lay.state / f"gpu{index}"
        device.touch()
        lines.append(f"NodeName={NODE} Name=gpu Type={fakes.gpu_type} File={device} Flags=nvidia_gpu_env")
    return "\n".join(lines) + "\n"


def sshd_config(lay: Layout, ports: Ports) -> str:
    return f"""\
Port {ports.ssh}
ListenAddress 127.0.0.1
HostKey {lay.etc}/host_key
PidFile none
AuthorizedKeysFile {lay.etc}/authorized_keys
AllowUsers {getpass.getuser()}
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
PrintMotd no
MaxSessions 200
MaxStartups 200
SetEnv SLURM_CONF={lay.slurm_conf} {MARK}={lay.root}
Subsystem sftp internal-sftp
"""


def task_prolog(lay: Layout) -> str:
    """Slurm runs it before each step: gives each SkyPilot cluster on the node a ready runtime and a `uv`.

    A SkyPilot cluster here is a Slurm job. Its home is <workdir>/.sky_clusters/<job name>, its runtime folder
    <tmpdir>/<job name>.
    """
    return f"""\
#!/bin/bash
home={lay.node}/workdir/.sky_clusters/$SLURM_JOB_NAME
runtime={lay.node}/tmp/$SLURM_JOB_NAME
if [ -n "$SLURM_JOB_NAME" ] && [ -d "$home" ] && [ ! -e "$home/.local/bin/uv" ]; then
  mkdir -p "$home/.local/bin" "$home/.sky/wheels" "$runtime"
  ln -sfn {lay.runtime} "$runtime/skypilot-runtime"
  ln -sfn {lay.etc}/uv "$home/.local/bin/uv"
fi
exit 0
"""


def uv(lay: Layout) -> str:
    """The node's `uv`, only for what SkyPilot's set-up of a cluster asks of it.

    Its own runtime is there already, and nobody may change it. The jobs' default environment (what `python`
    and `pip` mean in `run:`) is a copy of one made beforehand.
    """
    return f"""\
#!/bin/bash
echo "$(date +%T) $SLURM_JOB_NAME uv $*" >> {lay.log}/uv.log
target="${{@: -1}}"
case "${{VIRTUAL_ENV##*/}} $1 $2 $target" in
  *" -V "*) echo "uv 0.0.0 (the slurm lab's own)";;
  "skypilot-runtime pip list "*) cat {lay.etc}/uv_pip_list;;
  "skypilot-runtime pip install "* | "skypilot-runtime pip uninstall "*) ;;
  *" venv --seed "*/sky-user-env.tmp.*)
    cp -a {lay.user_env} "$target"
    sed -i "s|{lay.user_env}|${{target%.tmp.*}}|g" "$target"/bin/activate* "$target"/bin/pip*;;
  *) echo "the slurm lab's uv does not do: $*" >&2; exit 2;;
esac
"""


def ssh_client_config(lay: Layout, ports: Ports) -> str:
    return f"""\
Host {CLUSTER}
  HostName 127.0.0.1
  Port {ports.ssh}
  User {getpass.getuser()}
  IdentityFile {lay.ssh_key}
  IdentitiesOnly yes
"""


def sky_config(lay: Layout, fakes: Fakes) -> str:
    """SkyPilot's server config. JSON is YAML."""
    cluster = {"workdir": str(lay.node / "workdir"), "tmpdir": str(lay.node / "tmp")}
    config: dict[str, Any] = {
        "allowed_clouds": ["slurm"],
        "jobs": {"controller": {"consolidation_mode": True}},
        "slurm": {"allowed_clusters": [CLUSTER], "cluster_configs": {CLUSTER: cluster}},
    }
    return json.dumps(_merged(config, fakes.sky_config), indent=2) + "\n"


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.write_text(text)
    path.chmod(mode)
