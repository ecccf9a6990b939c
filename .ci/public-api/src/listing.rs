//! Every public item of a crate, one per line, read from its sources: what can be named from outside, through which path.
//! Nothing is compiled. Types are printed as the sources write them, and an item behind a flag is printed with its `cfg`. What a
//! macro of the crate makes is not expanded: its invocation is printed, if it names a public item.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use quote::ToTokens;
use syn::{Attribute, ImplItem, Item, ItemImpl, TraitItem, Type, UseTree, Visibility};

use crate::text::{inner, marks, signature, spaced, text, variant_fields};

/// The listing of the crate whose root is this file.
pub(crate) fn listing(root: &Path, name: &str) -> String {
    let mut sources = Sources::default();
    sources.load("", &Cfgs::new(), &root.with_file_name(""), syn::parse_file(&fs::read_to_string(root).unwrap()).unwrap().items);
    let mut surface = Surface { sources: &sources, exposed: BTreeMap::new(), lines: BTreeSet::new() };
    surface.walk("", name, &Cfgs::new());
    surface.print_items();
    surface.print_impls();
    surface.lines.into_iter().map(|(_, _, text)| text + "\n").collect()
}

type Cfgs = BTreeSet<String>;

/// The modules of the crate by their paths (`a::b`; the root's is empty), without tests.
#[derive(Default)]
struct Sources(BTreeMap<String, (Cfgs, Vec<Item>)>);

/// What a path means.
#[derive(Clone, PartialEq)]
enum Target {
    Module(String),
    /// An item by its module and name.
    Item(String, String),
    /// A path into another crate.
    External(String),
}

/// The name that a `use` declaration gives, and the path that it stands for.
struct Import {
    alias: String,
    path: Vec<String>,
    is_public: bool,
    cfgs: Cfgs,
}

const GLOB: &str = "*";

impl Sources {
    fn load(&mut self, module: &str, cfgs: &Cfgs, dir: &Path, items: Vec<Item>) {
        let mut kept = Vec::new();
        for mut item in items {
            if is_hidden(attributes(&item)) {
                continue;
            }
            if let Item::Mod(child) = &mut item {
                let name = child.ident.to_string();
                let items = child.content.take().map_or_else(
                    || {
                        let files = [dir.join(format!("{name}.rs")), dir.join(&name).join("mod.rs")];
                        let file = files.iter().find(|file| file.exists()).unwrap_or_else(|| panic!("no file for `mod {name}`"));
                        syn::parse_file(&fs::read_to_string(file).unwrap()).unwrap().items
                    },
                    |(_, items)| items,
                );
                self.load(&join(module, &name), &with(cfgs, &child.attrs), &dir.join(&name), items);
            }
            kept.push(item);
        }
        self.0.insert(module.to_owned(), (cfgs.clone(), kept));
    }

    fn items(&self, module: &str) -> &[Item] {
        self.0.get(module).map_or(&[], |(_, items)| items)
    }

    fn imports(&self, module: &str) -> Vec<Import> {
        let mut found = Vec::new();
        for item in self.items(module) {
            let Item::Use(item) = item else { continue };
            let mut paths = Vec::new();
            flatten(&item.tree, &mut Vec::new(), &mut paths);
            let (is_public, cfgs) = (is_public(&item.vis), with(&Cfgs::new(), &item.attrs));
            found.extend(paths.into_iter().map(|(alias, path)| Import { alias, path, is_public, cfgs: cfgs.clone() }));
        }
        found
    }

    /// What a name means in a module. `depth` ends imports that lead to themselves, as `use serde` does.
    fn lookup(&self, module: &str, name: &str, depth: usize) -> Option<Target> {
        let child = join(module, name);
        if self.0.contains_key(&child) {
            return Some(Target::Module(child));
        }
        if self.items(module).iter().any(|item| named(item).is_some_and(|(found, _)| found == name)) {
            return Some(Target::Item(module.into(), name.into()));
        }
        if depth == 0 {
            return None;
        }
        let imports = self.imports(module);
        if let Some(import) = imports.iter().find(|import| import.alias == name) {
            return Some(self.resolve(module, &import.path, depth - 1));
        }
        imports.iter().filter(|import| import.alias == GLOB).find_map(|import| {
            match self.resolve(module, &import.path, depth - 1) {
                Target::Module(from) if from != module => self.lookup(&from, name, depth - 1),
                _ => None,
            }
        })
    }

    fn resolve(&self, module: &str, path: &[String], depth: usize) -> Target {
        let Some((first, rest)) = path.split_first() else { return Target::Module(module.into()) };
        let parent = |of: &str| of.rsplit_once("::").map_or(String::new(), |(parent, _)| parent.to_owned());
        let mut here = match first.as_str() {
            "crate" => Target::Module(String::new()),
            "self" => Target::Module(module.into()),
            "super" => Target::Module(parent(module)),
            name => self.lookup(module, name, depth).unwrap_or_else(|| Target::External(name.into())),
        };
        for name in rest {
            here = match here {
                Target::Module(of) if name == "super" => Target::Module(parent(&of)),
                Target::Module(of) => self.lookup(&of, name, depth).unwrap_or_else(|| Target::External(join(&of, name))),
                // A variant or an associated item.
                Target::Item(..) => return here,
                Target::External(of) => Target::External(join(&of, name)),
            };
        }
        here
    }
}

struct Surface<'a> {
    sources: &'a Sources,
    /// The public paths of each item that has one.
    exposed: BTreeMap<(String, String), Vec<(String, Cfgs)>>,
    /// A path, a rank that puts the item before its implementations and those before its members, and the line.
    lines: BTreeSet<(String, u8, String)>,
}

impl Surface<'_> {
    fn line(&mut self, path: &str, rank: u8, cfgs: &Cfgs, text: &str) {
        let cfgs: String = cfgs.iter().map(|cfg| format!("#[cfg({cfg})] ")).collect();
        self.lines.insert((path.to_owned(), rank, cfgs + text));
    }

    /// Finds the public items of a module that can be reached as `shown`.
    fn walk(&mut self, module: &str, shown: &str, cfgs: &Cfgs) {
        for item in self.sources.items(module) {
            if let Some((name, _)) = named(item).filter(|(_, vis)| is_public(vis)) {
                let target = match item {
                    Item::Mod(_) => Target::Module(join(module, &name)),
                    _ => Target::Item(module.into(), name.clone()),
                };
                self.expose(target, &join(shown, &name), &with(cfgs, attributes(item)));
            }
        }
        for import in self.sources.imports(module).into_iter().filter(|import| import.is_public) {
            let cfgs = cfgs.union(&import.cfgs).cloned().collect();
            match self.sources.resolve(module, &import.path, 8) {
                Target::Module(from) if import.alias == GLOB => self.walk(&from, shown, &cfgs),
                target => self.expose(target, &join(shown, &import.alias), &cfgs),
            }
        }
    }

    fn expose(&mut self, target: Target, shown: &str, cfgs: &Cfgs) {
        match target {
            Target::Module(module) => {
                self.line(shown, 0, cfgs, &format!("pub mod {shown}"));
                self.walk(&module, shown, cfgs);
            }
            Target::Item(module, name) => self.exposed.entry((module, name)).or_default().push((shown.into(), cfgs.clone())),
            Target::External(path) => self.line(shown, 0, cfgs, &format!("pub use {path} as {shown}")),
        }
    }

    /// The shortest public path of an item: its members are listed there.
    fn path_of(&self, target: &Target) -> Option<(String, Cfgs)> {
        let Target::Item(module, name) = target else { return None };
        let paths = self.exposed.get(&(module.clone(), name.clone()))?;
        paths.iter().min_by_key(|(path, _)| (path.matches("::").count(), path.clone())).cloned()
    }

    fn print_items(&mut self) {
        for ((module, name), paths) in self.exposed.clone() {
            let Some((path, cfgs)) = self.path_of(&Target::Item(module.clone(), name.clone())) else { continue };
            for (alias, cfgs) in paths.iter().filter(|(alias, _)| *alias != path) {
                self.line(alias, 0, cfgs, &format!("pub use {path} as {alias}"));
            }
            let sources = self.sources;
            for item in sources.items(&module).iter().filter(|item| named(item).is_some_and(|(found, _)| found == name)) {
                self.print_item(item, &path, &with(&cfgs, attributes(item)));
            }
        }
    }

    fn print_item(&mut self, item: &Item, path: &str, cfgs: &Cfgs) {
        let marks = marks(attributes(item));
        match item {
            Item::Struct(item) => {
                let has_hidden = item.fields.iter().any(|field| !is_public(&field.vis));
                let rest = if has_hidden { " { .. }" } else { "" };
                self.line(path, 0, cfgs, &format!("{marks}pub struct {path}{}{rest}", text(&item.generics)));
                self.print_derives(&item.attrs, path, cfgs);
                for (index, field) in item.fields.iter().enumerate().filter(|(_, field)| is_public(&field.vis)) {
                    let name = field.ident.as_ref().map_or(index.to_string(), ToString::to_string);
                    let path = join(path, &name);
                    self.line(&path, 2, &with(cfgs, &field.attrs), &format!("pub {path}: {}", text(&field.ty)));
                }
            }
            Item::Enum(item) => {
                self.line(path, 0, cfgs, &format!("{marks}pub enum {path}{}", text(&item.generics)));
                self.print_derives(&item.attrs, path, cfgs);
                for variant in item.variants.iter().filter(|variant| !is_hidden(&variant.attrs)) {
                    let path = join(path, &variant.ident.to_string());
                    let line = format!("pub {path}{}", variant_fields(&variant.fields));
                    self.line(&path, 2, &with(cfgs, &variant.attrs), &line);
                }
            }
            Item::Trait(item) => {
                let bounds = text(&item.supertraits);
                let bounds = if bounds.is_empty() { bounds } else { format!(": {bounds}") };
                self.line(path, 0, cfgs, &format!("{marks}pub trait {path}{}{bounds}", text(&item.generics)));
                for member in &item.items {
                    let (attrs, name, line) = match member {
                        TraitItem::Fn(f) => {
                            let name = f.sig.ident.to_string();
                            let provided = if f.default.is_some() { " { .. }" } else { "" };
                            (&f.attrs, name.clone(), signature(&f.sig, &join(path, &name)) + provided)
                        }
                        TraitItem::Type(t) => (
                            &t.attrs,
                            t.ident.to_string(),
                            format!("type {}: {}", join(path, &t.ident.to_string()), text(&t.bounds)),
                        ),
                        TraitItem::Const(c) => (
                            &c.attrs,
                            c.ident.to_string(),
                            format!("const {}: {}", join(path, &c.ident.to_string()), text(&c.ty)),
                        ),
                        _ => continue,
                    };
                    self.line(&join(path, &name), 2, &with(cfgs, attrs), &format!("{}pub {line}", crate::text::marks(attrs)));
                }
            }
            Item::Fn(item) => self.line(path, 0, cfgs, &format!("{marks}pub {}", signature(&item.sig, path))),
            Item::Type(item) => {
                self.line(path, 0, cfgs, &format!("{marks}pub type {path}{} = {}", text(&item.generics), text(&item.ty)));
            }
            Item::Const(item) => self.line(path, 0, cfgs, &format!("{marks}pub const {path}: {}", text(&item.ty))),
            Item::Static(item) => self.line(path, 0, cfgs, &format!("{marks}pub static {path}: {}", text(&item.ty))),
            other => self.line(path, 0, cfgs, &format!("{marks}pub {}", text(other))),
        }
    }

    fn print_derives(&mut self, attrs: &[Attribute], path: &str, cfgs: &Cfgs) {
        let derives = attrs.iter().filter(|attr| attr.path().is_ident("derive"));
        let mut names: Vec<String> =
            derives.flat_map(|attr| inner(attr).split(", ").map(str::to_owned).collect::<Vec<_>>()).collect();
        names.sort();
        if !names.is_empty() {
            self.line(path, 1, cfgs, &format!("derive({}) for {path}", names.join(", ")));
        }
    }

    fn print_impls(&mut self) {
        let sources = self.sources;
        for (module, (cfgs, items)) in &sources.0 {
            for item in items {
                match item {
                    Item::Impl(item) => self.print_impl(module, item, &with(cfgs, &item.attrs)),
                    // A macro can only add to the public surface if it names a public item.
                    Item::Macro(item) if item.ident.is_none() && self.names_exposed(&item.mac.tokens.to_string()) => {
                        let made = spaced(&format!("{} ! ({})", item.mac.path.to_token_stream(), item.mac.tokens));
                        self.line(
                            &format!("macro {module}"),
                            0,
                            cfgs,
                            &format!("{made} in {}", if module.is_empty() { "the root" } else { module }),
                        );
                    }
                    _ => {}
                }
            }
        }
    }

    fn names_exposed(&self, tokens: &str) -> bool {
        let is_exposed = |word: &str| self.exposed.keys().any(|(_, name)| name == word);
        tokens.split(|c: char| !c.is_alphanumeric() && c != '_').any(is_exposed)
    }

    fn print_impl(&mut self, module: &str, item: &ItemImpl, cfgs: &Cfgs) {
        let resolve = |path: &syn::Path| {
            let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.sources.resolve(module, &names, 8)
        };
        let own = match &*item.self_ty {
            Type::Path(of) => {
                self.path_of(&resolve(&of.path)).map(|(path, uses)| (path, of, cfgs.union(&uses).cloned().collect::<Cfgs>()))
            }
            _ => None,
        };
        let Some((_, of_trait, _)) = &item.trait_ else {
            let Some((path, _, cfgs)) = own else { return };
            for member in &item.items {
                let (attrs, vis, name, line) = match member {
                    ImplItem::Fn(f) => {
                        let name = f.sig.ident.to_string();
                        (&f.attrs, &f.vis, name.clone(), signature(&f.sig, &join(&path, &name)))
                    }
                    ImplItem::Const(c) => (
                        &c.attrs,
                        &c.vis,
                        c.ident.to_string(),
                        format!("const {}: {}", join(&path, &c.ident.to_string()), text(&c.ty)),
                    ),
                    _ => continue,
                };
                if is_public(vis) && !is_hidden(attrs) {
                    self.line(&join(&path, &name), 2, &with(&cfgs, attrs), &format!("{}pub {line}", marks(attrs)));
                }
            }
            return;
        };
        // A header that names an item of the crate without a public path is nobody's business outside.
        let header = spaced(&format!("{} {}", of_trait.to_token_stream(), item.self_ty.to_token_stream()));
        let is_unreachable = |name: &str| {
            let target = self.sources.lookup(module, name, 8);
            matches!(target, Some(Target::Item(..))) && target.is_some_and(|target| self.path_of(&target).is_none())
        };
        let mut names = header.split(|c: char| !c.is_alphanumeric() && c != '_');
        if names.any(is_unreachable) || self.path_of(&resolve(of_trait)).is_none() && self.is_local(&resolve(of_trait)) {
            return;
        }
        let (implemented, parameters) = (text(of_trait), text(&item.generics));
        let (key, of, cfgs) = match own {
            Some((path, of, cfgs)) => {
                let arguments = of.path.segments.last().map(|last| text(&last.arguments)).unwrap_or_default();
                (path.clone(), path + &arguments, cfgs)
            }
            None => (format!("impl {implemented}"), text(&item.self_ty), cfgs.clone()),
        };
        let bounds = item.generics.where_clause.as_ref().map(|bounds| format!(" {}", text(bounds))).unwrap_or_default();
        self.line(&key, 1, &cfgs, &format!("impl{parameters} {implemented} for {of}{bounds}"));
    }

    fn is_local(&self, target: &Target) -> bool {
        !matches!(target, Target::External(_))
    }
}

fn join(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") }
}

/// These conditions and those of the attributes.
fn with(cfgs: &Cfgs, attrs: &[Attribute]) -> Cfgs {
    let own = attrs.iter().filter(|attr| attr.path().is_ident("cfg")).map(inner);
    cfgs.iter().cloned().chain(own).collect()
}

/// Is it left out of the listing: a test, or hidden in the documentation?
fn is_hidden(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| {
        let is_test = attr.path().is_ident("cfg") && matches!(inner(attr).as_str(), "test" | "doctest");
        is_test || attr.path().is_ident("doc") && attr.meta.require_list().is_ok() && inner(attr) == "hidden"
    })
}

fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

/// The name and the visibility of an item that can be named.
fn named(item: &Item) -> Option<(String, &Visibility)> {
    let (ident, vis) = match item {
        Item::Const(item) => (&item.ident, &item.vis),
        Item::Enum(item) => (&item.ident, &item.vis),
        Item::Fn(item) => (&item.sig.ident, &item.vis),
        Item::Mod(item) => (&item.ident, &item.vis),
        Item::Static(item) => (&item.ident, &item.vis),
        Item::Struct(item) => (&item.ident, &item.vis),
        Item::Trait(item) => (&item.ident, &item.vis),
        Item::Type(item) => (&item.ident, &item.vis),
        Item::Union(item) => (&item.ident, &item.vis),
        _ => return None,
    };
    Some((ident.to_string(), vis))
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The names that a `use` tree gives, with the paths behind them; a glob has the name `*`.
fn flatten(tree: &UseTree, before: &mut Vec<String>, found: &mut Vec<(String, Vec<String>)>) {
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, found);
            before.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, found)),
        UseTree::Glob(_) => found.push((GLOB.into(), before.clone())),
        UseTree::Name(name) if name.ident == "self" => {
            found.push((before.last().cloned().unwrap_or_default(), before.clone()));
        }
        UseTree::Name(name) => found.push((name.ident.to_string(), [before.as_slice(), &[name.ident.to_string()]].concat())),
        UseTree::Rename(name) => {
            let end = Some(name.ident.to_string()).filter(|ident| ident != "self");
            found.push((name.rename.to_string(), before.iter().cloned().chain(end).collect()));
        }
    }
}
