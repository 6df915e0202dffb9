"""What `[[test]]` of a profile can ask: `deny = "read ~/.ssh/id_rsa"`.  (cold)

The same words are answered twice: on paper, from the profile (`paper`), and by a program inside a sandbox that really
tries (`PROGRAM`, handed to the Python of `host:`).
"""

FORMS = (
    "call NAME [ARGUMENT...], capability NAME, read PATH, write PATH, list PATH, execute PATH, connect HOST:PORT, "
    "socket FAMILY TYPE, variable NAME"
)
_KINDS = ("call", "capability", "read", "write", "list", "execute", "connect", "socket", "variable")


def wrong(text: str) -> str:
    """What is wrong with a probe, or ""."""
    words = text.split()
    if not words or words[0] not in _KINDS:
        return "no such probe"
    if len(words) < 2 or (words[0] not in ("call", "socket") and len(words) != 2):
        return "one word must follow"
    return ""
