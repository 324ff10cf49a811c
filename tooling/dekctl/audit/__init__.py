"""The audit: CloudTrail's KMS events held against the run ledger and the roles."""
