"""The errors the stand-in answers with, named as in the AWS KMS API reference."""

from __future__ import annotations

# Status codes of the API reference; every other error is a 400.
STATUS = {
    "DryRunOperationException": 412,
    "KMSInternalException": 500,
    "KeyUnavailableException": 500,
    "DependencyTimeoutException": 503,
}


class AwsError(Exception):
    """An error answer: ``code`` is its name; the message never holds key material."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    @property
    def status(self) -> int:
        """HTTP status of the answer."""
        return STATUS.get(self.code, 400)


def invalid(member: str, constraint: str) -> AwsError:
    """A ValidationException as KMS words it."""
    name = member[0].lower() + member[1:]
    return AwsError(
        "ValidationException",
        f"1 validation error detected: Value at '{name}' failed to satisfy constraint: "
        f"Member must {constraint}",
    )
