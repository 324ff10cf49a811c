"""Runs the project's Terraform on private copies of ``terraform/``, for tests and static checks."""
