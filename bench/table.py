"""From results to the table of README.md: figures, ratios, targets, and whether they are met."""

from typing import Any

# What is between them is written by bench/run, and by bench/run --images.
MARKS = {
    "run": ("<!-- begin: written by bench/run -->", "<!-- end: written by bench/run -->"),
    "life": ("<!-- begin: written by bench/run --life -->", "<!-- end: written by bench/run --life -->"),
    "images": ("<!-- begin: written by bench/run --images -->", "<!-- end: written by bench/run --images -->"),
}

Results = dict[str, dict[str, dict[str, float]]]
LABELS = {"python": "`python3 -IS -c pass`", "crun": "crun, bundle prepared", "bwrap": "bwrap"}
TITLES = {
    "start": "Start: `run --rm --network none IMAGE true`",
    "slirp": "With slirp4netns: `run --rm --network slirp4netns IMAGE true`",
    "host": "The host's own files: `sbx run host: true`, `sbx wrap -- true` (for information)",
}


def markdown(found: dict[str, Any]) -> str:
    """Everything between the markers: facts, verdicts, one table a part."""
    results: Results = found["results"]
    lines = ["", *[f"- {fact}" for fact in found["facts"]], f"- {found['seconds']:.0f} s in all"]
    lines += [f"- {note}" for note in found["notes"]]
    if "table" in found:
        lines += found["table"].split("\n")[:-1]
    rows = verdicts(results)
    if rows:
        lines += ["", "| target | | measured | |", "|---|--:|--:|---|"]
        lines += [f"| {what} | {target} | {measured} | {'met' if met else '**missed**'} |"
                  for what, target, measured, met in rows]  # fmt: skip
    for part, title in TITLES.items():
        if part in results:
            lines += ["", title, "", *_times(results[part])]
    if "crowd" in results:
        lines += ["", "Many runs, 8 at a time: `run --rm --network none IMAGE true`", "", *_crowd(results["crowd"])]
    if "memory" in results:
        lines += ["", "Memory while the container sleeps, without the payload", "", *_memory(results["memory"])]
    return "\n".join(lines) + "\n"


def _times(part: dict[str, dict[str, float]]) -> list[str]:
    lines = ["| | median ms | min ms | of podman | in python starts | runs |", "|---|--:|--:|--:|--:|--:|"]
    podman, python = part.get("podman", {}).get("median"), part["python"]["median"]
    for name, value in sorted(part.items(), key=lambda item: item[1]["median"]):
        ratio = f"{value['median'] / podman:.2f}" if podman else ""
        lines.append(
            f"| {LABELS.get(name, name)} | {value['median']:.1f} | {value['min']:.1f} | {ratio} "
            f"| {value['median'] / python:.1f} | {value['count']:.0f} |"
        )
    return lines


def _crowd(part: dict[str, dict[str, float]]) -> list[str]:
    lines = ["| | runs a second | median ms | 99th percentile ms | of the median | runs |", "|---|--:|--:|--:|--:|--:|"]
    for name, value in part.items():
        lines.append(
            f"| {name} | {value['per second']:.1f} | {value['median']:.0f} | {value['p99']:.0f} "
            f"| {value['p99'] / value['median']:.2f} | {value['count']:.0f} |"
        )
    return lines


def _memory(part: dict[str, dict[str, float]]) -> list[str]:
    lines = ["| | processes | proportional MB | resident MB, shared pages counted in each |", "|---|--:|--:|--:|"]
    for name, value in part.items():
        lines.append(f"| {name} | {value['processes']:.0f} | {value['median']:.1f} | {value['resident']:.1f} |")
    return lines


def verdicts(results: Results) -> list[tuple[str, str, str, bool]]:
    """(what, target, measured, met) of every target that can be told from `results`."""
    rows = []
    start, slirp, crowd = results.get("start", {}), results.get("slirp", {}), results.get("crowd", {})
    if start:
        sbx, python = start["sbx"]["median"], start["python"]["median"]
        if "podman" in start:
            ratio = sbx / start["podman"]["median"]
            rows.append(("start, of podman's", "<= 0.30, aim 0.20", f"{ratio:.2f}", ratio <= 0.30))
        # 30 ms where python3 takes 7
        rows.append(("start, in python starts", "<= 4.3", f"{sbx / python:.1f}", sbx / python <= 30 / 7))
    if "podman" in slirp:
        ratio = slirp["sbx"]["median"] / slirp["podman"]["median"]
        rows.append(("start with slirp4netns, of podman's", "<= 0.35", f"{ratio:.2f}", ratio <= 0.35))
    if crowd:
        if "podman" in crowd:
            factor = crowd["sbx"]["per second"] / crowd["podman"]["per second"]
            rows.append(("runs a second, 8 at a time, times podman's", ">= 4", f"{factor:.1f}", factor >= 4))
        spread = crowd["sbx"]["p99"] / crowd["sbx"]["median"]
        rows.append(("99th percentile of these, of the median", "<= 3", f"{spread:.2f}", spread <= 3))
    if "memory" in results:
        size = results["memory"]["sbx"]["median"]
        rows.append(("proportional memory of cli and keeper", "<= 16 MB", f"{size:.1f} MB", size <= 16))
    return rows


def write(path: str, lines: str, part: str) -> bool:
    """Put `lines` between the markers of `part` in the file; False when it can not be written or has no markers."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        head, begin, rest = text.partition(MARKS[part][0])
        _, end, tail = rest.partition(MARKS[part][1])
        if not begin or not end:
            return False
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{head}{begin}\n{lines}\n{end}{tail}")
    except OSError:
        return False
    return True
