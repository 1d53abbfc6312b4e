"""The job file: all that a worker needs to make one embedding partition."""

import re
from typing import Literal

import orjson
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from embed_worker.lake import layout
from embed_worker.lake.errors import BadJobFile, StoreAway, StoreUnavailable
from embed_worker.lake.layout import ShardId
from embed_worker.lake.manifests import InputRef
from embed_worker.lake.spec import EmbeddingSpec, digest_of
from embed_worker.lake.store_errors import translated
from embed_worker.lake.strides import Span


class EmbedJob(BaseModel):
    """One embedding partition: what to read, how to embed it, where to commit it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[2] = layout.FORMAT
    pipeline: str
    shard: ShardId
    lake: str
    input: InputRef
    spans: list[Span]
    """Where the input's rows lie in the lake."""
    spec: EmbeddingSpec
    reuse: list[ShardId] = Field(default_factory=list)
    """Earlier shards of the lake that may hold vectors of the input's texts, the best first."""
    checkpoint_rows: int = Field(default=1024, ge=1)
    heartbeat_seconds: float = Field(default=5.0, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> "EmbedJob":
        if self.shard.spec_id != self.spec.spec_id:
            raise ValueError(f"the shard is one of {self.shard.spec_id}, the spec is {self.spec.spec_id}")
        if self.shard.input_digest != self.input.digest:
            raise ValueError(f"the shard is one of input {self.shard.input_digest}, the input is {self.input.digest}")
        if other := next((base for base in self.reuse if base.spec_id != self.shard.spec_id), None):
            raise ValueError(f"reuse: {other.folder} is of another spec")
        return self

    @property
    def name(self) -> str:
        """Of the backend's job: the same shard has the same name in every run, so a live job is found again.

        How it is made (engine settings, checkpoint size, reuse) does not count: with an edited pipeline, a run that
        is executed again would launch every job a second time beside the live one.
        """
        readable = re.sub(r"[^a-z0-9]+", "-", f"{self.pipeline}-{self.shard.key}".lower())
        return f"{readable}-{digest_of([self.lake, self.shard.folder], length=10)}"

    @property
    def fingerprint(self) -> str:
        """Digest of the whole job: the name of its file."""
        return digest_of(self.model_dump(mode="json"), length=10)

    @property
    def path(self) -> str:
        """Where the job file lies in the lake."""
        return layout.job_file(self.shard.key, self.fingerprint)


def load_job(url: str) -> EmbedJob:
    """Reads a job file from any fsspec URL.

    Raises BadJobFile with the key at fault, StoreUnavailable where the file cannot be reached.
    """
    try:
        fs, path = url_to_fs(url)
        with translated(f"job file {url}", is_local=isinstance(fs, LocalFileSystem)):
            data = fs.cat_file(path)
        return EmbedJob.model_validate(orjson.loads(data))
    except FileNotFoundError as error:
        raise BadJobFile(f"job file {url} does not exist") from error
    except orjson.JSONDecodeError as error:
        raise BadJobFile(f"job file {url} is not JSON: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise BadJobFile(f"job file {url}: {key}: {first['msg']}") from error
    except (ImportError, ValueError) as error:  # a protocol that fsspec does not know, or has no library for
        raise BadJobFile(f"job file {url}: {error}") from error
    except StoreUnavailable:
        raise
    except Exception as error:  # of fsspec's file systems, each of its own kind
        raise StoreAway(f"job file {url}: {type(error).__name__}: {error}") from error
