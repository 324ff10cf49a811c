"""Custom key stores: a key in one cannot be used once its store is gone or disconnected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dekctl.guard.kms_keys import present_keys
from dekctl.guard.risk import Inputs, Risk, RiskKind

KINDS: Sequence[RiskKind] = ()  # it reports risks of the kind `disable`
SETTINGS = (
    "cloud_hsm_cluster_id",
    "custom_key_store_type",
    "trust_anchor_certificate",
    "xks_proxy_connectivity",
    "xks_proxy_uri_endpoint",
    "xks_proxy_uri_path",
    "xks_proxy_vpc_endpoint_service_name",
)


def find(inputs: Inputs) -> Iterator[Risk]:
    """Every key whose key store the plan deletes or points elsewhere."""
    for store in inputs.plan.of("aws_kms_custom_key_store"):
        if store.before is None:
            continue
        changed = [
            name
            for name in SETTINGS
            if store.is_unknown(name) or (store.was(name) or "") != (store.will(name) or "")
        ]
        if not store.goes and not changed:
            continue
        what = "is deleted" if store.goes else f"changes ({', '.join(changed)})"
        for key in present_keys(inputs.plan):
            if key.was("custom_key_store_id") == store.was("id"):
                reason = f"cannot be used any more: its custom key store {what}"
                yield Risk("disable", store.address, key.was("arn"), reason)
