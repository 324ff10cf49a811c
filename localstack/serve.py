"""Runs LocalStack in this process: ``python serve.py``, with LocalStack's own interpreter.

It cures what no setting of LocalStack 4.14 can:

- On Python 3.12 the server starts and looks healthy, but every call of KMS answers with an error:
  it imports ``warnings.deprecated``, which Python has since 3.13.
- S3 keeps its objects in one fixed folder of /tmp, which two servers would share.
"""

import sys
import tempfile
import warnings
from pathlib import Path

if sys.version_info < (3, 13):
    from typing_extensions import deprecated

    warnings.deprecated = deprecated

from localstack.runtime.main import main
from localstack.services.s3 import provider as s3

s3.DEFAULT_S3_TMP_DIR = str(Path(tempfile.gettempdir(), "s3"))

main()
