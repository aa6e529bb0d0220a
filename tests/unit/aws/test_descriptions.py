"""botocore's own loader says what is to be found."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.loaders import Loader, create_loader

from taskflow.aws.descriptions import Descriptions


@pytest.mark.parametrize("kind", ["service-2", "endpoint-rule-set-1", "paginators-1"])
@pytest.mark.parametrize("service", ["sqs", "s3", "secretsmanager", "logs"])
def test_a_service_is_described_as_botocore_reads_it(service: str, kind: str) -> None:
    ours, theirs = Descriptions(None), Loader()
    assert ours.load_service_model(service, kind) == theirs.load_service_model(service, kind)


@pytest.mark.parametrize("name", ["endpoints", "partitions", "_retry", "sdk-default-configuration"])
def test_what_is_about_all_services_is_the_same(name: str) -> None:
    assert Descriptions(None).load_data(name) == Loader().load_data(name)


def test_a_service_that_aws_does_not_have_is_an_error_of_botocore() -> None:
    with pytest.raises(UnknownServiceError, match="no_such_service"):
        Descriptions(None).load_service_model("no_such_service", "service-2")
    with pytest.raises(DataNotFoundError):
        Descriptions(None).load_service_model("sqs", "no-such-type-1")


def test_a_users_own_descriptions_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", "models")
    monkeypatch.setenv("HOME", str(tmp_path))
    newer = tmp_path / "models" / "sqs" / "2099-01-01"
    newer.mkdir(parents=True)
    (newer / "service-2.json").write_text(json.dumps({"metadata": {"of": "file"}}))
    other = tmp_path / "more" / "other" / "2099-01-01"
    other.mkdir(parents=True)
    (other / "service-2.json.gz").write_bytes(gzip.compress(b'{"metadata": {"of": "gzip"}}'))
    places = f"~/${{MODELS}}:{tmp_path / 'more'}:{tmp_path / 'missing'}"
    for loader in (Descriptions(places), create_loader(places)):
        assert loader.load_service_model("sqs", "service-2") == {"metadata": {"of": "file"}}
        assert loader.load_service_model("other", "service-2") == {"metadata": {"of": "gzip"}}
