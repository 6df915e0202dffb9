"""docs/profiles.md against the real tables.  `PYTHONPATH=. python tests/unit/test_profile_docs.py` writes the generated parts anew."""

import re
import sys
from pathlib import Path

from sandbox.profile import language, load, schema, show
from sandbox.profile.patterns import OPERATORS
from sandbox.profile.policy import ACTIONS

DOCS = Path(__file__).resolve().parents[2] / "docs/profiles.md"


def generated() -> dict[str, str]:
    path = f"{load.folders()[-1]}/default.toml"
    return {"default": show.markdown(language.parse(path, load.read(path))), "groups": show.markdown_groups(),
            "language": show.markdown_language()}  # fmt: skip


def filled(text: str) -> str:
    for name, part in generated().items():
        block = f"<!-- generated: {name} -->\n{part}<!-- end -->"
        text, count = re.subn(
            rf"<!-- generated: {name} -->\n.*?<!-- end -->", lambda _, block=block: block, text, flags=re.DOTALL
        )
        assert count == 1, name
    return text


def test_tables_are_those_of_the_real_profile() -> None:
    text = DOCS.read_text()
    assert text == filled(text), f"run: python {Path(__file__).name}"


def test_every_key_operator_and_action_is_described() -> None:
    text = DOCS.read_text().split("## The profile `default`")[0]
    words = {key for keys in schema.TABLES.values() for key, kind in keys.items() if kind.kind != "table"}
    words |= {*OPERATORS, *ACTIONS}
    assert {word for word in words if f"`{word}`" not in text} == set()


if __name__ == "__main__":
    sys.exit(DOCS.write_text(filled(DOCS.read_text())) and None)
