"""Serves TensorZero's own gateway, of the Rust that its package carries, until it is ended."""

import sys
import threading

import tensorzero

gateway = tensorzero._start_http_gateway(
    config_file=sys.argv[1],
    clickhouse_url=None,
    postgres_url=None,
    valkey_url=None,
    async_setup=False,
)
print(f"listening on {gateway.base_url}", flush=True)
threading.Event().wait()
