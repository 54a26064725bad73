"""Other model servers with the policy of `bench.torch_slates`, each as its documentation has it.

`python -m bench.peer_servers.NAME PORT FOLDER BATCH`, in an environment that has the server and torch: FOLDER holds
the policy and takes what the server writes, BATCH is how many requests it may rank at once, 1 for no batching.
"""

SETTING = "STEADYRANK_BENCH_PEERS"
"""The environment variable of the Python interpreters that have such servers, with ":" between them."""
