"""Medians and tables of what benches print, for scripts/bench.sh.

bench-summary.py [--json] FILE
    FILE has JSON lines, those of several runs one after the other. Prints the
    median of each figure for each case: as a table, or as JSON lines.

bench-summary.py --criterion BENCH DIRECTORY
    Prints JSON lines of what criterion left in its directory.
"""

import json
import pathlib
import statistics
import sys

KEY = ("bench", "case")


def main(arguments):
    if arguments[0] == "--criterion":
        for line in criterion(arguments[1], pathlib.Path(arguments[2])):
            print(json.dumps(line))
        return
    as_json = arguments[0] == "--json"
    rows, hz = medians(read(arguments[-1]))
    add_cycles(rows, hz)
    if as_json:
        for row in rows:
            print(json.dumps(row))
    else:
        show(rows, hz)


def read(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def medians(lines):
    """A row for each case, in the order of the first run, and the frequency of
    the time stamp counter."""
    groups = {}
    hz = None
    for line in lines:
        if line["bench"] == "machine":
            hz = line["tsc_hz"]
        else:
            groups.setdefault(tuple(line[key] for key in KEY), []).append(line)
    return [median(group) for group in groups.values()], hz


def median(group):
    row = dict(group[0])
    for name, value in group[0].items():
        values = [line.get(name) for line in group]
        if isinstance(value, bool):
            row[name] = any(values)
        elif isinstance(value, list):
            row[name] = [item for value in values for item in value]
        elif all(isinstance(value, (int, float)) for value in values):
            # Flows and bytes stay the whole numbers that they are.
            row[name] = value if len(set(values)) == 1 else statistics.median(values)
    # What was lost in one run must not get lost in the median.
    for name in ("loss", "mismatches"):
        if isinstance(row.get(name), (int, float)):
            row[name] = max(line[name] for line in group)
    row["runs"] = len(group)
    return row


def criterion(bench, directory):
    for path in sorted(directory.glob("**/new/benchmark.json")):
        case = json.loads(path.read_text(encoding="utf-8"))
        estimates = json.loads(path.with_name("estimates.json").read_text(encoding="utf-8"))
        throughput = case.get("throughput") or {}
        ns = estimates["median"]["point_estimate"] / throughput.get("Elements", 1)
        yield {
            "bench": bench,
            "case": case["full_id"],
            "flows": None,
            "packet_bytes": None,
            "workers": 1,
            "tsc_cycles_per_packet": None,
            "core_cycles_per_packet": None,
            "io_cycles_per_packet": None,
            "mpps": 1e3 / ns,
            "loss": None,
            "ns_per_packet": ns,
        }


def add_cycles(rows, hz):
    """Those of parts, which criterion measures by time."""
    for row in rows:
        if hz and row.get("ns_per_packet") is not None:
            row["tsc_cycles_per_packet"] = row["ns_per_packet"] * hz / 1e9


def show(rows, hz):
    runs = max((row["runs"] for row in rows), default=0)
    if hz:
        print(f"\nTSC {hz / 1e6:.0f} MHz; cycles are TSC cycles a packet", end="")
        print(f"; medians of {runs} runs" if runs > 1 else "")
    for bench, columns in TABLES.items():
        table([row for row in rows if row["bench"] == bench], bench, columns)


# Heading, name of the figure, digits behind the point.
PATH = (
    ("bytes", "packet_bytes", 0),
    ("net", "tsc_cycles_per_packet", 1),
    ("io", "io_cycles_per_packet", 1),
    ("core net", "core_cycles_per_packet", 1),
    ("Mpps", "mpps", 2),
    ("lost", "loss", 0),
)
PARTS = (("cycles", "tsc_cycles_per_packet", 1), ("ns", "ns_per_packet", 2))
TABLES = {
    "packet_path": PATH,
    "net_ring": PATH,
    "throughput": (
        ("bytes", "packet_bytes", 0),
        ("Mpps", "mpps", 2),
        ("lost", "loss", 0),
        ("wrong", "mismatches", 0),
        ("cycles", "tsc_cycles_per_packet", 0),
        ("busy", "forwarder_busy_share", 2),
        ("Mpps/floor", "mpps_to_floor", 2),
        ("cycles/floor", "cycles_to_floor", 2),
        ("p50 us", "latency_p50_us", 1),
        ("p99", "latency_p99_us", 1),
        ("p99.9", "latency_p99_9_us", 1),
    ),
    "connection_table": PARTS,
    "parts": PARTS,
}


def table(rows, bench, columns):
    if not rows:
        return
    width = max(len(row["case"]) for row in rows)
    cells = [[text(row.get(name), digits) for _, name, digits in columns] for row in rows]
    widths = [
        max(len(heading), *(len(line[place]) for line in cells))
        for place, (heading, _, _) in enumerate(columns)
    ]
    print(f"\n{bench:<{width}}", *(f"{h:>{w}}" for (h, _, _), w in zip(columns, widths)), sep="  ")
    for row, line in zip(rows, cells):
        busy = "  BUSY" if row.get("busy") else ""
        wrong = "  WRONG" if row.get("failures") else ""
        numbers = "  ".join(f"{cell:>{w}}" for cell, w in zip(line, widths))
        print(f"{row['case']:<{width}}  {numbers}{busy}{wrong}")


def text(number, digits):
    return "-" if number is None else f"{number:.{digits}f}"


if __name__ == "__main__":
    main(sys.argv[1:])
