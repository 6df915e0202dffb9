"""sbx: a rootless, daemonless, fork-exec sandbox and container tool.

This package ``__init__`` imports nothing on purpose: it runs at every start of `sbx run`.
The rooms of the house and who may import whom are drawn in docs/architecture.md.
"""

__version__ = "0.1.0"
