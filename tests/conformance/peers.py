"""The conformance cases on DuckDB, Polars and pandas, as a user would naturally write them there.

    pip install duckdb polars pandas pyarrow    (in the versions at the head of MATRIX.md, or cases of other themes move, too)
    python tests/conformance/peers.py > tests/conformance/MATRIX.md

For each case and engine the outcome is one of

    same             the engine gives the expected rows
    differs          it gives other rows
    refused          it raises
    not expressible  its as-of join or window has no way to say the question

What "naturally" means here:

    lookup    DuckDB `ASOF LEFT JOIN`, Polars `join_asof`, pandas `merge_asof`, sorted first where the engine wants it so.
    max age   `tolerance`; in DuckDB a CASE on the age of the row that was found.
    delay     added to the event time before anything else.
    tie-break one more column to sort by, where the engine takes the last row of a sorted table (Polars, pandas).
    windows   over the union of facts and spine: DuckDB a RANGE frame, Polars `rolling_*_by` (and `rolling().agg()` for what
              has no such function), pandas `groupby().rolling()`. Counts that are missing are filled with 0.
    zones     a zone-less column declared UTC is handed over as UTC. In any other zone the engine converts it itself.

Known-at columns and identities are not expressible by an as-of join or a RANGE frame on one time column; a join written out
by hand is not what is compared here. Numbers are compared exactly, 2 and 2.0 as equal, 0.0 and -0.0 as different. pandas
keeps NULL as NaN, so there either is taken for the other.
"""
import argparse, collections, glob, json, math, operator, os, re, sys, warnings
from datetime import date, datetime, timedelta
from decimal import Decimal

import duckdb, pandas as pd, polars as pl, pyarrow as pa

ENGINES = {"DuckDB": duckdb, "Polars": pl, "pandas": pd}
OUTCOMES = ["same", "differs", "refused", "not expressible"]
EPOCH = datetime(1970, 1, 1)
DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
MICROS = {"us": 1, "ms": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "d": 86400 * 10**6}
COMPARE = {"=": operator.eq, "<>": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


class NotExpressible(Exception):
    """The engine has no way to put the question; the message says what is missing."""


# --- cases to Arrow and back ---------------------------------------------------------------------------------------------


def micros(duration):
    """`7d` as a number of microseconds."""
    number, unit = re.fullmatch(r"(\d+)(us|ms|s|m|h|d)", duration).groups()
    return int(number) * MICROS[unit]


def arrow_type(name):
    stamp = re.fullmatch(r"timestamp\[(s|ms|us|ns)(, UTC)?\]", name)
    if stamp:
        return pa.timestamp(stamp[1], "UTC" if stamp[2] else None)
    if name.startswith("decimal("):
        return pa.decimal128(*map(int, name[8:-1].split(",")))
    return {"bool": pa.bool_(), "date32": pa.date32(), "string": pa.string()}.get(name) or getattr(pa, name)()


def arrow_value(value, kind):
    """A JSON value as what `pa.array` takes for the type: times as integers, since a datetime has no nanoseconds."""
    if value is None:
        return None
    if kind == pa.date32():
        return date.fromisoformat(value)
    if pa.types.is_timestamp(kind):
        whole, _, fraction = value.partition(".")
        passed = datetime.fromisoformat(whole) - EPOCH
        digits = DIGITS[kind.unit]
        return (passed.days * 86400 + passed.seconds) * 10**digits + int("0" + fraction[:digits].ljust(digits, "0"))
    if pa.types.is_decimal(kind):
        return Decimal(value)
    return float(value) if pa.types.is_floating(kind) else value


def arrow_table(side, time):
    """Facts or spine as a table. The column `time` becomes UTC if it has no zone and the case declares UTC."""
    columns = {}
    for i, (name, kind) in enumerate(side["columns"].items()):
        kind = arrow_type(kind)
        column = pa.array([arrow_value(row[i], kind) for row in side["rows"]], kind)
        if name == time and side.get("zone") == "UTC" and getattr(kind, "tz", None) is None:
            unit = "us" if kind == pa.date32() else kind.unit
            column = column.cast(pa.timestamp(unit)).cast(pa.timestamp(unit, "UTC"))
        columns[name] = column
    return pa.table(columns)


def zone_to_convert(side, table, time):
    """The zone the engine has to convert from, or None if the column holds instants already."""
    return None if getattr(table.schema.field(time).type, "tz", None) else side["zone"]


def stamp(count, unit):
    """An integer time as the text the cases are written in, without zeros at the end of the fraction."""
    seconds, rest = divmod(count, 10 ** DIGITS[unit])
    fraction = str(rest).zfill(DIGITS[unit]).rstrip("0") if rest else ""
    return (EPOCH + timedelta(seconds=seconds)).isoformat() + ("." + fraction if fraction else "")


def plain(column):
    """An Arrow column as JSON-like values."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_timestamp(column.type):
        unit = column.type.unit
        return [None if v is None else stamp(v, unit) for v in column.cast(pa.int64()).to_pylist()]
    if pa.types.is_decimal(column.type):
        whole = column.type.scale == 0
        return [None if v is None else int(v) if whole else str(v) for v in column.to_pylist()]
    return [v.isoformat() if isinstance(v, date) else v for v in column.to_pylist()]


def rows(columns):
    return [list(row) for row in zip(*map(plain, columns))]


def same(got, want, nan_is_null):
    if isinstance(want, list):
        return isinstance(got, list) and len(got) == len(want) and all(same(g, w, nan_is_null) for g, w in zip(got, want))
    want = float(want) if want in ("NaN", "inf", "-inf") else want
    missing = lambda v: v is None or (nan_is_null and isinstance(v, float) and math.isnan(v))
    if missing(got) or missing(want):
        return missing(got) and missing(want)
    if isinstance(got, str) or isinstance(want, str):
        return got == want
    if isinstance(got, float) and isinstance(want, float):
        return (math.isnan(got) and math.isnan(want)) or (got == want and math.copysign(1, got) == math.copysign(1, want))
    return got == want


# --- a case, read --------------------------------------------------------------------------------------------------------


class Question:
    """A case with the parts that every engine needs. Refuses what none of them can say."""

    def __init__(self, case):
        facts, spine = case["facts"], case["spine"]
        if "identity" in facts:
            raise NotExpressible("identity")
        if "known_at" in facts:
            raise NotExpressible("known-at column")
        self.at, self.event = spine["at"], facts["event_time"]
        self.facts, self.spine = arrow_table(facts, self.event), arrow_table(spine, self.at)
        self.facts_zone = zone_to_convert(facts, self.facts, self.event)
        self.spine_zone = zone_to_convert(spine, self.spine, self.at)
        self.delay = micros(facts["delay"])
        self.ties = facts.get("tie_break", [])
        self.lookup, self.window = case.get("lookup"), case.get("window")
        body = self.lookup or self.window
        self.left, self.right = [s for s, _ in body["on"]], [f for _, f in body["on"]]
        self.inclusive = body.get("cutoff") == "inclusive"
        self.keys = [f"key{i}" for i in range(len(self.left))]
        if self.window and self.ties:
            raise NotExpressible("tie-break in a window")

    def aggregates(self):
        for span in self.window["spans"]:
            if "since" in span:
                raise NotExpressible("window since the last fact of a kind")
            if "facts" in span:
                raise NotExpressible("window of a number of facts")
            if "hop" in span or "hop_months" in span:
                raise NotExpressible("window that ends at a boundary of a clock")
            if "this" in span:
                raise NotExpressible("window from the start of a period")
            if span.get("zone", "UTC") != "UTC":
                raise NotExpressible("window of months by a zone's clock")
            for aggregate in span["aggregates"]:
                yield f"{span['months']}mo" if "months" in span else span["length"], aggregate


def condition(text, column):
    """A filter such as `payment = 2` on an engine's columns, which `column` returns by name."""
    name, sign, literal = re.fullmatch(r"(\w+) (=|<>|<=|>=|<|>) (.+)", text).groups()
    return COMPARE[sign](column(name), literal[1:-1] if literal[0] == "'" else json.loads(literal))


# --- DuckDB --------------------------------------------------------------------------------------------------------------


def run_duckdb(q):
    con = duckdb.connect(config={"threads": 1})
    con.execute("set timezone = 'UTC'")
    con.register("fact_rows", q.facts)
    con.register("spine_rows", q.spine.append_column("row", pa.array(range(len(q.spine)), pa.int64())))
    local = lambda name, zone: f"timezone('{zone}', \"{name}\"::timestamp)" if zone else f'"{name}"'
    known = local(q.event, q.facts_zone) + (f" + to_microseconds({q.delay})" if q.delay else "")
    facts_keys = ", ".join(f'"{name}" as {key}' for name, key in zip(q.right, q.keys))
    spine_keys = ", ".join(f'"{name}" as {key}' for name, key in zip(q.left, q.keys))
    facts = f"(select {facts_keys}, {known} as ts, {local(q.event, q.facts_zone)} as event, * from fact_rows)"
    spine = f'(select {spine_keys}, {local(q.at, q.spine_zone)} as ts, "row" from spine_rows)'
    sql = duckdb_lookup(q, facts, spine) if q.lookup else duckdb_window(q, facts, spine)
    return rows(con.execute(sql).to_arrow_table().columns)


def duckdb_lookup(q, facts, spine):
    if q.ties:
        raise NotExpressible("tie-break")
    columns = [f'f."{name}"' for name in q.lookup["columns"]]
    if "max_age" in q.lookup:
        age = micros(q.lookup["max_age"])
        columns = [f"case when f.event >= s.ts - to_microseconds({age}) then {c} end" for c in columns]
    on = " and ".join([f"s.{k} = f.{k}" for k in q.keys] + ["s.ts >= f.ts" if q.inclusive else "s.ts > f.ts"])
    columns = ", ".join(f"{c} as c{i}" for i, c in enumerate(columns))
    return f'select {columns} from {spine} s asof left join {facts} f on {on} order by s."row"'


def duckdb_window(q, facts, spine):
    selected = []
    for i, (length, a) in enumerate(q.aggregates()):
        op, v = a["op"], f'"{a.get("column")}"'
        interval = f"{length[:-2]} month" if length and length.endswith("mo") else length and f"{micros(length)} microsecond"
        start = f"interval {interval} preceding" if length else "unbounded preceding"
        end = "current row" if q.inclusive else "interval 1 microsecond preceding"
        frame = f"over (partition by {', '.join(q.keys)} order by ts range between {start} and {end})"
        passes = f'"row" is null and {a["filter"]}' if "filter" in a else '"row" is null'
        kept = f"filter (where {passes} and {v} is not null)" if "column" in a else f"filter (where {passes})"
        name = {"mean": "avg", "variance": "var_samp", "stddev": "stddev_samp"}.get(op, op)
        if op == "count":
            value = f"count(*) {kept} {frame}"
        elif op == "count_distinct":
            value = f"count(distinct {v}) {kept} {frame}"
        elif op in ("first", "last"):
            value = f"{op}_value(case when {passes} then {v} end ignore nulls) {frame}"
        elif op == "first_k":
            value = f"list_slice(list({v}) {kept} {frame}, 1, {a['k']})"
        elif op == "last_k":
            value = f"list_slice(list({v}) {kept} {frame}, -{a['k']}, -1)"
        elif op == "top_k":
            value = f"approx_top_k({v}, {a['k']}) {kept} {frame}"
        elif op in ("max_by", "min_by"):
            value = f"{op}({v}, \"{a['by']}\") {kept} {frame}"
        elif op == "slope":
            value = f"regr_slope({v}, epoch(event)) {kept} {frame}"
        elif op == "top_share":
            value = f"list_max(map_values(histogram({v}) {kept} {frame})) / count({v}) {kept} {frame}"
        elif op == "quantile":
            value = f"quantile_cont({v}, {a['q']}) {kept} {frame}"
        else:
            value = f"{name}({v}) {kept} {frame}"
        selected.append(f"{value} as c{i}")
    names = ", ".join(f"c{i}" for i in range(len(selected)))
    union = f"(select * from {facts} union all by name select * from {spine})"
    return f'select {names} from (select "row", {", ".join(selected)} from {union}) where "row" is not null order by "row"'


# --- Polars --------------------------------------------------------------------------------------------------------------


def run_polars(q):
    def side(table, keys, time, zone, delay, prefix):
        ts = pl.col(time)
        if zone:
            ts = ts.cast(pl.Datetime("us")) if table.schema.field(time).type == pa.date32() else ts
            ts = ts.dt.replace_time_zone(zone).dt.convert_time_zone("UTC")
        ts = (ts + timedelta(microseconds=delay) if delay else ts).alias("ts")
        named = [pl.col(name).alias(key) for name, key in zip(keys, q.keys)]
        return pl.from_arrow(table).select(*named, ts, *[pl.col(c).alias(prefix + c) for c in table.column_names])

    facts = side(q.facts, q.right, q.event, q.facts_zone, q.delay, "f_")
    spine = side(q.spine, q.left, q.at, q.spine_zone, 0, "s_").with_row_index("row")
    answer = polars_lookup(q, facts, spine) if q.lookup else polars_window(q, facts, spine)
    return rows(answer.to_arrow().columns)


def polars_lookup(q, facts, spine):
    tolerance = {"tolerance": q.lookup["max_age"]} if "max_age" in q.lookup else {}
    found = spine.sort("ts").join_asof(facts.sort("ts", *[f"f_{t}" for t in q.ties]), on="ts", by=q.keys, strategy="backward",
                                       allow_exact_matches=q.inclusive, **tolerance)
    return found.sort("row").select(f"f_{name}" for name in q.lookup["columns"])


def polars_window(q, facts, spine):
    union = pl.concat([facts.with_columns(is_fact=True), spine.with_columns(is_fact=False)], how="diagonal").sort("ts")
    closed, answers = "both" if q.inclusive else "left", []
    for i, (length, a) in enumerate(q.aggregates()):
        if length is None:
            raise NotExpressible("window without a length")
        passes = pl.col("is_fact")
        if "filter" in a:
            passes = passes & condition(a["filter"], lambda name: pl.col(f"f_{name}"))
        op, v = a["op"], pl.when(passes).then(pl.col(f"f_{a['column']}")) if "column" in a else None
        seconds = lambda: (pl.col("ts").dt.epoch("us") / 1e6).filter(v.is_not_null())
        by = lambda: pl.col(f"f_{a['by']}").filter(v.is_not_null())
        of = {"count_distinct": lambda e: e.n_unique(), "approx_count_distinct": lambda e: e.approx_n_unique(),
              "first": lambda e: e.first(), "last": lambda e: e.last(),
              "first_k": lambda e: e.head(a["k"]), "last_k": lambda e: e.tail(a["k"]),
              "max_by": lambda e: e.max_by(by()), "min_by": lambda e: e.min_by(by()),
              "mode": lambda e: e.mode().min(), "top_k": lambda e: e.value_counts(sort=True).struct[0].head(a["k"]),
              "top_share": lambda e: e.unique_counts().max() / e.len(),
              "entropy": lambda e: e.unique_counts().entropy(base=2),
              "slope": lambda e: pl.cov(e, seconds()) / seconds().var()}
        if op in of:
            rolled = union.rolling("ts", period=length, closed=closed, group_by=q.keys).agg(of[op](v.drop_nulls()).alias(f"c{i}"))
            union = union.join(rolled.unique([*q.keys, "ts"]), on=[*q.keys, "ts"], how="left", nulls_equal=True).sort("ts")
        else:
            if op == "count":
                v, op = (v.is_not_null() if v is not None else passes).fill_null(False).cast(pl.Int64), "sum"
            name = {"variance": "var", "stddev": "std"}.get(op, op)
            extra = {"quantile": a["q"], "interpolation": "linear"} if op == "quantile" else {}
            rolled = getattr(v, f"rolling_{name}_by")("ts", window_size=length, closed=closed, **extra).over(q.keys)
            union = union.with_columns(rolled.alias(f"c{i}"))
        answers.append(pl.col(f"c{i}").fill_null(0) if "count" in a["op"] else pl.col(f"c{i}"))
    return union.filter(~pl.col("is_fact")).sort("row").select(answers)


# --- pandas --------------------------------------------------------------------------------------------------------------


def run_pandas(q):
    def side(table, keys, time, zone, delay, prefix):
        frame = table.to_pandas()
        ts = frame[time]
        if zone:
            ts = pd.to_datetime(ts).dt.tz_localize(zone).dt.tz_convert("UTC")
        named = pd.DataFrame({key: frame[name] for name, key in zip(keys, q.keys)})
        return pd.concat([named, (ts + pd.Timedelta(microseconds=delay) if delay else ts).rename("ts"), frame.add_prefix(prefix)], axis=1)

    facts = side(q.facts, q.right, q.event, q.facts_zone, q.delay, "f_")
    spine = side(q.spine, q.left, q.at, q.spine_zone, 0, "s_").assign(row=range(len(q.spine)))
    answer = pandas_lookup(q, facts, spine) if q.lookup else pandas_window(q, facts, spine)
    return rows([pa.Array.from_pandas(answer[name]) for name in answer.columns])


def pandas_lookup(q, facts, spine):
    tolerance = {"tolerance": pd.Timedelta(microseconds=micros(q.lookup["max_age"]))} if "max_age" in q.lookup else {}
    found = pd.merge_asof(spine.sort_values("ts"), facts.sort_values(["ts", *[f"f_{t}" for t in q.ties]]), on="ts", by=q.keys,
                          allow_exact_matches=q.inclusive, **tolerance)
    return found.sort_values("row")[[f"f_{name}" for name in q.lookup["columns"]]]


def pandas_window(q, facts, spine):
    union = pd.concat([facts.assign(is_fact=True), spine.assign(is_fact=False)]).sort_values([*q.keys, "ts"]).reset_index(drop=True)
    grouped = union[q.keys].dropna().index  # groupby drops NULL keys, and gives its groups in the order of the keys
    closed, answer = "both" if q.inclusive else "left", pd.DataFrame({"row": union["row"]})
    for i, (length, a) in enumerate(q.aggregates()):
        op = a["op"]
        if length is None:
            raise NotExpressible("window without a length")
        if length.endswith("mo"):
            raise NotExpressible("window of months")
        name = {"variance": "var", "stddev": "std", "count_distinct": "nunique"}.get(op, op)
        if not hasattr(pd.api.typing.RollingGroupby, name):
            raise NotExpressible(f"{op} over a window")
        passes = union["is_fact"]
        if "filter" in a:
            passes = passes & condition(a["filter"], lambda name: union[f"f_{name}"])
        v = (union[f"f_{a['column']}"] if "column" in a else passes.astype("float64")).where(passes)
        rolling = union.assign(v=v).groupby(q.keys).rolling(pd.Timedelta(microseconds=micros(length)), on="ts", closed=closed)["v"]
        rolled = getattr(rolling, name)(*([a["q"]] if op == "quantile" else []))
        answer[f"c{i}"] = pd.Series(rolled.to_numpy(), index=grouped)
        if op.startswith("count"):
            answer[f"c{i}"] = answer[f"c{i}"].fillna(0)
    return answer[~union["is_fact"]].sort_values("row").drop(columns="row")


# --- the matrix ----------------------------------------------------------------------------------------------------------


def first_words(error):
    """Enough of a message to tell it from others, without the times and types of the one case."""
    text = re.sub(r"'?\d{4}-\d\d-\d\d[ T][\d:.]+'?", "(time)", str(error))
    text = re.sub(r"datetime(64)?\[[^]]*\]", r"datetime\1", text)
    return f"{type(error).__name__}: " + " ".join(text.split()[:7]).rstrip(",.")


def outcome(case, run, nan_is_null):
    """(outcome, detail): what was answered, the first words of the refusal, or what is not expressible."""
    try:
        got = run(Question(case))
    except NotExpressible as missing:
        return "not expressible", str(missing)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of Polars is no Exception
        return "refused", first_words(error)
    return ("same" if same(got, case["expected"], nan_is_null) else "differs"), got


def differing(got, want, nan_is_null):
    """The rows that differ, numbered from 1: the rule's, then the engine's."""
    show = lambda v: re.sub('"(NaN|-?inf)"', r"\1", json.dumps(v, ensure_ascii=False, default=str).replace("Infinity", "inf"))
    if len(got) != len(want):
        return f"{len(want)} rows by the rule, {len(got)} answered"
    pairs = [(i, w, g) for i, (w, g) in enumerate(zip(want, got), 1) if not same(g, w, nan_is_null)]
    return "; ".join(f"row {i}: rule `{show(w)}`, answered `{show(g)}`" for i, w, g in pairs)


def counted(title, head, counter):
    print(f"\n## {title}\n\n| engine | {head} | cases |\n|---|---|---|")
    for (engine, text), number in sorted(counter.items(), key=lambda e: (list(ENGINES).index(e[0][0]), -e[1], e[0][1])):
        print(f"| {engine} | {text.replace('|', '/')} | {number} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=os.path.dirname(os.path.abspath(__file__)), help="the folder of the JSON files")
    parser.add_argument("--theme", help="one theme only")
    parser.add_argument("--verbose", action="store_true", help="on stderr, every outcome as it comes")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")

    runs = {"DuckDB": run_duckdb, "Polars": run_polars, "pandas": run_pandas}
    table, lines, refused, missing = {}, [], collections.Counter(), collections.Counter()
    for path in sorted(glob.glob(os.path.join(options.cases, "*.json"))):
        with open(path) as file:
            content = json.load(file)
        theme = content["theme"]
        if options.theme not in (None, theme):
            continue
        table[theme] = {engine: collections.Counter() for engine in runs}
        for case in content["cases"]:
            for engine, run in runs.items():
                what, detail = outcome(case, run, engine == "pandas")
                table[theme][engine][what] += 1
                if what == "differs":
                    lines.append(f"- {theme}, *{case['name']}*, {engine}: {differing(detail, case['expected'], engine == 'pandas')}")
                elif what != "same":
                    (refused if what == "refused" else missing)[engine, detail] += 1
                if options.verbose:
                    print(theme, case["name"], engine, what, detail, sep=" | ", file=sys.stderr)

    versions = ", ".join(f"{engine} {module.__version__}" for engine, module in ENGINES.items())
    print(f"""# The conformance cases on other engines

Made by `python tests/conformance/peers.py > tests/conformance/MATRIX.md` with {versions}
(pyarrow {pa.__version__}, Python {sys.version.split()[0]}). The cases are the JSON files of this folder; the head of `peers.py` says how each is
written in each engine. Where a case differs, the engine follows another rule or another arithmetic, or leaves the answer
open: which of two facts of one instant it takes, for one, may depend on the order of the rows. An engine refuses more than
it must here, since columns are handed over as the case types them; a user may cast first.

Cells: same / differs / refused / not expressible.

| theme | cases | {" | ".join(runs)} |
|---|---|{"---|" * len(runs)}""")
    cell = lambda counts: " / ".join(str(counts[o]) for o in OUTCOMES)
    for theme, engines in table.items():
        print(f"| {theme} | {sum(engines['DuckDB'].values())} | {' | '.join(cell(c) for c in engines.values())} |")
    total = {engine: sum((t[engine] for t in table.values()), collections.Counter()) for engine in runs}
    print(f"| **all** | {sum(total['DuckDB'].values())} | {' | '.join(cell(c) for c in total.values())} |")
    print("\n## Cases that differ\n\n" + "\n".join(lines))
    counted("Refused, by the first words of the message", "message", refused)
    counted("Not expressible", "what is missing", missing)


if __name__ == "__main__":
    main()
