"""AWS KMS: the provider, its two transports, and what paces and checks its calls."""
