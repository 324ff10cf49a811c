"""Throw-away servers on loopback for the demo, the tests and the benchmark; not shipped.

Each server is a context manager: started on a free port of 127.0.0.1, ready to answer when
``start`` returns, and gone afterwards, even if its owner was killed.
"""
