//! Random queries, each as one text for the library and one for plain DataFusion over tables that were cut by hand.
//! The texts differ only in where rows come from and in what their columns are called.

use std::fmt::Write;

use rand::{
    Rng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Float,
    Text,
    Time,
}

#[derive(Debug, Clone)]
pub(crate) struct Col {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// Rows that both sides have: `id` tells them apart.
#[derive(Debug, Clone)]
pub(crate) struct Rel {
    /// The table that was cut by hand.
    by_hand: String,
    ours: Ours,
    cols: Vec<Col>,
}

#[derive(Debug, Clone)]
enum Ours {
    /// Something to put behind `FROM`.
    Plain(String),
    /// `r` with joins behind it, and what each column is called there; `{}` is the alias of `r`.
    Joined { rest: String, names: Vec<(String, String)> },
}

impl Rel {
    pub(crate) fn plain(by_hand: &str, ours: &str, cols: Vec<Col>) -> Self {
        Self { by_hand: by_hand.into(), ours: Ours::Plain(ours.into()), cols }
    }

    /// The same rows under a name of ours: a view over all of them.
    pub(crate) fn view(&self) -> Self {
        let ours = if matches!(self.ours, Ours::Plain(_)) && self.by_hand != "tr" {
            self.by_hand.clone()
        } else {
            format!("{}_view", self.by_hand)
        };
        Self { ours: Ours::Plain(ours), ..self.clone() }
    }

    /// The query that makes the view; `None` of a table.
    pub(crate) fn makes_view(&self) -> Option<(String, String)> {
        let listed = |called: &dyn Fn(&str) -> String| {
            self.cols.iter().map(|col| format!("{} AS {}", called(&col.name), col.name)).collect::<Vec<_>>().join(", ")
        };
        let query = match &self.ours {
            Ours::Plain(_) if self.by_hand != "tr" => return None,
            Ours::Plain(ours) => format!("SELECT {} FROM {ours}", listed(&str::to_owned)),
            Ours::Joined { rest, names } => {
                let called = |name: &str| names.iter().find(|(known, _)| known == name).unwrap().1.replace("{}", "r");
                format!("SELECT {} FROM r{}", listed(&called), rest.replace("{}", "r"))
            }
        };
        Some((format!("{}_view", self.by_hand), query))
    }

    pub(crate) fn joined(by_hand: &str, rest: String, cols: Vec<Col>, names: Vec<(String, String)>) -> Self {
        Self { by_hand: by_hand.into(), ours: Ours::Joined { rest, names }, cols }
    }
}

/// A query in both texts.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) ours: String,
    pub(crate) by_hand: String,
    /// The columns that order the result.
    pub(crate) keys: Vec<usize>,
}

/// A relation in a query.
struct Use {
    alias: String,
    cols: Vec<Col>,
    /// Behind `FROM`.
    ours: String,
    by_hand: String,
    /// What our columns are called, where not by the alias.
    names: Option<Vec<(String, String)>>,
}

/// A select under construction: its items, and the ids that tell its rows apart.
struct Select {
    items: Vec<(String, Kind)>,
    tail: String,
}

pub(crate) struct Asking<'a> {
    rng: &'a mut StdRng,
    rels: &'a [Rel],
    uses: Vec<Use>,
}

const NO_COLUMN: [&str; 7] =
    ["1 = 1", "true", "2 > 1 OR NULL", "(SELECT count(*) FROM ‹d›) > 3", "EXISTS (SELECT 1 FROM ‹d›)", "1 = 0", "NULL"];

/// A random query over these relations.
pub(crate) fn query(rng: &mut StdRng, rels: &[Rel]) -> Query {
    let mut asking = Asking { rng, rels, uses: Vec::new() };
    let (text, keys) = asking.query();
    let side = |is_ours: bool| render(&text, &asking.uses, is_ours);
    Query { ours: side(true), by_hand: side(false), keys }
}

/// Fills in the places `‹alias›` and `‹alias.column›`.
fn render(text: &str, uses: &[Use], is_ours: bool) -> String {
    let mut rendered = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('‹') {
        rendered += before;
        let Some((mark, behind)) = after.split_once('›') else { break };
        rest = behind;
        let (alias, column) = mark.split_once('.').map_or((mark, None), |(alias, column)| (alias, Some(column)));
        match (uses.iter().find(|u| u.alias == alias), column) {
            (None, _) => rendered += mark,
            (Some(used), None) => rendered += if is_ours { &used.ours } else { &used.by_hand },
            (Some(used), Some(column)) => {
                let known = used.names.iter().filter(|_| is_ours).flatten().find(|(name, _)| name == column);
                match known {
                    Some((_, called)) => rendered += called,
                    None => write!(rendered, "{alias}.{column}").unwrap(),
                }
            }
        }
    }
    rendered + rest
}

impl Asking<'_> {
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        *of.choose(self.rng).unwrap()
    }

    fn chance(&mut self, p: f64) -> bool {
        self.rng.random_bool(p)
    }

    fn query(&mut self) -> (String, Vec<usize>) {
        match self.rng.random_range(0..12) {
            0..4 => {
                let select = self.rows();
                let distinct = if self.chance(0.2) { "DISTINCT " } else { "" };
                self.finish(distinct, select)
            }
            4..6 => {
                let select = self.windows();
                self.finish("", select)
            }
            6..9 => {
                let select = self.groups();
                self.finish("", select)
            }
            9 => self.union(),
            10 => self.common_table(),
            _ => self.nested(),
        }
    }

    /// The items, an order and a limit.
    fn finish(&mut self, distinct: &str, select: Select) -> (String, Vec<usize>) {
        let (order, keys) = self.order(select.items.len());
        (format!("SELECT {distinct}{} FROM {}{order}", items(&select.items), select.tail), keys)
    }

    /// `ORDER BY` some columns, or all of them with a limit: rows that are alike in all columns are alike.
    fn order(&mut self, columns: usize) -> (String, Vec<usize>) {
        let mut keys: Vec<usize> = (0..columns).collect();
        keys.shuffle(self.rng);
        let limited = self.chance(0.35);
        if !limited {
            keys.truncate(self.rng.random_range(0..=columns.min(3)));
        }
        if keys.is_empty() {
            return (String::new(), keys);
        }
        let listed: Vec<String> = keys
            .iter()
            .map(|key| format!("c{key}{}", self.one(&["", " DESC", " ASC NULLS FIRST", " DESC NULLS LAST"])))
            .collect();
        let mut text = format!(" ORDER BY {}", listed.join(", "));
        if limited {
            write!(text, " LIMIT {}", self.rng.random_range(0..25)).unwrap();
            if self.chance(0.4) {
                write!(text, " OFFSET {}", self.rng.random_range(0..20)).unwrap();
            }
        }
        (text, keys)
    }

    /// A relation, as one of several texts that mean the same.
    fn take(&mut self, may_be_bare: bool) -> usize {
        let rel = self.rels.choose(self.rng).unwrap().clone();
        self.take_of(rel, may_be_bare)
    }

    fn take_of(&mut self, rel: Rel, may_be_bare: bool) -> usize {
        let alias = format!("q{}", self.uses.len());
        let condition = self.one(&["k > 1", "v IS NOT NULL", "g LIKE 'a%'", "1 = 1", "id % 3 <> 0 AND k IS NOT NULL", "x < 4"]);
        let kept = match self.rng.random_range(0..7) {
            0 => format!("(SELECT * FROM ‹› WHERE {condition})"),
            1 => "(SELECT * FROM ‹› WHERE id % 2 = 1 UNION ALL SELECT * FROM ‹› WHERE id % 2 = 0)".into(),
            2 => "(SELECT * FROM ‹› ORDER BY g, at DESC, id LIMIT 25)".into(),
            3 => format!("(SELECT * FROM ‹› WHERE {condition} ORDER BY v DESC, at)"),
            _ => "‹›".to_owned(),
        };
        let by_hand = format!("{} AS {alias}", kept.replace("‹›", &rel.by_hand));
        let used = match rel.ours {
            Ours::Plain(ours) => {
                Use { ours: format!("{} AS {alias}", kept.replace("‹›", &ours)), by_hand, names: None, cols: rel.cols, alias }
            }
            Ours::Joined { rest, names } => {
                // What is asked of the spine is asked below the operator here, and above it by hand.
                let bare = may_be_bare && self.chance(0.6);
                let spine = if bare { alias.clone() } else { format!("{alias}s") };
                let joined = format!("{} AS {spine}{}", kept.replace("‹›", "r"), rest.replace("{}", &spine));
                let names: Vec<(String, String)> =
                    names.into_iter().map(|(n, called)| (n, called.replace("{}", &spine))).collect();
                match bare {
                    true => Use { ours: joined, by_hand, names: Some(names), cols: rel.cols, alias },
                    false => {
                        let listed: Vec<String> = names.iter().map(|(name, called)| format!("{called} AS {name}")).collect();
                        let ours = format!("(SELECT {} FROM {joined}) AS {alias}", listed.join(", "));
                        Use { ours, by_hand, names: None, cols: rel.cols, alias }
                    }
                }
            }
        };
        self.uses.push(used);
        self.uses.len() - 1
    }

    /// A column of a kind, or of any.
    fn column(&mut self, of: usize, kind: Option<Kind>) -> (String, Kind) {
        let used = &self.uses[of];
        let fit: Vec<&Col> = used.cols.iter().filter(|c| kind.is_none_or(|kind| c.kind == kind)).collect();
        let col = fit[self.rng.random_range(0..fit.len())];
        (format!("‹{}.{}›", used.alias, col.name), col.kind)
    }

    /// A value of a row.
    fn value(&mut self, from: &[usize]) -> (String, Kind) {
        let of = self.one(from);
        let (column, kind) = self.column(of, None);
        let text = match (kind, self.rng.random_range(0..8)) {
            (Kind::Int, 0) => format!("{column} + 1"),
            (Kind::Int, 1) => format!("coalesce({column}, -1)"),
            (Kind::Int | Kind::Float, 2) => format!("CASE WHEN {column} > 0 THEN {column} END"),
            (Kind::Text, 0) => format!("upper({column})"),
            (Kind::Float, 0) => format!("{column} * 2"),
            _ => column,
        };
        (text, kind)
    }

    fn condition(&mut self, from: &[usize], depth: usize) -> String {
        if depth > 0 && self.chance(0.4) {
            let (a, b) = (self.condition(from, depth - 1), self.condition(from, depth - 1));
            return match self.rng.random_range(0..3) {
                0 => format!("({a} AND {b})"),
                1 => format!("({a} OR {b})"),
                _ => format!("({a} AND NOT ({b}))"),
            };
        }
        if self.chance(0.1) {
            // Of those that keep no row there are few.
            let text = if self.chance(0.1) { self.one(&NO_COLUMN) } else { self.one(&NO_COLUMN[..5]) };
            return text.replace("‹d›", "d");
        }
        if depth > 0 && self.chance(0.08) {
            return self.about_others(from);
        }
        let of = self.one(from);
        self.plain_condition(of)
    }

    /// A condition on columns of one relation.
    fn plain_condition(&mut self, of: usize) -> String {
        let (column, kind) = self.column(of, None);
        let number = self.rng.random_range(-6..8);
        match kind {
            Kind::Int => {
                let other = self.column(of, Some(Kind::Int)).0;
                match self.rng.random_range(0..7) {
                    0 => format!("{column} = {number}"),
                    1 => format!("{column} IS NULL"),
                    2 => format!("{column} BETWEEN {number} AND {}", number + 5),
                    3 => format!("{column} IN (0, 2, {number})"),
                    4 => format!("{column} <= {other}"),
                    5 => format!("coalesce({column}, 0) % 3 <> 1"),
                    _ => format!("{column} > {number}"),
                }
            }
            Kind::Float => format!("{column} {} {number}.5", self.one(&["<", ">", ">=", "<>"])),
            Kind::Text => match self.rng.random_range(0..3) {
                0 => format!("{column} = 'a'"),
                1 => format!("{column} LIKE '%b'"),
                _ => format!("{column} IS NOT NULL"),
            },
            Kind::Time => {
                let day = self.rng.random_range(1..28);
                let at = format!(
                    "arrow_cast('2024-0{}-{day:02}T06:00:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))')",
                    self.rng.random_range(1..5)
                );
                match self.rng.random_range(0..4) {
                    0 => format!("{column} IS NOT NULL"),
                    1 => format!("{column} >= {at}"),
                    2 => format!("date_part('day', {column}) < {day}"),
                    _ => format!("{column} < {at}"),
                }
            }
        }
    }

    /// A condition that asks a query of its own, correlated as a rule.
    fn about_others(&mut self, from: &[usize]) -> String {
        let own = self.one(from);
        let key = self.column(own, Some(Kind::Int)).0;
        let of = self.take(false);
        let alias = self.uses[of].alias.clone();
        let inner = self.condition(&[of], 0);
        match self.rng.random_range(0..6) {
            0 => format!("EXISTS (SELECT 1 FROM ‹{alias}› WHERE ‹{alias}.k› = {key} AND {inner})"),
            1 => format!("NOT EXISTS (SELECT 1 FROM ‹{alias}› WHERE ‹{alias}.v› = {key} AND {inner})"),
            2 => format!("{key} IN (SELECT ‹{alias}.v› FROM ‹{alias}› WHERE {inner})"),
            3 => format!("{key} < (SELECT max(‹{alias}.v›) FROM ‹{alias}› WHERE ‹{alias}.k› = {key})"),
            4 => format!("(SELECT count(*) FROM ‹{alias}› WHERE ‹{alias}.k› = {key}) > 2"),
            _ => format!("{key} >= (SELECT min(‹{alias}.v›) FROM ‹{alias}› WHERE {inner})"),
        }
    }

    /// `FROM` and `WHERE`.
    fn from(&mut self) -> (Vec<usize>, String) {
        let first = self.take(true);
        let mut from = vec![first];
        // DataFusion 55 pushes a filter below an outer join whose sides it has swapped by the column's name alone, to the wrong
        // side when both have the name.
        let mut is_outer = false;
        let mut text = format!("‹{}›", self.uses[first].alias);
        if self.chance(0.2) {
            let second = self.take(false);
            let (a, b) = (self.uses[first].alias.clone(), self.uses[second].alias.clone());
            let on = self.one(&["k", "g", "id", "v"]);
            let more = if self.chance(0.3) { format!(" AND ‹{a}.id› >= ‹{b}.id›") } else { String::new() };
            let join = self.one(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "JOIN"]);
            // A full join on more than equalities multiplies rows.
            is_outer = join != "JOIN";
            let more = if join == "FULL JOIN" { String::new() } else { more };
            write!(text, " {join} ‹{b}› ON ‹{a}.{on}› = ‹{b}.{on}›{more}").unwrap();
            from.push(second);
        }
        if !is_outer && self.chance(0.7) {
            let condition = self.condition(&from, 2);
            write!(text, " WHERE {condition}").unwrap();
        }
        (from, text)
    }

    fn ids(&self, from: &[usize]) -> String {
        from.iter().map(|&u| format!("‹{}.id›", self.uses[u].alias)).collect::<Vec<_>>().join(", ")
    }

    fn rows(&mut self) -> Select {
        let (from, tail) = self.from();
        let items = (0..self.rng.random_range(1..5)).map(|_| self.value(&from)).collect();
        Select { items, tail }
    }

    fn windows(&mut self) -> Select {
        let (from, tail) = self.from();
        let mut items: Vec<(String, Kind)> = (0..2).map(|_| self.value(&from)).collect();
        for _ in 0..self.rng.random_range(1..3) {
            let of = self.one(&from);
            let ids = self.ids(&from);
            let (value, kind) = self.column(of, None);
            let by = self.value(&from).0;
            let parts = if self.chance(0.5) { format!("PARTITION BY {} ", self.value(&from).0) } else { String::new() };
            let by = apart(by, &ids);
            let over = format!("OVER ({parts}ORDER BY {by}{}, {ids}", self.one(&["", " DESC"]));
            let number = self.column(of, Some(Kind::Int)).0;
            items.push(match self.rng.random_range(0..7) {
                0 => (format!("row_number() {over})"), Kind::Int),
                1 => (format!("sum({number}) {over})"), Kind::Int),
                2 => (format!("sum({number}) {over} ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING)"), Kind::Int),
                3 => (format!("lag({value}) {over})"), kind),
                4 => (format!("lead({value}, 2) {over})"), kind),
                5 => (format!("first_value({value}) {over})"), kind),
                _ => (format!("count({value}) OVER ({parts})"), Kind::Int),
            });
        }
        Select { items, tail }
    }

    fn groups(&mut self) -> Select {
        let (from, mut tail) = self.from();
        let keys: Vec<(String, Kind)> = (0..self.rng.random_range(0..3)).map(|_| self.value(&from)).collect();
        let mut items = keys.clone();
        let is_free = from.len() == 1 && !tail.contains(".id› =");
        let mut having = String::new();
        for _ in 0..self.rng.random_range(1..4) {
            let of = self.one(&from);
            let ids = self.ids(&from);
            let (value, kind) = self.column(of, None);
            let number = self.column(of, Some(Kind::Int)).0;
            let by = self.value(&from).0;
            let by = apart(by, &ids);
            let aggregate = match self.rng.random_range(0..9) {
                0 => ("count(*)".to_owned(), Kind::Int),
                1 => (format!("sum({number})"), Kind::Int),
                2 => (format!("min({value})"), kind),
                3 => (format!("max({value})"), kind),
                4 => (format!("count(DISTINCT {value})"), Kind::Int),
                5 => (format!("array_agg({value} ORDER BY {by}, {ids})"), Kind::Text),
                // DataFusion stops when a column orders these that can be told to be constant, or to equal another.
                6 if is_free => (format!("first_value({value} ORDER BY {ids} DESC)"), kind),
                7 if is_free => (format!("last_value({value} ORDER BY {ids})"), kind),
                _ => (format!("avg({number}) FILTER (WHERE {})", self.plain_condition(of)), Kind::Float),
            };
            items.push(aggregate);
            if having.is_empty() && self.chance(0.3) {
                having = format!(" HAVING count({value}) {} 3", self.one(&["<", ">", "<>"]));
            }
        }
        if !keys.is_empty() {
            let listed: Vec<&str> = keys.iter().map(|(key, _)| key.as_str()).collect();
            write!(tail, " GROUP BY {}", listed.join(", ")).unwrap();
        }
        Select { items, tail: tail + &having }
    }

    /// Rows of two selects of the same kinds.
    fn union(&mut self) -> (String, Vec<usize>) {
        // Each kind once: DataFusion loses the order of a union in which a column is there twice.
        let mut kinds = vec![Kind::Int, Kind::Text, Kind::Time, Kind::Float];
        kinds.shuffle(self.rng);
        kinds.truncate(self.rng.random_range(1..4));
        let arms: Vec<String> = (0..self.rng.random_range(2..4))
            .map(|_| {
                let (from, tail) = self.from();
                let columns: Vec<(String, Kind)> = kinds.iter().map(|kind| self.column(from[0], Some(*kind))).collect();
                format!("SELECT {} FROM {tail}", items(&columns))
            })
            .collect();
        let word = self.one(&[" UNION ALL ", " UNION "]);
        let (order, keys) = self.order(kinds.len());
        (arms.join(word) + &order, keys)
    }

    fn common_table(&mut self) -> (String, Vec<usize>) {
        let (from, tail) = self.from();
        let columns: Vec<(String, Kind)> =
            [Kind::Int, Kind::Int, Kind::Text].into_iter().map(|kind| self.column(from[0], Some(kind))).collect();
        let join = self.one(&["JOIN", "LEFT JOIN"]);
        let (order, keys) = self.order(3);
        let text = format!(
            "WITH t AS (SELECT {} FROM {tail}) SELECT a.c0 AS c0, b.c1 AS c1, count(*) AS c2 \
             FROM t AS a {join} t AS b ON a.c0 = b.c1 AND a.c2 = b.c2 GROUP BY a.c0, b.c1{order}",
            items(&columns)
        );
        (text, keys)
    }

    /// A query over a query that is sorted and limited.
    fn nested(&mut self) -> (String, Vec<usize>) {
        let select = if self.chance(0.5) { self.rows() } else { self.windows() };
        let kinds: Vec<Kind> = select.items.iter().map(|(_, kind)| *kind).collect();
        let (inner, _) = self.finish("", select);
        let (order, keys) = self.order(2);
        let filter = match self.rng.random_range(0..3) {
            0 => " WHERE i.c0 IS NOT NULL",
            1 if kinds[0] == Kind::Int => " WHERE i.c0 > 0",
            _ => "",
        };
        let last = kinds.len() - 1;
        (format!("SELECT i.c0 AS c0, max(i.c{last}) AS c1 FROM ({inner}) AS i{filter} GROUP BY i.c0{order}"), keys)
    }
}

/// DataFusion's ordered aggregates stop when a column orders twice.
fn apart(by: String, ids: &str) -> String {
    ids.split(", ").find(|id| by.contains(id)).map_or(by.clone(), |id| format!("-{id}"))
}

fn items(items: &[(String, Kind)]) -> String {
    items.iter().enumerate().map(|(i, (text, _))| format!("{text} AS c{i}")).collect::<Vec<_>>().join(", ")
}
