"""One walk in many processes or on many machines."""
