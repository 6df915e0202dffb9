"""profiles/schema.json against the definition.  `python tests/unit/test_profile_schema.py` writes it anew."""

import json
from pathlib import Path

from sandbox.profile import schema

FILE = Path(__file__).resolve().parents[2] / "profiles/schema.json"


def generated() -> str:
    return json.dumps(schema.json_schema(), indent=1) + "\n"


def test_the_schema_file_is_generated() -> None:
    assert FILE.read_text() == generated(), f"run: python {Path(__file__).name}"


def test_it_knows_every_key() -> None:
    def keys(part: dict[str, object]) -> set[str]:
        found: set[str] = set()
        for name, value in part.items():
            if name == "properties" and isinstance(value, dict):
                found |= set(value)
            if isinstance(value, dict):
                found |= keys(value)
            for item in value if isinstance(value, list) else ():
                found |= keys(item) if isinstance(item, dict) else set()
        return found

    assert {key for table in schema.TABLES.values() for key in table} <= keys(schema.json_schema())


if __name__ == "__main__":
    FILE.write_text(generated())
