"""The store on a local folder."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from embed_worker.errors import exit_code_of
from embed_worker.exits import ExitCode
from embed_worker.lake.errors import StoreUnavailable
from embed_worker.lake.store import Store
from tests.kits.lake.store_suite import StoreSuite, race

RACER = """
import sys, time
from pathlib import Path
from embed_worker.lake.store import Store
root, me, gate, names = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
store = Store(root)
print("ready", flush=True)
while not gate.exists():
    time.sleep(0.0005)
print(*[n for n in range(names) if store.create(f"race/{n:03d}", me.encode())])
"""


class TestLocalStore(StoreSuite):
    @pytest.fixture
    def root(self, lake: str) -> str:
        return lake

    @pytest.mark.slow
    def test_of_several_processes_exactly_one_creates_each_name(self, root: str, tmp_path: Path) -> None:
        names, gate = 100, tmp_path / "gate"
        command = [sys.executable, "-c", RACER, root]
        racers = [
            subprocess.Popen([*command, str(me), str(gate), str(names)], stdout=subprocess.PIPE, text=True)
            for me in range(3)
        ]
        for racer in racers:
            assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
        gate.touch()
        won = [[int(n) for n in racer.communicate()[0].split()] for racer in racers]
        assert all(racer.returncode == 0 for racer in racers)
        assert sorted(n for mine in won for n in mine) == list(range(names))
        for me, mine in enumerate(won):
            assert all(Store(root).read(f"race/{n:03d}") == str(me).encode() for n in mine)

    def test_a_twins_sweep_at_the_same_moment_is_no_error(self, root: str) -> None:
        for path in (f"shard/checkpoints/{n}" for n in range(50)):
            Store(root).create(path, b"x")

        def sweep(_: int) -> bool:
            Store(root).delete("shard/checkpoints")
            return True

        assert len(race(5, sweep)) == 5
        assert not Store(root).exists("shard/checkpoints")

    def test_create_file_from_another_disk_copies(self, root: str, small_disk: Path) -> None:
        source = small_disk / "source"
        source.write_bytes(b"x" * 1000)
        assert small_disk.stat().st_dev != small_disk.parent.stat().st_dev
        assert Store(root).create_file("a/part", source) is True
        assert Store(root).create_file("a/part", source) is False
        assert Store(root).read("a/part") == b"x" * 1000
        assert Store(root).list("a") == ["part"]


def test_relative_and_home_roots_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Store("here/lake").root == str(tmp_path / "here/lake")
    assert Store("~/lake").root == str(tmp_path / "home/lake")
    store = Store(f"file://{tmp_path}/lake/")
    assert store.is_local and store.create("a", b"1")
    assert (tmp_path / "lake/a").read_bytes() == b"1"


@pytest.mark.parametrize("root", ["memory://lake", "nonsense://lake", "https://example.org/lake"])
def test_a_store_without_a_create_only_put_is_refused(root: str) -> None:
    with pytest.raises(StoreUnavailable, match=root.split("://", maxsplit=1)[0]):
        Store(root)


def _all_writes(store: Store, source: Path) -> list[str]:
    """The error message of every way to write."""
    messages = []
    for act in (
        lambda: store.create("a/b", b"x" * 3000),
        lambda: store.create_file("a/b", source),
        lambda: store.replace("a/b", b"x" * 3000),
        lambda: store.create_json("a/b", {"x": "y" * 3000}),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            act()
        assert exit_code_of(caught.value) in (ExitCode.UNAVAILABLE, ExitCode.MACHINE)
        messages.append(str(caught.value))
    return messages


def test_a_lake_below_a_file_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("I am no folder")
    source = tmp_path / "source"
    source.write_bytes(b"x")
    store = Store(str(tmp_path / "file/lake"))
    for message in _all_writes(store, source):
        assert str(tmp_path / "file/lake/a/b") in message and "EMBED_LAKE" in message and "\n" not in message
    with pytest.raises(StoreUnavailable), store.scratch():
        pass
    assert store.exists("a") is False


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.create("a", b"I am no folder")
    source = tmp_path / "source"
    source.write_bytes(b"x")
    assert len(_all_writes(store, source)) == 4
    assert store.read("a") == b"I am no folder"


def test_a_read_only_disk(read_only_disk: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    for message in _all_writes(Store(str(read_only_disk)), source):
        assert "Read-only file system" in message and "EMBED_LAKE" in message


def test_no_permission_is_one_clear_sentence(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("embed_worker.lake.store.os.link", refuse)  # tests run as root, whom no mode bit stops
    with pytest.raises(StoreUnavailable, match=r"no permission.*write access"):
        Store(lake).create("a/b", b"x")
    assert Store(lake).list("a") == []


def test_a_full_disk_leaves_nothing_half_written(small_disk: Path, tmp_path: Path) -> None:
    store = Store(str(small_disk / "lake"))
    store.create("kept", b"before")
    store.replace("_latest.json", b"old")
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"0" * 4096)
    source = tmp_path / "source"
    source.write_bytes(b"x" * 100_000)
    for message in _all_writes(store, source):
        assert "no space left" in message and "Free some space" in message and "\n" not in message
    with pytest.raises(StoreUnavailable):
        store.replace("_latest.json", b"new" * 5000)
    assert store.read("_latest.json") == b"old"
    assert list(store.walk("")) == [("_latest.json", 3), ("kept", 6)]
    ballast.unlink()
    assert store.create_file("a/b", source) and store.read("a/b") == source.read_bytes()


def test_a_disk_that_fills_while_scratch_is_in_use(small_disk: Path) -> None:
    store = Store(str(small_disk / "lake"))
    with pytest.raises(StoreUnavailable, match="no space left"), store.scratch() as scratch:
        (scratch / "big").write_bytes(b"0" * 3_000_000)
    assert store.list(".tmp") == []
    with pytest.raises(OSError, match="other"), store.scratch():
        raise OSError(errno.EIO, "other")


def test_a_disk_without_room_for_the_scratch_folder_itself(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the inodes are used up."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(StoreUnavailable, match="no space left"), Store(lake).scratch():
        pass


def test_a_writer_killed_before_its_link_leaves_the_name_free(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    store = Store(lake)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("embed_worker.lake.store.os.link", die)
        store.create("a/record.json", b"half")
    assert not store.exists("a/record.json")
    assert store.create("a/record.json", b"whole")
