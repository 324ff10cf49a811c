"""A real LocalStack: it starts, behaves as KMS where it matters, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from localstack_client.session import Session

from sandbox import localstack
from sandbox.localstack import SERVICES, LocalStackServer
from sandbox.process import SandboxError
from sandbox.sockets import listening_addresses
from support.waiting import eventually

pytestmark = pytest.mark.localstack

TOOLING = Path(__file__).parents[2] / "tooling"
CONTEXT = {"dekctl:table": "encrypted_files", "dekctl:pk": "42"}
DEK = bytes(range(32))

Clients = Callable[[str], Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStackServer]:
    with LocalStackServer.start(tmp_path_factory.mktemp("localstack")) as running:
        yield running


@pytest.fixture
def clients(server: LocalStackServer, monkeypatch: pytest.MonkeyPatch) -> Clients:
    # localstack-client brings credentials of its own, so no profile of the developer is ever used;
    # but an endpoint in the environment would go before the server named here.
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    client: Clients = Session(localstack_host=f"127.0.0.1:{server.port}").client
    return client


@pytest.fixture
def kek(clients: Clients) -> str:
    return str(clients("kms").create_key()["KeyMetadata"]["Arn"])


def in_container() -> bool:
    return LocalStackServer.find()[0] == "docker"


def processes(session: int) -> list[str]:
    """Those of a session, without zombies (nobody may be there to reap an orphan)."""
    lines = subprocess.run(
        ["ps", "-A", "-o", "sid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    rows = [line.split(None, 2) for line in lines]
    return [row[2] for row in rows if row[0] == str(session) and not row[1].startswith("Z")]


def test_a_wrapped_dek_unwraps_in_its_own_context_only(clients: Clients, kek: str) -> None:
    kms = clients("kms")
    answer = kms.encrypt(KeyId=kek, Plaintext=DEK, EncryptionContext=CONTEXT)
    assert answer["KeyId"] == kek
    blob = answer["CiphertextBlob"]
    back = kms.decrypt(KeyId=kek, CiphertextBlob=blob, EncryptionContext=CONTEXT)
    assert back["Plaintext"] == DEK
    with pytest.raises(kms.exceptions.InvalidCiphertextException):
        kms.decrypt(
            KeyId=kek, CiphertextBlob=blob, EncryptionContext={**CONTEXT, "dekctl:pk": "43"}
        )


def test_a_disabled_kek_refuses_to_wrap_and_to_unwrap(clients: Clients, kek: str) -> None:
    kms = clients("kms")
    blob = kms.encrypt(KeyId=kek, Plaintext=DEK, EncryptionContext=CONTEXT)["CiphertextBlob"]
    kms.disable_key(KeyId=kek)
    with pytest.raises(kms.exceptions.DisabledException):
        kms.decrypt(KeyId=kek, CiphertextBlob=blob, EncryptionContext=CONTEXT)
    with pytest.raises(kms.exceptions.DisabledException):
        kms.encrypt(KeyId=kek, Plaintext=DEK, EncryptionContext=CONTEXT)


def test_the_other_services_of_the_infrastructure_answer(clients: Clients) -> None:
    assert {"iam", "sts", "s3", "cloudwatch", "logs", "sns", "events"} < set(SERVICES)
    arn = clients("iam").create_role(RoleName="app", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    assumed = clients("sts").assume_role(RoleArn=arn, RoleSessionName="test")
    assert assumed["AssumedRoleUser"]["Arn"].endswith(":assumed-role/app/test")
    clients("logs").create_log_group(logGroupName="audit")
    topic = clients("sns").create_topic(Name="alarms")["TopicArn"]
    clients("events").put_rule(Name="disable-key", EventPattern='{"source": ["aws.kms"]}')
    target = {"Id": "1", "Arn": topic}
    answer = clients("events").put_targets(Rule="disable-key", Targets=[target])
    assert answer["FailedEntryCount"] == 0


def test_an_alarm_keeps_the_tags_it_was_made_with(clients: Clients) -> None:
    # Else the second plan of Terraform is never empty.
    cloudwatch = clients("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="disable-key",
        Namespace="dekctl",
        MetricName="DisableKey",
        Statistic="Sum",
        Period=300,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        Tags=[{"Key": "project", "Value": "dekctl"}],
    )
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=["disable-key"])["MetricAlarms"]
    tags = cloudwatch.list_tags_for_resource(ResourceARN=alarm["AlarmArn"])["Tags"]
    assert tags == [{"Key": "project", "Value": "dekctl"}]


def test_a_service_that_was_not_asked_for_is_off(clients: Clients) -> None:
    with pytest.raises(ClientError):
        clients("sqs").list_queues()


@pytest.mark.skipif("in_container()", reason="Docker publishes the port, the client has no socket")
def test_it_listens_on_loopback_only(server: LocalStackServer) -> None:
    assert listening_addresses(server.pid) == [f"127.0.0.1:{server.port}"]


@pytest.mark.skipif("in_container()", reason="the container has files of its own")
def test_its_files_stay_in_its_directory(server: LocalStackServer, clients: Clients) -> None:
    s3 = clients("s3")
    s3.create_bucket(Bucket="somewhere")
    s3.put_object(Bucket="somewhere", Key="a", Body=b"x")
    assert (server.directory / "tmp" / "s3" / "somewhere").is_dir()


@pytest.mark.skipif("in_container()", reason="Docker publishes the port, the client has no socket")
def test_it_is_stopped_if_it_can_be_reached_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def outside(session: int) -> list[str]:
        started.append(session)
        return ["0.0.0.0" + listener[9:] for listener in listening_addresses(session)]  # noqa: S104

    monkeypatch.setattr(localstack, "listening_addresses", outside)
    with pytest.raises(SandboxError, match=r"listens on 0\.0\.0\.0:\d+, not only on loopback"):
        LocalStackServer.start(tmp_path)
    assert processes(started[0]) == []


def test_a_taken_port_is_an_error_before_anything_is_started(server: LocalStackServer) -> None:
    with pytest.raises(SandboxError, match=f"port {server.port} of 127.0.0.1 is taken"):
        LocalStackServer.start(port=server.port)


def test_stop_leaves_no_process_and_no_temporary_folder() -> None:
    with LocalStackServer.start() as server:
        session = server.pid
        assert processes(session) != []
    assert processes(session) == []
    assert not server.directory.exists()
    server.stop()  # once more does nothing


def test_it_ends_with_an_owner_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from sandbox.localstack import *\n"
        "server = LocalStackServer.start(Path(sys.argv[1]))\n"
        "print(server.pid, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TOOLING)},
    ) as owner:
        try:
            assert owner.stdout is not None
            session = int(owner.stdout.readline())
            assert processes(session) != []
        finally:
            owner.send_signal(signal.SIGKILL)
    assert eventually(lambda: processes(session) == [])
