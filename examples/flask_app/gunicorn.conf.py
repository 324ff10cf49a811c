# gunicorn -c gunicorn.conf.py 'write:create_app()'
# Each worker makes the application, and with it the connections to the database and to KMS, after
# the fork. With preload_app = True, call engine.dispose(close=False) in post_fork; RowKeys opens
# new connections by itself, and a cache filled before the fork is in every worker.
workers = 2
threads = 8  # one RowKeys serves all threads of a worker
timeout = 30  # far above the reader's deadline of 1 second
