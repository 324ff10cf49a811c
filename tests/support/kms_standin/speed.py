"""Measures the stand-in: ``python -m support.kms_standin.speed`` (needs pycurl).

It prints Encrypt answers a second over TLS, and those of the same server with a bare static answer,
each with the processor time of the server and of this client. Requests are not signed.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import resource
import sys
import time
from pathlib import Path

import pycurl

from .handle import KmsStandin

SECONDS = 4.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds until an answer")
    parser.add_argument("--plain", action="store_true", help="without TLS")
    options = parser.parse_args()
    for static in (False, True):
        with KmsStandin.start(
            tls=not options.plain, verify_signatures=False, static=static
        ) as standin:
            arn = "static" if static else standin.create_key()
            standin.set_latency(options.latency)
            server_before, client_before = _cpu_of(standin.pid), _own_cpu()
            answers, seconds = _run(standin, arn, options.in_flight, options.seconds)
            server = _cpu_of(standin.pid) - server_before
            client = _own_cpu() - client_before
        name = "static answer" if static else "Encrypt"
        sys.stdout.write(
            f"{name}: {answers / seconds:,.0f} answers/s, "
            f"{answers / server:,.0f} per CPU-second of the server, "
            f"{answers / client:,.0f} per CPU-second of the client\n"
        )


def _run(standin: KmsStandin, arn: str, in_flight: int, seconds: float) -> tuple[int, float]:
    body = json.dumps(
        {
            "KeyId": arn,
            "Plaintext": base64.b64encode(bytes(32)).decode(),
            "EncryptionContext": {"dekctl:table": "encrypted_files", "dekctl:pk": "1234567"},
        }
    )
    multi = pycurl.CurlMulti()
    multi.setopt(pycurl.M_MAX_TOTAL_CONNECTIONS, in_flight)
    multi.setopt(pycurl.M_MAXCONNECTS, in_flight)
    for _ in range(in_flight):
        multi.add_handle(_request(standin, body))
    answers = 0
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        multi.perform()
        _, good, failed = multi.info_read()
        for handle, _code, message in failed:
            raise RuntimeError(f"request failed: {message} {handle}")
        for handle in good:
            if handle.getinfo(pycurl.RESPONSE_CODE) != 200:
                raise RuntimeError("the stand-in refused a request")
            answers += 1
            multi.remove_handle(handle)
            multi.add_handle(handle)
        if not good:
            multi.select(0.1)
    elapsed = time.monotonic() - started
    multi.close()
    return answers, elapsed


def _request(standin: KmsStandin, body: str) -> pycurl.Curl:
    handle = pycurl.Curl()
    handle.setopt(pycurl.URL, standin.endpoint_url + "/")
    handle.setopt(pycurl.PROXY, "")
    handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
    handle.setopt(pycurl.POSTFIELDS, body)
    handle.setopt(pycurl.WRITEFUNCTION, len)
    credential = f"{standin.admin.access_key}/20260101/us-east-1/kms/aws4_request"
    handle.setopt(
        pycurl.HTTPHEADER,
        [
            "X-Amz-Target: TrentService.Encrypt",
            "Content-Type: application/x-amz-json-1.1",
            "X-Amz-Date: 20260101T000000Z",
            f"Authorization: AWS4-HMAC-SHA256 Credential={credential}, "
            f"SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature={'0' * 64}",
        ],
    )
    if standin.ca_bundle is not None:
        handle.setopt(pycurl.CAINFO, str(standin.ca_bundle))
    return handle


def _own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _cpu_of(pid: int) -> float:
    """User and system seconds of a process, from Linux's /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
