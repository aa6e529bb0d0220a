"""What only payloads on S3 promise: where objects are, how they are kept, and what is said when S3 is in the way."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from taskflow.adapters.payloads.s3 import DELETE_BATCH, S3Payloads
from taskflow.adapters.payloads.s3_client import s3_client
from taskflow.bootstrap import build, build_payload_store, provision_bucket
from taskflow.core.errors import (
    ConfigurationError,
    PayloadCorruptError,
    PayloadMissingError,
    StoreUnavailableError,
)
from taskflow.core.registry import Registry, TaskOptions
from taskflow.core.submission import Submission
from taskflow.core.task import DEFAULT_TENANT
from taskflow.settings import load
from tests.integration.payloads.conftest import Bucket
from tests.support import aws, sqs
from tests.support.http_server import Received, Reply, http_server

KEY = "acme/result/0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11.7f"
AtEndpoint = Callable[[str], None]


# --- where and how objects are kept -----------------------------------------------------------------


def test_objects_are_below_the_prefix_and_the_tenant_and_encrypted(bucket: Bucket) -> None:
    bucket.store.put({KEY: b"{}"})
    assert bucket.objects() == [f"tf/{KEY}"]
    head = bucket.s3.head_object(Bucket=bucket.name, Key=f"tf/{KEY}")
    assert head["ServerSideEncryption"] == "AES256"


def test_objects_are_encrypted_with_the_key_that_is_set(emulator_url: str, bucket: Bucket) -> None:
    kms = aws.client("kms", emulator_url)
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.close()
    settings = load(
        payload_backend="s3", s3_bucket=bucket.name, s3_encryption="aws:kms", s3_kms_key=key_id
    )
    store = build_payload_store(settings)
    store.put({KEY: b"secret"})
    assert store.get([KEY]) == {KEY: b"secret"}
    store.close()
    head = bucket.s3.head_object(Bucket=bucket.name, Key=KEY)
    assert head["ServerSideEncryption"] == "aws:kms"
    assert key_id in head["SSEKMSKeyId"]


def test_what_others_keep_in_the_bucket_is_not_taken_for_a_payload(bucket: Bucket) -> None:
    bucket.store.put({KEY: b"{}"})
    for key in ("tf/", "tf/readme", "tf/a b/input/x", f"other/{KEY}", f"tfx/{KEY}"):
        bucket.s3.put_object(Bucket=bucket.name, Key=key, Body=b"x")
    assert list(bucket.store.list()) == [KEY]


def test_thousands_of_objects_are_listed_and_deleted(bucket: Bucket) -> None:
    keys = [f"acme/input/{n:05}-aa" for n in range(DELETE_BATCH + 5)]
    bucket.store.put(dict.fromkeys(keys, b"x"))
    assert sorted(bucket.store.list("acme/")) == keys
    bucket.store.delete(keys)
    assert list(bucket.store.list()) == []


def test_as_many_objects_travel_at_once_as_the_setting_says(at_endpoint: AtEndpoint) -> None:
    """No answer comes before twenty are asked for: fewer at once would wait in vain."""
    together = threading.Barrier(20)

    def answer(_: Received) -> Reply:
        together.wait(sqs.PATIENCE_SECONDS)
        return Reply()

    with http_server(answer) as server:
        at_endpoint(server.url)
        store = build_payload_store(
            load(payload_backend="s3", s3_bucket="the-bucket", s3_max_transfers=20)
        )
        store.put({f"acme/input/{n}-aa": b"x" for n in range(40)})
        store.close()
    assert len(server.received) == 40


# --- damage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("keeps_metadata", [False, True])
def test_an_object_replaced_behind_our_back_is_noticed(
    bucket: Bucket, keeps_metadata: bool
) -> None:
    bucket.store.put({KEY: b'{"paid":100}'})
    name = f"tf/{KEY}"
    metadata = bucket.s3.head_object(Bucket=bucket.name, Key=name)["Metadata"]
    bucket.s3.put_object(
        Bucket=bucket.name,
        Key=name,
        Body=b'{"paid":999}',
        Metadata=metadata if keeps_metadata else {},
    )
    with pytest.raises(PayloadCorruptError, match=KEY):
        bucket.store.get([KEY])


def test_one_damaged_object_among_several_is_named(bucket: Bucket) -> None:
    others = {f"acme/input/{n}-aa": b"x" for n in range(20)}
    bucket.store.put(others)
    bucket.s3.put_object(Bucket=bucket.name, Key="tf/acme/input/7-aa", Body=b"y")
    with pytest.raises(PayloadCorruptError, match="acme/input/7-aa"):
        bucket.store.get(list(others))


# --- the bucket -------------------------------------------------------------------------------------


def test_provisioning_makes_a_private_encrypted_archiving_bucket_and_may_be_repeated(
    bucket: Bucket,
) -> None:
    bucket.store.put({KEY: b"kept"})
    assert provision_bucket(bucket.settings) is False
    s3, name = bucket.s3, bucket.name
    [rule] = s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert (rule["Status"], rule["Filter"]) == ("Enabled", {"Prefix": "tf/"})
    assert rule["Transitions"] == [{"Days": 90, "StorageClass": "GLACIER_IR"}]
    public = s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
    assert list(public.values()) == [True] * 4
    [default] = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    assert default["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert bucket.store.get([KEY]) == {KEY: b"kept"}


def test_a_bucket_can_be_provisioned_in_another_region(
    emulator_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    name = aws.unique("bucket")
    assert provision_bucket(load(payload_backend="s3", s3_bucket=name))
    s3 = aws.client("s3", emulator_url)
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] == "eu-central-1"
    s3.close()


def test_without_a_bucket_every_call_says_how_to_get_one(emulator_url: str) -> None:
    store = build_payload_store(load(payload_backend="s3", s3_bucket=aws.unique("none")))
    for call in (
        lambda: store.put({KEY: b"x"}),
        lambda: store.get([KEY]),
        lambda: store.delete([KEY]),
        lambda: list(store.list()),
    ):
        with pytest.raises(StoreUnavailableError, match=r"does not exist.*taskflow provision"):
            call()
    store.close()


def test_a_bucket_must_be_named() -> None:
    with pytest.raises(ConfigurationError, match="TASKFLOW_S3_BUCKET"):
        build_payload_store(load(payload_backend="s3"))
    with pytest.raises(ConfigurationError, match="TASKFLOW_S3_BUCKET"):
        provision_bucket(load(payload_backend="s3"))


@pytest.mark.parametrize("name", ["No Bucket!", "Bad_Bucket", "ab"])
def test_a_name_that_no_bucket_can_have_is_said_to_be_one(
    ministack_url: str, at_endpoint: AtEndpoint, name: str
) -> None:
    at_endpoint(ministack_url)
    settings = load(payload_backend="s3", s3_bucket=name)
    with pytest.raises(
        StoreUnavailableError, match=r"no bucket can have this name \(TASKFLOW_S3_BUCKET\)$"
    ):
        provision_bucket(settings)


def test_a_key_that_no_encryption_would_use_is_refused() -> None:
    settings = load(payload_backend="s3", s3_bucket="b", s3_kms_key="alias/payloads")
    for use in (build_payload_store, provision_bucket):
        with pytest.raises(
            ConfigurationError, match=r"TASKFLOW_S3_KMS_KEY.*TASKFLOW_S3_ENCRYPTION"
        ):
            use(settings)


def test_an_endpoint_that_is_no_address_is_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:4566")
    with pytest.raises(ConfigurationError, match="localhost:4566"):
        build_payload_store(load(payload_backend="s3", s3_bucket="b"))


# --- presigned URLs ---------------------------------------------------------------------------------


def test_a_presigned_url_reads_one_object_and_needs_no_credentials(bucket: Bucket) -> None:
    bucket.store.put({KEY: b"a,b\n", "acme/input/other": b"x"})
    url = bucket.store.url(KEY, 60, content_type="text/csv", filename="r.csv")
    assert url is not None
    answer = httpx.get(url, trust_env=False)
    assert (answer.status_code, answer.content) == (200, b"a,b\n")
    assert answer.headers["content-type"] == "text/csv"
    assert answer.headers["content-disposition"] == 'attachment; filename="r.csv"'


def test_a_presigned_url_ends_when_it_should(bucket: Bucket) -> None:
    url = bucket.store.url(KEY, 90.5, content_type="text/csv")
    assert url is not None
    assert httpx.URL(url).params["X-Amz-Expires"] == "90"


def test_a_presigned_url_cannot_be_bent_to_another_object(
    ministack_url: str, at_endpoint: AtEndpoint
) -> None:
    """On MiniStack, which checks signatures; moto does not."""
    at_endpoint(ministack_url)
    settings = load(payload_backend="s3", s3_bucket=aws.unique("bucket"))
    provision_bucket(settings)
    store = build_payload_store(settings)
    store.put({KEY: b"x", KEY.replace("acme", "rival"): b"secret"})
    url = store.url(KEY, 60, content_type="text/csv")
    store.close()
    assert url is not None
    assert httpx.get(url.replace("acme", "rival"), trust_env=False).status_code == 403


# --- S3 in the way ----------------------------------------------------------------------------------


def error(status: int, code: str) -> Callable[[Received], Reply]:
    body = f"<Error><Code>{code}</Code><Message>because</Message></Error>".encode()
    return lambda _: Reply(status, {"Content-Type": "application/xml"}, body)


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (403, "AccessDenied", "access is denied .*s3:GetObject"),
        (400, "ExpiredToken", "does not take the credentials .*ExpiredToken"),
        (403, "InvalidAccessKeyId", "does not take the credentials"),
        (403, "SignatureDoesNotMatch", "does not take the credentials"),
        (503, "SlowDown", "slow down"),
        (403, "InvalidObjectState", "archived"),
        (400, "KMS.DisabledException", "KMS key"),
        (500, "InternalError", "InternalError: because"),
    ],
)
def test_what_s3_refuses_is_said_in_a_sentence(
    at_endpoint: AtEndpoint, status: int, code: str, says: str
) -> None:
    with http_server(error(status, code)) as server:
        at_endpoint(server.url)
        store = build_payload_store(load(payload_backend="s3", s3_bucket="the-bucket"))
        for call in (lambda: store.get([KEY]), lambda: store.put({KEY: b"x"})):
            with pytest.raises(StoreUnavailableError, match=f"the-bucket.*{says}") as raised:
                call()
            assert (raised.value.retry_after_seconds is not None) == (code == "SlowDown")
        store.close()
        # Three attempts where another may help, one where it cannot.
        assert len(server.received) == (6 if status >= 500 else 2)


@pytest.mark.parametrize("when", ["looked at", "made"])
def test_a_bucket_of_somebody_else_is_called_so(at_endpoint: AtEndpoint, when: str) -> None:
    """S3 says so at the one or the other, according to who asks."""
    answers = {"HEAD": Reply(403 if when == "looked at" else 404, {}, b"")}
    with http_server(
        lambda received: answers.get(received.method) or error(409, "BucketAlreadyExists")(received)
    ) as server:
        at_endpoint(server.url)
        with pytest.raises(StoreUnavailableError, match="'the-bucket' is there, and is somebody"):
            provision_bucket(load(payload_backend="s3", s3_bucket="the-bucket"))


def test_objects_that_cannot_be_deleted_are_named(at_endpoint: AtEndpoint) -> None:
    body = b"""<DeleteResult><Error><Key>acme/input/b</Key><Code>AccessDenied</Code>
        <Message>no</Message></Error></DeleteResult>"""
    with http_server(lambda _: Reply(200, {"Content-Type": "application/xml"}, body)) as server:
        at_endpoint(server.url)
        store = build_payload_store(load(payload_backend="s3", s3_bucket="the-bucket"))
        with pytest.raises(StoreUnavailableError, match=r"delete acme/input/b .*denied"):
            store.delete(["acme/input/a", "acme/input/b"])
        store.close()


def test_a_server_that_is_not_there_is_unavailable(at_endpoint: AtEndpoint) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        at_endpoint(f"http://127.0.0.1:{free.getsockname()[1]}")
        store = build_payload_store(load(payload_backend="s3", s3_bucket="the-bucket"))
        with pytest.raises(StoreUnavailableError, match="S3 does not answer"):
            store.get([KEY])
        store.close()


def test_an_answer_that_breaks_off_is_unavailable_not_damaged(at_endpoint: AtEndpoint) -> None:
    cut_off = Reply(200, {"Content-Length": "100", "Connection": "close"}, b"x")
    with http_server(lambda _: cut_off) as server:
        at_endpoint(server.url)
        store = build_payload_store(load(payload_backend="s3", s3_bucket="the-bucket"))
        with pytest.raises(StoreUnavailableError, match="S3 does not answer"):
            store.get([KEY])
        store.close()


def without_keys(monkeypatch: pytest.MonkeyPatch, at_endpoint: AtEndpoint, url: str) -> None:
    at_endpoint(url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)


def test_without_credentials_that_is_what_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, moto_url: str, at_endpoint: AtEndpoint
) -> None:
    without_keys(monkeypatch, at_endpoint, moto_url)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    store = build_payload_store(load(payload_backend="s3", s3_bucket="b"))
    with pytest.raises(StoreUnavailableError, match="no AWS credentials"):
        store.put({KEY: b"x"})
    store.close()


def test_credentials_that_are_renewed_too_late_are_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, moto_url: str, at_endpoint: AtEndpoint
) -> None:
    without_keys(monkeypatch, at_endpoint, moto_url)
    given, config = tmp_path / "credentials.json", tmp_path / "config"
    given.write_text(
        json.dumps(
            {
                "Version": 1, "AccessKeyId": "testing", "SecretAccessKey": "testing", "SessionToken": "testing",
                "Expiration": "2020-01-01T00:00:00Z",
            }
        )
    )  # fmt: skip
    config.write_text(f"[default]\ncredential_process = cat {given}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    store = build_payload_store(load(payload_backend="s3", s3_bucket="b"))
    with pytest.raises(StoreUnavailableError, match="the AWS credentials have expired"):
        store.put({KEY: b"x"})
    store.close()


def test_a_store_that_was_closed_says_so(bucket: Bucket) -> None:
    store = S3Payloads(
        s3_client(region=aws.REGION, connections=4), bucket=bucket.name, max_transfers=2
    )
    store.close()
    with pytest.raises(StoreUnavailableError, match="stopped"):
        store.get([KEY, "acme/input/other"])


# --- as part of TaskFlow ----------------------------------------------------------------------------


@pytest.fixture
def registry() -> Registry:
    registry = Registry()

    def repeat(text: str, times: int) -> str:
        return text * times

    registry.add(repeat, declared=TaskOptions())
    return registry


def test_payloads_within_the_inline_limit_ask_nothing_of_s3(
    at_endpoint: AtEndpoint, tmp_path: Path, registry: Registry
) -> None:
    with http_server(error(500, "InternalError")) as server:
        at_endpoint(server.url)
        runtime = build(
            load(home=tmp_path, payload_backend="s3", s3_bucket="the-bucket"), registry=registry
        )
        accepted = runtime.submissions.submit_one(
            DEFAULT_TENANT, Submission("repeat", ("x", 1_000), {})
        )
        [attempt] = runtime.execution.start(
            runtime.queue.dequeue(max_messages=1, timeout_seconds=0)
        )
        args, kwargs = runtime.execution.arguments(attempt)
        assert attempt.handler is not None
        value = attempt.handler.function(*args, **kwargs)
        runtime.execution.finish([(attempt, runtime.execution.succeeded(attempt, value, 1.0))])
        assert runtime.tasks.get(DEFAULT_TENANT, accepted.task_id).result == "x" * 1_000
        runtime.close()
        assert server.received == []


def test_large_arguments_and_results_travel_through_s3(
    bucket: Bucket, tmp_path: Path, registry: Registry
) -> None:
    runtime = build(
        load(**(bucket.settings.model_dump() | {"home": tmp_path, "inline_payload_bytes": 100})),
        registry=registry,
    )
    text = "ä" * 200
    accepted = runtime.submissions.submit_one(DEFAULT_TENANT, Submission("repeat", (text, 2), {}))
    assert [key.split("/")[:3] for key in bucket.objects()] == [["tf", "default", "input"]]
    [attempt] = runtime.execution.start(runtime.queue.dequeue(max_messages=1, timeout_seconds=0))
    args, kwargs = runtime.execution.arguments(attempt)
    assert attempt.handler is not None
    value = attempt.handler.function(*args, **kwargs)
    runtime.execution.finish([(attempt, runtime.execution.succeeded(attempt, value, 1.0))])
    assert runtime.tasks.get(DEFAULT_TENANT, accepted.task_id).result == text * 2
    [result_key] = [key for key in bucket.objects() if "/result/" in key]
    bucket.s3.delete_object(Bucket=bucket.name, Key=result_key)
    with pytest.raises(PayloadMissingError):
        runtime.tasks.get(DEFAULT_TENANT, accepted.task_id)
    runtime.close()
