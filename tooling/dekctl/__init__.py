"""dekctl: move an application's data keys under KMS, and rotate them, without losing one.

Applications use :mod:`dekctl.kms` (the providers) and :mod:`dekctl.reader` (reading and issuing
a row's key). Everything else serves the command line and may change between versions.
"""

__version__ = "0.1.0"
