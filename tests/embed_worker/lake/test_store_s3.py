"""The store on real S3 protocol servers: moto's, and SeaweedFS."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error

from embed_worker.lake import store as store_module
from embed_worker.lake.errors import NoPermission, StoreUnavailable
from embed_worker.lake.store import Store
from tests.kits.attempt.jobs import leftovers, make_job, make_texts, prove, run
from tests.kits.lake.store_suite import StoreSuite


class TestS3Store(StoreSuite):
    @pytest.fixture
    def root(self, s3_root: str) -> str:
        return s3_root


@pytest.mark.slow
class TestSeaweedStore(StoreSuite):
    @pytest.fixture
    def root(self, seaweed_root: str) -> str:
        return seaweed_root


@pytest.mark.slow
def test_a_whole_job_on_seaweed(seaweed_root: str, tmp_path: Path) -> None:
    texts = make_texts(20)
    job = make_job(seaweed_root, texts)
    assert run(job) is True and run(job) is False
    prove(job, texts, tmp_path)
    assert leftovers(job) in ([], ["checkpoints"])  # it goes on showing an empty folder, as no other S3 does


def _answer(code: str, **extra: str) -> OSError:
    error = ClientError({"Error": {"Code": code, "Message": "as S3 says it", **extra}}, "PutObject")
    return translate_boto_error(error)  # type: ignore[no-any-return]


def test_a_conditional_conflict_is_asked_again(s3_root: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Real S3 answers 409 while another conditional put of the same key is in flight."""
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda seconds: None))
    store = Store(s3_root)
    answers = [_answer("ConditionalRequestConflict"), _answer("ConditionalRequestConflict")]
    put = store.fs.pipe_file

    def flaky(*arguments: Any, **options: Any) -> Any:
        if answers:
            raise answers.pop()
        return put(*arguments, **options)

    monkeypatch.setattr(store.fs, "pipe_file", flaky)
    assert store.create("a", b"1") is True
    assert Store(s3_root).read("a") == b"1"
    answers[:] = [_answer("ConditionalRequestConflict")] * 9
    with pytest.raises(StoreUnavailable, match="as S3 says it"):
        store.create("b", b"1")


def test_a_lost_precondition_without_its_name_is_a_loss(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some S3 servers answer 412 without saying which condition failed."""
    store = Store(s3_root)

    def lost(*_: Any, **__: Any) -> None:
        raise _answer("PreconditionFailed")

    monkeypatch.setattr(store.fs, "pipe_file", lost)
    assert store.create("a", b"1") is False


def test_no_permission_on_s3_is_one_clear_sentence(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(s3_root)

    def refuse(*_: Any, **__: Any) -> None:
        raise _answer("AccessDenied")

    monkeypatch.setattr(store.fs, "cat_file", refuse)
    with pytest.raises(StoreUnavailable, match="no permission"):
        store.read("a")


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_a_wrong_key_is_told_from_a_missing_right(s3_root: str, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    store = Store(s3_root)

    def refuse(*_: Any, **__: Any) -> None:
        raise _answer(code)

    monkeypatch.setattr(store.fs, "cat_file", refuse)
    with pytest.raises(NoPermission, match=rf"wrong access key or secret \({code}\); correct the credentials"):
        store.read("a")


def test_a_missing_bucket_is_one_clear_sentence(s3_server: str, tmp_path: Path) -> None:
    store = Store("s3://no-such-bucket/lake")
    source = tmp_path / "source"
    source.write_bytes(b"x")
    for act in (
        lambda: store.create("a", b"x"),
        lambda: store.create_file("a", source),
        lambda: store.replace("a", b"x"),
        lambda: store.read("a"),
        lambda: store.list(""),
        lambda: list(store.walk("")),
    ):
        with pytest.raises(StoreUnavailable, match="there is no such bucket"):
            act()


def test_a_server_that_is_down_is_one_clear_sentence(s3_server: str) -> None:
    store = Store(
        "s3://lake/x",
        client_kwargs={"endpoint_url": "http://127.0.0.1:9"},
        config_kwargs={"retries": {"max_attempts": 0}, "connect_timeout": 2},
    )
    for act in (lambda: store.create("a", b"x"), lambda: store.read("a"), lambda: store.exists("a")):
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            act()


@pytest.mark.parametrize("server", ["s3_root", pytest.param("seaweed_root", marks=pytest.mark.slow)])
def test_a_file_of_several_upload_parts_is_create_only(
    request: pytest.FixtureRequest, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Big parts go up in a multipart upload; its completion carries the condition."""
    store = Store(request.getfixturevalue(server))
    monkeypatch.setitem(store_module.UPLOAD, "chunksize", 5 << 20)
    source = tmp_path / "big"
    source.write_bytes(b"0123456789abcdef" * (12 << 16))
    assert store.create_file("big", source) is True
    source.write_bytes(b"x" * (12 << 20))
    assert store.create_file("big", source) is False
    assert store.read("big")[:16] == b"0123456789abcdef"
