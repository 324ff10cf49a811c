"""What takes several steps: migrate, roll back, the schema steps, proof before destruction."""
