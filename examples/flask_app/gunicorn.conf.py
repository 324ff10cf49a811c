# gunicorn -c gunicorn.conf.py 'write:create_app()'
from typing import Any

workers = 2
threads = 8  # one RowKeys serves all threads of a worker
timeout = 30  # far above the reader's deadline of 1 second


def post_fork(server: Any, _worker: Any) -> None:
    """With --preload, a worker must not use the database connections of the process it is of."""
    if server.cfg.preload_app:
        server.app.wsgi().extensions["engine"].dispose(close=False)
    # RowKeys needs nothing: it opens its own connections to KMS, and its cache begins empty.
