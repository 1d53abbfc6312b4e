"""Parquet files of a lake as one lazy Polars frame."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from embed_worker.extras import need
from embed_worker.lake.errors import NoPermission
from embed_worker.lake.store import Store

if TYPE_CHECKING:
    import polars as pl

Provider = Callable[[], tuple[dict[str, str], int | None]] | Literal["auto"] | None
"""What Polars calls for credentials, and the second when they expire; or its own way to find them."""


def frame_of(
    store: Store, files: Sequence[str], dtype: str, dimension: int, storage_options: Mapping[str, Any]
) -> "pl.LazyFrame":
    """Files of shards as one frame; its schema is given, so that no file is opened before it is wanted.

    Raises MissingExtra where Polars is not there.
    """
    need("polars")
    import polars as pl

    schema = pl.Schema(
        {
            "id": pl.String(),
            "text_key": pl.Binary(),
            "chunk": pl.Int32(),
            "n_tokens": pl.Int32(),
            "char_start": pl.Int32(),
            "char_end": pl.Int32(),
            "embedding": pl.Array(pl.Float16() if dtype == "float16" else pl.Float32(), dimension),
        }
    )
    if not files:
        return pl.LazyFrame(schema=schema)
    if store.is_local:
        paths = [store.path(file) for file in files]
        return pl.scan_parquet(paths, schema=schema, glob=False, hive_partitioning=False)
    urls = [store.url(file) for file in files]
    options, provider = _of_s3(store) if store.root.startswith(("s3://", "s3a://")) else ({}, "auto")
    if any("key" in name for name in storage_options):  # the caller's own credentials
        provider = "auto"
    return pl.scan_parquet(
        urls,
        schema=schema,
        glob=False,
        hive_partitioning=False,
        storage_options={**options, **storage_options} or None,
        credential_provider=provider,
    )


def _of_s3(store: Store) -> tuple[dict[str, str], Provider]:
    """Endpoint, region and credentials as the lake's own client finds them: environment, profile, role, fsspec's
    settings. Polars by itself knows some of these only."""
    from botocore.session import Session

    given, client_kwargs = store.fs, dict(store.fs.client_kwargs)
    session = Session(profile=given.kwargs.get("profile"))
    client = session.create_client(
        "s3",
        region_name=client_kwargs.get("region_name") or session.get_config_variable("region") or "us-east-1",
        endpoint_url=given.endpoint_url or client_kwargs.get("endpoint_url"),
    )
    options = {"aws_region": str(client.meta.region_name)}
    endpoint = str(client.meta.endpoint_url)
    if "amazonaws.com" not in endpoint:
        options["aws_endpoint_url"] = endpoint
        options["aws_allow_http"] = str(endpoint.startswith("http://")).lower()
    if given.anon:
        return {**options, "aws_skip_signature": "true"}, None

    def credentials() -> tuple[dict[str, str], int | None]:
        key, secret, token, expires = given.key, given.secret, given.token, None
        if not key:
            found = session.get_credentials()
            if found is None:
                raise NoPermission(
                    f"{store.root}: no AWS credentials are there any more; set them as for any AWS client"
                )
            frozen = found.get_frozen_credentials()
            key, secret, token = frozen.access_key, frozen.secret_key, frozen.token
            expiry = getattr(found, "_expiry_time", None)
            expires = int(expiry.timestamp()) if expiry is not None else None
        named = {"aws_access_key_id": key, "aws_secret_access_key": secret, "aws_session_token": token}
        return {name: value for name, value in named.items() if value}, expires

    return options, credentials
