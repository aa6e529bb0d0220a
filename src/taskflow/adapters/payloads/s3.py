"""PayloadStore on S3: one object a payload, its SHA-256 in its metadata and checked on every read.

Two checks, for two dangers. S3 itself compares the checksum sent along with what arrived, and keeps neither when they
differ. What it returns later is compared with the sum in ``x-amz-meta-taskflow-sha256``: only that notices an object
that somebody replaced, because S3's own sum is then the replacement's. (Of the emulators MiniStack does the first,
moto ignores it; see docs/payloads.md.)
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from typing import Any, TypeVar

from taskflow.adapters.payloads.keys import is_key, names_of, names_of_prefix
from taskflow.adapters.payloads.s3_client import refused, talking_to
from taskflow.core.errors import PayloadCorruptError, PayloadMissingError, StoreUnavailableError

DELETE_BATCH = 1_000  # keys in one request (DeleteObjects takes no more)
CHECKSUM = "taskflow-sha256"  # of the object's metadata

_T = TypeVar("_T")
_R = TypeVar("_R")
_List = list  # inside a class with a method `list` the name no longer means the type


class S3Payloads:
    """PayloadStore in ``bucket``, below ``prefix``. Thread safe. ``client`` belongs to it from now on, and so does
    ``signer``, which signs URLs for another address at which the same S3 is reached by those who are given them.

    A single object is carried by the caller's thread, several by up to ``max_transfers`` of its own. Everything is
    encrypted on the server: with S3's keys (``AES256``), or with ``kms_key`` (``aws:kms``; None: the account's default
    key).
    """

    def __init__(
        self,
        client: Any,
        *,
        signer: Any | None = None,
        max_transfers: int,
        bucket: str,
        prefix: str = "",
        encryption: str = "AES256",
        kms_key: str | None = None,
    ) -> None:
        self._client = client
        self._signer = signer or client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._encryption = {"ServerSideEncryption": encryption}
        if encryption == "aws:kms" and kms_key:
            self._encryption["SSEKMSKeyId"] = kms_key
        self._threads = ThreadPoolExecutor(max_transfers, thread_name_prefix="taskflow-s3")

    def put(self, objects: Mapping[str, bytes]) -> None:
        """Durable once this returns. An object that exists is replaced as a whole.

        When it raises, each object is either as it was or as it should be.
        """
        for key in objects:
            names_of(key)
        self._each(self._put, objects.items())

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Raises PayloadMissingError or PayloadCorruptError naming the key."""
        for key in keys:
            names_of(key)
        return dict(self._each(self._get, dict.fromkeys(keys)))

    def delete(self, keys: Sequence[str]) -> None:
        """Missing keys are ignored. Raises StoreUnavailableError naming a key that could not be deleted; the others
        are."""
        for key in keys:
            names_of(key)
        batches = [
            keys[start : start + DELETE_BATCH] for start in range(0, len(keys), DELETE_BATCH)
        ]
        failed = [error for errors in self._each(self._delete, batches) for error in errors]
        if failed:
            key, code, message = failed[0]
            raise refused(
                self._bucket,
                f"delete {key.removeprefix(self._prefix)} and {len(failed) - 1} others",
                code,
                message,
            )

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys under ``prefix``, a request for every 1,000. Objects that are not payloads are passed over."""
        names_of_prefix(prefix)
        request = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        while True:
            with talking_to(self._bucket, "list objects"):
                page = self._client.list_objects_v2(**request)
            for found in page.get("Contents", ()):
                key = str(found["Key"]).removeprefix(self._prefix)
                if is_key(key):
                    yield key
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def url(
        self, key: str, seconds: float, *, content_type: str, filename: str | None = None
    ) -> str | None:
        """A presigned URL: whoever has it may read the object for ``seconds``, or until the credentials expire that
        signed it, whichever is sooner. Nothing is asked of S3."""
        names_of(key)
        parameters = {
            "Bucket": self._bucket,
            "Key": self._prefix + key,
            "ResponseContentType": content_type,
        }
        if filename is not None:
            parameters["ResponseContentDisposition"] = f'attachment; filename="{filename}"'
        with talking_to(self._bucket, f"sign a URL of {key}"):
            url: str = self._signer.generate_presigned_url(
                "get_object", Params=parameters, ExpiresIn=max(1, int(seconds))
            )
        return url

    def unfinished(self, *, remove: bool = False) -> _List[str]:
        """Nothing: what S3 has not received completely it does not keep."""
        return []

    def close(self) -> None:
        """Waits for what is under way, then closes the connections."""
        self._threads.shutdown()
        self._client.close()
        self._signer.close()

    def _put(self, item: tuple[str, bytes]) -> None:
        key, data = item
        digest = hashlib.sha256(data)
        with talking_to(self._bucket, f"write {key}"):
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._prefix + key,
                Body=data,
                ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
                Metadata={CHECKSUM: digest.hexdigest()},
                **self._encryption,
            )

    def _get(self, key: str) -> tuple[str, bytes]:
        from botocore.exceptions import FlexibleChecksumError

        with talking_to(self._bucket, f"read {key}"):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
                with closing(answer["Body"]) as body:
                    data: bytes = body.read()
            except self._client.exceptions.NoSuchKey:
                raise PayloadMissingError(
                    f"payload {key} is not in S3 bucket {self._bucket!r}"
                ) from None
            except FlexibleChecksumError as exc:
                raise PayloadCorruptError(f"payload {key}: {exc}") from exc
        expected = answer.get("Metadata", {}).get(CHECKSUM)
        if expected is None:
            raise PayloadCorruptError(
                f"payload {key}: it has no checksum, so something else wrote over it"
            )
        if hashlib.sha256(data).hexdigest() != expected:
            raise PayloadCorruptError(f"payload {key}: its bytes do not match their checksum")
        return key, data

    def _delete(self, keys: Sequence[str]) -> _List[tuple[str, str, str]]:
        """Key, code and message of each that was not deleted."""
        with talking_to(self._bucket, f"delete {len(keys)} objects"):
            answer = self._client.delete_objects(
                Bucket=self._bucket,
                Delete={"Objects": [{"Key": self._prefix + key} for key in keys], "Quiet": True},
            )
        return [
            (str(error.get("Key")), str(error.get("Code")), str(error.get("Message")))
            for error in answer.get("Errors", ())
        ]

    def _each(self, function: Callable[[_T], _R], items: Iterable[_T]) -> _List[_R]:
        """Of all ``items``, in order; the first error once all have ended: nothing goes on behind the caller."""
        todo = list(items)
        if len(todo) < 2:
            return [function(item) for item in todo]
        try:
            futures = [self._threads.submit(function, item) for item in todo]
        except RuntimeError as exc:
            raise StoreUnavailableError("this TaskFlow has been stopped") from exc
        wait(futures)
        return [future.result() for future in futures]
