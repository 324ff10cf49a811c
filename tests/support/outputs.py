"""Terraform's outputs as a file holds them, without Terraform."""

from __future__ import annotations

import json
from typing import Any


def outputs(**changes: Any) -> str:
    """Terraform outputs, as ``terraform output -json`` prints them."""
    arn = "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555"
    roles = ("app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin")
    value = {
        "schema_version": 1,
        "region": "eu-central-1",
        "account_id": "111122223333",
        "context_name": "encrypted_files",
        "kek": {
            "arn": arn,
            "alias": "alias/app",
            "generations": {"g1": {"arn": arn, "state": "active"}},
        },
        "roles": {role: f"arn:aws:iam::111122223333:role/{role}" for role in roles},
        "audit": {},
    }
    return json.dumps({"dekctl": {"value": value | changes}})
