"""`--print-config` and `--print-plan`: the spec as JSON, the plan as text, on stdout.  (cold)"""

import json
import sys
from typing import Any

from sandbox import plan


def config(spec: dict[str, Any], bpf: bytes) -> None:
    """The OCI config.json; the compiled filter is not part of it."""
    del bpf
    json.dump(spec, sys.stdout, indent=2, ensure_ascii=False)
    print()


def steps(spec: dict[str, Any], bpf: bytes) -> None:
    """The steps of keeper and init, one a line."""
    sys.stdout.write(plan.text(plan.make(spec, bpf)))
