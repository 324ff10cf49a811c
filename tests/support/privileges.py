"""What each role may do, and which command needs it: the table of docs/privileges.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from support.iam import Document, Request, is_allowed, kms_request

CRYPTOGRAPHY = (
    "Decrypt",
    "DeriveSharedSecret",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateMac",
    "ReEncryptFrom",
    "ReEncryptTo",
    "Sign",
    "Verify",
    "VerifyMac",
)
READING = (
    "DescribeKey",
    "GetKeyPolicy",
    "GetKeyRotationStatus",
    "ListGrants",
    "ListKeyPolicies",
    "ListKeyRotations",
    "ListResourceTags",
)
OPERATION = (
    "CancelKeyDeletion",
    "CreateAlias",
    "DeleteAlias",
    "DisableKey",
    "DisableKeyRotation",
    "EnableKey",
    "EnableKeyRotation",
    "RevokeGrant",
    "RotateKeyOnDemand",
    "ScheduleKeyDeletion",
    "TagResource",
    "UntagResource",
    "UpdateAlias",
    "UpdateKeyDescription",
)
NEVER = (
    "CreateGrant",
    "DeleteImportedKeyMaterial",
    "ImportKeyMaterial",
    "PutKeyPolicy",
    "ReplicateKey",
    "RetireGrant",
    "UpdatePrimaryRegion",
)
ACTIONS = CRYPTOGRAPHY + READING + OPERATION + NEVER

ROLES = ("app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin")
OUTSIDERS = {
    "administrator": "arn:aws:iam::123456789012:user/terraform",
    "stranger": "arn:aws:iam::123456789012:role/stranger",
}
"""Who is none of the roles: what runs Terraform, and any other principal. Both may do everything
that their own policy can give."""
EVERYTHING = {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}
OUTSIDERS_OWN: Document = {"Version": "2012-10-17", "Statement": [EVERYTHING]}
FOREIGN: Document = {
    "Version": "2012-10-17",
    "Statement": [{**EVERYTHING, "Principal": {"AWS": "arn:aws:iam::123456789012:root"}}],
}
LIVE = ("active", "retired")
KEYS = ("active", "retired", "foreign", "trail")

BRANCH = "0123456789abcdef0123456789abcdef"
TRAIL = "arn:aws:cloudtrail:us-east-1:123456789012:trail/dekctl-local-trail"


def contexts(table: str, trail: str = TRAIL) -> dict[str, dict[str, str] | None]:
    """The encryption contexts of a call by name; ``table`` and ``trail`` are the right ones."""
    return {
        "right": {"dekctl:table": table, "dekctl:pk": "42"},
        "branch key": {"dekctl:table": table, "dekctl:branch": BRANCH},
        "none": None,
        "wrong table": {"dekctl:table": "invoices", "dekctl:pk": "42"},
        "branch key of a wrong table": {"dekctl:table": "invoices", "dekctl:branch": BRANCH},
        "branch key with a primary key": {
            "dekctl:table": table,
            "dekctl:pk": "42",
            "dekctl:branch": BRANCH,
        },
        "no primary key": {"dekctl:table": table},
        "no table": {"dekctl:pk": "42"},
        "one key too many": {"dekctl:table": table, "dekctl:pk": "42", "tenant": "7"},
        "trail": {"aws:cloudtrail:arn": trail},
    }


CONTEXTS = tuple(contexts(""))

AS_A_RULE = {
    "ScheduleKeyDeletionPendingWindowInDays": "30",
    "BypassPolicyLockoutSafetyCheck": "false",
}
"""What a call carries; the denies ask for it. None of them comes through another service."""


@dataclass(frozen=True, order=True)
class Cell:
    """One call that is allowed or not: names as in ROLES, ACTIONS, KEYS and CONTEXTS."""

    role: str
    action: str
    key: str
    context: str


def needs(*, rows_without_context: bool = False, branch_keys: bool = False) -> dict[Cell, str]:
    """Every call that has to be allowed, with the command that makes it."""
    bound = ["right", *(["none"] if rows_without_context else [])]
    needed = {
        Cell("app", "GenerateDataKey", "active", "right"): "the application issues a new row's DEK",
        Cell("wrapper", "Encrypt", "active", "right"): "`wrap`",
        Cell("rewrapper", "ReEncryptTo", "active", "right"): "`rewrap`",
        Cell("auditor", "Decrypt", "trail", "trail"): "`audit` reads the trail's files",
    }
    for context in bound:
        for key in LIVE:
            needed[Cell("app", "Decrypt", key, context)] = "the application reads a row"
            needed[Cell("verifier", "Decrypt", key, context)] = "`verify`, `scrub`, `restore`"
        needed[Cell("rewrapper", "ReEncryptFrom", "retired", context)] = "`rewrap`"
        needed[Cell("rewrapper", "ReEncryptFrom", "active", context)] = (
            "`rewrap` of V1 rows, or after the key material rotated"
        )
    if branch_keys:
        needed |= _needs_of_branch_keys()
    for context in CONTEXTS:  # calls without one: it plays no part
        for key in LIVE:
            for role in ROLES:
                needed[Cell(role, "DescribeKey", key, context)] = "`doctor`"
            for action in READING[1:]:
                needed[Cell("auditor", action, key, context)] = (
                    "`doctor`, manual work of the auditor"
                )
                needed[Cell("key_admin", action, key, context)] = "manual work on a generation"
            for action in OPERATION:
                needed[Cell("key_admin", action, key, context)] = "manual work on a generation"
    return needed


BY_HAND = "manual work of the auditor"
WALKING = "`--quota-share` of `wrap`, `verify`, `scrub`, `restore`, `rewrap`"
WITHOUT_A_KEY: dict[str, dict[str, str]] = {
    "app": {},
    **{
        role: {
            "servicequotas:GetServiceQuota": WALKING,
            "servicequotas:GetAWSDefaultServiceQuota": (
                f"{WALKING}, in an account whose quota was never changed"
            ),
        }
        for role in ("wrapper", "rewrapper", "verifier")
    },
    "auditor": {
        "s3:ListBucket": "`audit` finds the trail's files",
        "s3:GetObject": "`audit` reads them",
        "cloudtrail:GetTrailStatus": "`audit` asks whether the trail records",
        "cloudtrail:ListPublicKeys": "`audit` verifies the signatures of the digest files",
        "cloudtrail:GetTrail": f"{BY_HAND}: is the trail multi-Region, signed and encrypted?",
        "cloudtrail:GetEventSelectors": f"{BY_HAND}: does it record reads, and KMS?",
        "cloudtrail:LookupEvents": f"{BY_HAND}: the last minutes, before a file is delivered",
        "logs:FilterLogEvents": f"{BY_HAND}: the events behind an alarm",
        "logs:StartQuery": f"{BY_HAND}: counts over many days (Logs Insights)",
        "logs:GetQueryResults": f"{BY_HAND}: their results",
        "kms:ListAliases": f"{BY_HAND}: which keys there are",
        "kms:ListKeys": f"{BY_HAND}: which keys there are",
    },
    "key_admin": {
        "kms:ListAliases": "manual work on a generation",
        "kms:ListKeys": "manual work on a generation",
    },
}
"""Every right of a role that is on no key, with what needs it."""


def without_a_key(identity: Document) -> set[str]:
    """The actions of an identity policy that are not one of the table's."""
    actions = {
        action
        for statement in identity["Statement"]
        for action in (
            [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        )
    }
    return actions - {f"kms:{action}" for action in ACTIONS}


def _needs_of_branch_keys() -> dict[Cell, str]:
    """What hierarchical wrapping (V3) needs besides."""
    bound = "branch key"
    needed = {
        Cell("wrapper", "GenerateDataKey", "active", bound): "`wrap`, once for many rows",
        Cell("rewrapper", "ReEncryptTo", "active", bound): "`rewrap`",
        Cell("rewrapper", "ReEncryptFrom", "retired", bound): "`rewrap`",
        Cell("rewrapper", "ReEncryptFrom", "active", bound): (
            "`rewrap`, which lets KMS decrypt each new copy"
        ),
    }
    for key in LIVE:
        needed[Cell("app", "Decrypt", key, bound)] = "the application reads a V3 row"
        needed[Cell("verifier", "Decrypt", key, bound)] = "`verify`, `scrub`, `restore`"
    return needed


class Rendered:
    """The policies of one applied composition, out of Terraform's state."""

    def __init__(
        self,
        resources: list[dict[str, Any]],
        documents: Mapping[str, Document],
        module: str = "dekctl",
    ) -> None:
        """Take the resources of a state and its policies, already parsed, by address.

        ``module`` is the name of the composition, if the state holds several.
        """
        self.resources, self.documents = resources, documents
        self._module = f"module.{module}.module"
        self._by_address = {r["address"]: r["values"] for r in resources}

    @property
    def trail(self) -> str | None:
        """ARN of the composition's trail, if it has one of its own."""
        values = self._by_address.get(f"{self._module}.audit[0].aws_cloudtrail.this")
        return str(values["arn"]) if values else None

    def role_arn(self, role: str) -> str:
        """ARN of a role, or of an outsider."""
        if role in OUTSIDERS:
            return OUTSIDERS[role]
        address = f'{self._module}.access.aws_iam_role.this["{role}"]'
        return str(self._by_address[address]["arn"])

    def identity(self, role: str) -> Document:
        """The policy of a role; an outsider's own policy gives it everything."""
        if role in OUTSIDERS:
            return OUTSIDERS_OWN
        return self.documents[f'{self._module}.access.aws_iam_role_policy.this["{role}"]']

    def key(self, key: str, tenant: str | None = None) -> tuple[str, Document]:
        """ARN and policy of a key; a foreign one has the policy that KMS gives by default."""
        kek = f'tenant["{tenant}"]' if tenant else "kek"
        addresses = {
            "active": f'{self._module}.{kek}.aws_kms_key.generation["g2"]',
            "retired": f'{self._module}.{kek}.aws_kms_key.generation["g1"]',
            "trail": f"{self._module}.audit[0].aws_kms_key.trail",
        }
        if key == "foreign":
            arn = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000"
            return arn, FOREIGN
        return str(self._by_address[addresses[key]]["arn"]), self.documents[addresses[key]]


def cells(roles: Iterable[str] = ROLES) -> Iterator[Cell]:
    """Every cell of the table."""
    for role in roles:
        for action in ACTIONS:
            for key in KEYS:
                for context in CONTEXTS:
                    yield Cell(role, action, key, context)


def allowed(
    rendered: Rendered,
    table: str = "encrypted_files",
    tenant: str | None = None,
    roles: Iterable[str] = ROLES,
    **conditions: str,
) -> set[Cell]:
    """The cells that the rendered policies allow, for a table and the KEK of a tenant or of all.

    ``conditions`` are what a call carries besides; see :func:`support.iam.kms_request`.
    """
    found = set()
    for cell, request in asked(rendered, table, tenant, roles, **conditions):
        _, key_policy = rendered.key(cell.key, tenant)
        if is_allowed(request, identity=rendered.identity(cell.role), key_policy=key_policy):
            found.add(cell)
    return found


def asked(
    rendered: Rendered,
    table: str = "encrypted_files",
    tenant: str | None = None,
    roles: Iterable[str] = ROLES,
    **conditions: str,
) -> Iterator[tuple[Cell, Request]]:
    """Every cell with its request, of keys that there are; see :func:`allowed`."""
    trail = rendered.trail
    of_name = contexts(table, trail or TRAIL)
    carried = {**AS_A_RULE, **conditions}
    for cell in cells(roles):
        if cell.key == "trail" and trail is None:
            continue
        yield (
            cell,
            kms_request(
                rendered.role_arn(cell.role),
                f"kms:{cell.action}",
                rendered.key(cell.key, tenant)[0],
                of_name[cell.context],
                **carried,
            ),
        )


def document(strict: set[Cell], lenient: set[Cell], branched: set[Cell], outside: set[Cell]) -> str:
    """The page docs/privileges.md: what is allowed by default, and in addition with each option."""
    total = sum(1 for _ in cells())
    head = f"""# Who may do what with a key

Generated by `tests/integration/test_privileges.py` from the policies that Terraform rendered. The
same test fails if no command needs an allowed cell, or if a command lacks a permission.
Checked are {len(ROLES)} roles x {len(ACTIONS)} KMS actions x {len(KEYS)} keys ({", ".join(KEYS)}) x
{len(CONTEXTS)} encryption contexts, {total:,} cells: {len(strict):,} are allowed, those below.
A foreign key is any other key of the account whose policy leaves the decision to IAM.

AWS has not verified this: `tests/support/iam.py` implements the documented evaluation logic a
second time, and an engine of others, `@cloud-copilot/iam-simulate`, says the same of every cell
(`make test-iam`; it drops `kms:EncryptionContext:*` keys, so cells with a context are put to its
core). Trust policies, service control policies and session policies are not included. moto's
own enforcement is not usable for this: it evaluates every KMS call against the resource `*` and
denies every statement with a condition (moto 5.2). Instead, the commands run as these roles on a
strict KMS stand-in: `tests/integration/test_privileges_used.py` fails if a command makes a call
that is not listed below, or if no command uses a cryptographic permission on a KEK. The auditor's
Decrypt on the trail's key is not covered: S3 makes that call on behalf of whoever reads a file, and
the stand-in has no S3.

## Cryptography

"""
    needed = needs(rows_without_context=True, branch_keys=True)

    def lines(some: set[Cell]) -> list[str]:
        return [
            f"| {c.role} | {c.action} | {c.key} | {c.context} | {needed[c]} |" for c in sorted(some)
        ]

    def actions(who: str, keys: tuple[str, ...]) -> str:
        found = {c.action for c in outside if c.role == who and c.key in keys}
        return ", ".join(sorted(found)) or "none"

    columns = "| role | action | key | context | needed by |\n|---|---|---|---|---|"
    rest = sorted({(c.role, c.action) for c in strict if c.action not in CRYPTOGRAPHY})
    other = [
        f"| {role} | {', '.join(action for r, action in rest if r == role)} |" for role in ROLES
    ]
    return "\n".join(
        [
            head + columns,
            *lines({c for c in strict if c.action in CRYPTOGRAPHY}),
            "\nDenied contexts: " + ", ".join(c for c in CONTEXTS if c != "right") + ".",
            "\nWith `allow_rows_without_context = true`, while V1 rows are left, also:\n",
            columns,
            *lines(lenient - strict),
            "\nWith `allow_branch_keys = true`, for hierarchical wrapping (V3), also:\n",
            columns,
            *lines(branched - strict),
            "\n## Everything else\n\nOn the active and the retired generations:\n",
            "| role | actions |\n|---|---|",
            *other,
            f"\nNone of the roles: {', '.join(NEVER)}.",
            "\n## Permissions not on keys\n\n| role | action | needed by |\n|---|---|---|",
            *(
                f"| {role} | {action} | {why} |"
                for role, reasons in WITHOUT_A_KEY.items()
                for action, why in reasons.items()
            ),
            "\n## Everybody else\n\nThe same keys, for principals whose own policy is `kms:*`:\n",
            "| principal | on the active and the retired generations | on the trail's key |",
            "|---|---|---|",
            *(
                f"| {name} | {actions(who, LIVE)} | {actions(who, ('trail',))} |"
                for who, name in (
                    ("administrator", "the role that runs Terraform"),
                    ("stranger", "any other role of the account"),
                )
            ),
            "\nDenied to everybody, on every generation: cryptography through another service",
            "(`kms:ViaService`), deletion in less than 30 days, a key policy that bypasses the",
            "lock-out check, grants.\n",
        ]
    )
