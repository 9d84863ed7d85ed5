"""The metrics that the daemon has, by the one place where it registers them. The smoke test holds the list against what a
running daemon serves."""

import re

import templates

SOURCES = templates.ROOT / "src"
# What src/metrics/register.rs has a function for, and the closure of src/metrics/card_sync.rs.
REGISTERED = re.compile(r'\b(counters?|gauges?|histograms?|count)\(\s*(?:&?[\w.]+,\s*)?"([a-z_]+)"')


def all_names():
    paths = [SOURCES / "metrics.rs", *sorted((SOURCES / "metrics").glob("*.rs"))]
    found = [(path.stem, *match.groups()) for path in paths for match in REGISTERED.finditer(path.read_text())]
    names = {f"turnstiled_card_sync_{name}" if kind == "count" and file == "card_sync" else f"turnstiled_{name}" for file, kind, name in found}
    assert len(names) > 40, f"the metrics are registered otherwise now: {names}"
    return names
