"""The audit: compares CloudTrail's KMS events with the run ledger and the roles."""
