//! Finds the files that a table has now, reads their footers, and derives the table's columns from them.
//! Only footers are read, never rows. A file that has not changed since it was registered is not read again.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use futures::future::try_join_all;
use object_store::ObjectMeta;

use super::{
    Column, FileEntry, HiveType, TableVersion,
    details::DeclaredColumn,
    footer::file_facts,
    hive::{FileKind, inferred_type, partition_values, typed_value},
};
use crate::{
    error::{Error, Result},
    storage::{Inspected, Location, inspect},
};

/// A file of a table, with its path and partition.
struct FoundFile {
    path: String,
    object: ObjectMeta,
    partition: Vec<Option<String>>,
}

/// The next version of a table: its files as they are now.
///
/// # Errors
/// [`Error::UnreadableFile`] for a file that is not Parquet, [`Error::ColumnType`] and [`Error::UnknownColumn`] for one that
/// does not fit the table, [`Error::Definition`] for one in a folder where the table has no files.
pub(crate) async fn survey(place: &Location, base: &TableVersion) -> Result<TableVersion> {
    // Partitions with folders of their own, the innermost first.
    let mut placed: Vec<(&str, &Vec<Option<String>>)> =
        base.details.partitions.iter().filter_map(|p| Some((p.folder.as_deref()?, &p.values))).collect();
    placed.sort_by_key(|(folder, _)| std::cmp::Reverse(folder.len()));
    let elsewhere = placed.iter().map(|(folder, _)| *folder).filter(|folder| folder.starts_with('/'));
    let places: Vec<Location> = std::iter::once(place.clone()).chain(elsewhere.map(|folder| place.child(folder))).collect();
    let listed = try_join_all(places.iter().map(Location::list)).await?;

    let mut next = base.clone();
    let mut files = Vec::new();
    for object in listed.into_iter().flatten() {
        let path = place.name_of(&object.location);
        let own = placed.iter().find(|(folder, _)| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')));
        let inside = own.map_or(path.as_str(), |(folder, _)| &path[folder.len() + 1..]);
        if !is_parquet(base, inside, &path, object.size)? {
            continue;
        }
        files.push((own.map(|(_, values)| (*values).clone()), path, object));
    }
    files.sort_by(|a, b| a.1.cmp(&b.1));
    files.dedup_by(|a, b| a.1 == b.1);

    let is_unknown = base.files.is_empty() && base.details.columns.is_empty() && base.partition_columns.is_empty();
    if let (true, Some((None, first, _))) = (is_unknown, files.iter().find(|(own, ..)| own.is_none())) {
        let nothing_yet = |(name, _)| Column { name, data_type: String::new(), nullable: true };
        next.partition_columns = partition_values(first).into_iter().map(nothing_yet).collect();
    }
    let mut found = Vec::with_capacity(files.len());
    for (own, path, object) in files {
        let partition = match own {
            Some(values) => values,
            None => values_of(&next, &path)?,
        };
        found.push(FoundFile { path, object, partition });
    }
    type_partitions(&mut next, &found)?;
    // Partitions with folders of their own stay; others exist as long as there are files in their folders.
    next.details.partitions.retain(|placed| placed.folder.is_some());
    take_in(place, base, next, found, Others::Gone).await
}

/// The next version of a table: with the files of one more folder, all of which have these partition values.
///
/// # Errors
/// As [`survey`].
pub(crate) async fn survey_folder(
    place: &Location,
    base: &TableVersion,
    folder: &str,
    values: &[Option<String>],
) -> Result<TableVersion> {
    let mut found = Vec::new();
    for object in place.child(folder).list().await? {
        let path = place.name_of(&object.location);
        let inside = path.strip_prefix(folder).map_or(path.as_str(), |rest| rest.trim_start_matches('/'));
        if is_parquet(base, inside, &path, object.size)? {
            found.push(FoundFile { path, object, partition: values.to_vec() });
        }
    }
    let mut next = base.clone();
    type_partitions(&mut next, &found)?;
    take_in(place, base, next, found, Others::Stay).await
}

fn is_parquet(table: &TableVersion, inside: &str, path: &str, size: u64) -> Result<bool> {
    match FileKind::of(inside, size) {
        FileKind::Parquet => Ok(true),
        FileKind::Other => Ok(false),
        FileKind::PartitionThatIsAFile => Err(Error::Definition {
            subject: format!("table `{}`", table.table),
            reason: format!("`{path}` is a file, and a partition is a folder of files; move it into a folder, or remove it"),
        }),
    }
}

/// The partition values of a file, by its path.
fn values_of(table: &TableVersion, path: &str) -> Result<Vec<Option<String>>> {
    let values = partition_values(path);
    let columns = || table.partition_columns.iter().map(|column| &column.name);
    if values.iter().map(|(name, _)| name).eq(columns()) {
        return Ok(values.into_iter().map(|(_, value)| value).collect());
    }
    let listed = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    Err(Error::Definition {
        subject: format!("table `{}`", table.table),
        reason: format!(
            "file `{path}` is not partitioned by ({}) as the table is, but by ({}); move it, or register it as another table",
            listed(columns().collect()),
            listed(values.iter().map(|(name, _)| name).collect()),
        ),
    })
}

/// Infers the types of partition columns that have none yet, and checks the values of those that have one.
fn type_partitions(next: &mut TableVersion, found: &[FoundFile]) -> Result<()> {
    for (i, column) in next.partition_columns.iter_mut().enumerate() {
        if column.data_type.is_empty() {
            let values = found.iter().filter_map(|file| file.partition[i].as_deref());
            *column = Column::from_field(&Field::new(&column.name, inferred_type(values), true));
            continue;
        }
        let field = column.to_field()?;
        let mut fits = HashMap::new();
        for file in found {
            let value = file.partition[i].as_deref();
            if !*fits.entry(value).or_insert_with(|| typed_value(value, field.data_type()).is_some()) {
                return Err(Error::ColumnType {
                    subject: format!("file `{}`", file.path),
                    column: column.name.clone(),
                    found: format!("`{}`", value.unwrap_or_default()),
                    needed: format!(
                        "partitions of table `{}` hold {}; rename the folder, or remove it",
                        next.table, column.data_type
                    ),
                });
            }
        }
    }
    Ok(())
}

/// What happens to the files of a version that were not found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    Gone,
    Stay,
}

async fn take_in(
    place: &Location,
    base: &TableVersion,
    mut next: TableVersion,
    found: Vec<FoundFile>,
    others: Others,
) -> Result<TableVersion> {
    let known: HashMap<&str, &FileEntry> = base.files.iter().map(|file| (file.path.as_str(), file)).collect();
    let mut files = Vec::with_capacity(found.len());
    let mut unread = Vec::new();
    let objects: Vec<ObjectMeta> = found.iter().map(|file| file.object.clone()).collect();
    let tags = place.tags(&objects).await?;
    for (file, tag) in found.into_iter().zip(tags) {
        let same = |entry: &&&FileEntry| {
            entry.identity.size == file.object.size && entry.identity.e_tag.is_some() && entry.identity.e_tag == tag
        };
        match known.get(file.path.as_str()).filter(same) {
            Some(entry) => files.push(FileEntry { partition: file.partition, ..(*entry).clone() }),
            None => unread.push(file),
        }
    }
    if others == Others::Stay {
        let taken: std::collections::HashSet<&str> =
            files.iter().map(|file| file.path.as_str()).chain(unread.iter().map(|file| file.path.as_str())).collect();
        let rest: Vec<_> = base.files.iter().filter(|file| !taken.contains(file.path.as_str())).cloned().collect();
        files.extend(rest);
    }
    let read = inspect(place, unread.iter().map(|file| file.object.clone()).collect()).await?;
    let schemas: Vec<(&str, &Schema)> =
        unread.iter().zip(&read).map(|(file, read)| (file.path.as_str(), read.footer.schema().as_ref())).collect();
    let kept = if files.is_empty() { Kept::None } else { Kept::Some };
    next.columns = match base.details.columns.is_empty() {
        true => inferred_columns(base, kept, &schemas)?,
        false => declared_columns(base, &mut next.details.columns, kept, &schemas)?,
    };
    for (file, Inspected { footer, identity }) in unread.into_iter().zip(read) {
        let facts = file_facts(&place.child(&file.path).to_string(), &footer, &next.declared)?;
        let FoundFile { path, partition, .. } = file;
        files.push(FileEntry {
            path,
            identity,
            rows: facts.rows,
            partition,
            event: facts.event,
            known: facts.known,
            loads: Vec::new(),
            full_at: None,
        });
    }
    if !(next.columns.is_empty() && files.is_empty()) {
        next.declared.check(&format!("table `{}`", next.table), Column::schema(&next.columns)?.as_ref())?;
    }
    if let Some(both) = next.partition_columns.iter().find(|own| next.columns.iter().any(|column| column.name == own.name)) {
        let reason =
            format!("`{}` is a partition column and a column of the files too; a column must come from one of them", both.name);
        return Err(Error::Definition { subject: format!("table `{}`", next.table), reason });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    next.files = files;
    Ok(next)
}

/// Are there unchanged files, whose columns the table must keep?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Some,
    None,
}

/// The columns of all files together; columns that some files lack are nullable.
fn inferred_columns(base: &TableVersion, kept: Kept, schemas: &[(&str, &Schema)]) -> Result<Vec<Column>> {
    let mut schema = match kept {
        Kept::Some => base.file_schema()?.as_ref().clone(),
        Kept::None if schemas.is_empty() => return Ok(base.columns.clone()),
        Kept::None => Schema::empty(),
    };
    for (path, found) in schemas {
        if schema == **found {
            continue;
        }
        schema = unify(&format!("file `{path}`"), &schema, found)?;
    }
    Ok(schema.fields().iter().map(|field| Column::from_field(field)).collect())
}

/// The declared columns with the names and Arrow types that they have in the files.
fn declared_columns(
    base: &TableVersion,
    declared: &mut [DeclaredColumn],
    kept: Kept,
    schemas: &[(&str, &Schema)],
) -> Result<Vec<Column>> {
    let as_bigint = base.details.timestamps_as_bigint();
    let mut columns = Vec::with_capacity(declared.len());
    for (i, own) in declared.iter_mut().enumerate() {
        let hive_type = own.hive_type()?;
        let known = base.columns.get(i).filter(|_| kept == Kept::Some && own.is_found).map(Column::to_field).transpose()?;
        // A column that no file has had so far is missing in the unchanged files.
        let mut nullable = kept == Kept::Some && known.is_none();
        let mut resolved = known;
        for (path, schema) in schemas {
            let subject = || format!("file `{path}`");
            let Some(field) = column_of(schema, &own.name, &subject())? else {
                nullable = true;
                continue;
            };
            let mismatch = |needed: String| Error::ColumnType {
                subject: subject(),
                column: field.name().clone(),
                found: field.data_type().to_string(),
                needed,
            };
            let is_hidden_timestamp =
                as_bigint && hive_type == HiveType::BigInt && matches!(field.data_type(), DataType::Timestamp(..));
            if !hive_type.accepts(field.data_type()) && !is_hidden_timestamp {
                return Err(mismatch(format!("it is declared as {hive_type}; declare what the file holds, or rewrite the file")));
            }
            resolved = Some(match resolved {
                None => field.clone(),
                Some(known) if known.name() != field.name() => {
                    return Err(Error::Definition {
                        subject: format!("table `{}`", base.table),
                        reason: format!(
                            "{} spells a column `{}` that other files spell `{}`; files of one table must agree",
                            subject(),
                            field.name(),
                            known.name()
                        ),
                    });
                }
                Some(known) if known.data_type() != field.data_type() => {
                    return Err(mismatch(format!("other files hold {}; files of one table must agree", known.data_type())));
                }
                Some(known) => {
                    let nullable = known.is_nullable() || field.is_nullable();
                    known.with_nullable(nullable)
                }
            });
        }
        own.is_found = resolved.is_some();
        let field = resolved.unwrap_or_else(|| Field::new(&own.name, unfound_type(&hive_type, base), true));
        columns.push(Column { nullable: nullable || field.is_nullable(), ..Column::from_field(&field) });
    }
    Ok(columns)
}

/// The type of a column that no file has yet. Times are instants unless the table declares a zone.
fn unfound_type(hive_type: &HiveType, table: &TableVersion) -> DataType {
    match hive_type {
        HiveType::Timestamp if table.declared.zone.is_none() => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        other => other.to_arrow(),
    }
}

/// The column of a file for a declared name: the one of exactly this name, else the only one that differs in case alone.
fn column_of<'a>(schema: &'a Schema, name: &str, subject: &str) -> Result<Option<&'a Field>> {
    if let Some((_, field)) = schema.column_with_name(name) {
        return Ok(Some(field));
    }
    let lower = name.to_lowercase();
    let mut alike = schema.fields().iter().filter(|field| field.name().to_lowercase() == lower);
    match (alike.next(), alike.next()) {
        (Some(a), Some(b)) => Err(Error::Definition {
            subject: format!("column `{name}`"),
            reason: format!("{subject} has `{}` and `{}`; write the one you mean in backquotes", a.name(), b.name()),
        }),
        (found, _) => Ok(found.map(AsRef::as_ref)),
    }
}

/// The columns of both schemas, those of `a` first; a column that one of them lacks is nullable.
fn unify(subject: &str, a: &Schema, b: &Schema) -> Result<Schema> {
    let mut fields: Vec<Field> = Vec::new();
    for field in a.fields() {
        let nullable = field.is_nullable() || b.column_with_name(field.name()).is_none_or(|(_, other)| other.is_nullable());
        fields.push(field.as_ref().clone().with_nullable(nullable));
    }
    for field in b.fields() {
        match a.column_with_name(field.name()) {
            None => {
                let nullable = field.is_nullable() || !a.fields().is_empty();
                fields.push(Field::new(field.name(), field.data_type().clone(), nullable));
            }
            Some((_, known)) if known.data_type() == field.data_type() => {}
            Some((_, known)) => {
                return Err(Error::ColumnType {
                    subject: subject.into(),
                    column: field.name().clone(),
                    found: field.data_type().to_string(),
                    needed: format!("files before it hold {}; files of one table must agree", known.data_type()),
                });
            }
        }
    }
    Ok(Schema::new(fields))
}
