"""The job file: all that a worker needs to make one embedding partition."""

from typing import Literal

import orjson
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from embed_worker.lake import layout
from embed_worker.lake.errors import BadJob, NotBegun, StoreUnavailable
from embed_worker.lake.manifests import InputRef
from embed_worker.lake.spec import EmbeddingSpec, digest_of
from embed_worker.lake.store_errors import translated


class EmbedJob(BaseModel):
    """One embedding partition: what to read, how to embed it, where to commit it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = layout.FORMAT
    pipeline: str
    dataset: str = Field(pattern=rf"^{layout.DATASET_NAME}$", max_length=63)
    partition: str
    stride: int = Field(ge=0)
    lake: str
    partitioning: str
    input: InputRef
    spec: EmbeddingSpec
    checkpoint_rows: int = Field(default=1024, ge=1)
    heartbeat_seconds: float = Field(default=5.0, gt=0)

    @field_validator("partitioning")
    @classmethod
    def _known(cls, value: str) -> str:
        layout.Partitioning.parse(value)
        return value

    @model_validator(mode="after")
    def _fits(self) -> "EmbedJob":
        if self.partition != layout.partition_key(self.dataset, self.stride):
            raise ValueError(f"partition {self.partition!r} is not stride {self.stride} of {self.dataset}")
        return self

    @property
    def output(self) -> str:
        """Folder of the shard, relative to the lake."""
        return layout.shard_folder(
            self.dataset, self.spec.spec_id, layout.Partitioning.parse(self.partitioning), self.stride
        )

    @property
    def manifest_path(self) -> str:
        return f"{self.output}/{layout.MANIFEST}"

    @property
    def fingerprint(self) -> str:
        """Digest of the whole job: the name of its file."""
        return digest_of(self.model_dump(mode="json"), length=10)

    @property
    def path(self) -> str:
        """Where the job file lies in the lake."""
        return layout.job_file(self.partition, self.fingerprint)


def load_job(url: str) -> EmbedJob:
    """Reads a job file from any fsspec URL.

    Raises BadJob with the file and the key at fault, NotBegun where the file cannot be reached.
    """
    try:
        fs, path = url_to_fs(url)
        with translated(f"job file {url}", is_local=isinstance(fs, LocalFileSystem)):
            data = fs.cat_file(path)
        return EmbedJob.model_validate(orjson.loads(data))
    except FileNotFoundError as error:
        raise BadJob(f"job file {url} does not exist") from error
    except orjson.JSONDecodeError as error:
        raise BadJob(f"job file {url} is not JSON: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise BadJob(f"job file {url}: {key}: {first['msg']}") from error
    except (ImportError, ValueError) as error:  # a protocol that fsspec does not know, or has no library for
        raise BadJob(f"job file {url}: {error}") from error
    except StoreUnavailable as error:
        raise NotBegun(str(error)) from error
    except Exception as error:  # of fsspec's file systems, each of its own kind
        raise NotBegun(f"job file {url}: {type(error).__name__}: {error}") from error
