"""Holds a Terraform plan against the rows: what could take a KEK, or the evidence, away."""
