//! The query functions of `src/`, read from its syntax trees: each is registered, and nothing else
//! is run.
//!
//! No type can say either. The compiler has no list of the functions that return `impl Returns`,
//! and every Diesel query is one, so that it could be run where it is built. `clippy.toml` leaves
//! `sql/run.rs` as the only way to the server. The suite compares prepared statements with
//! snapshots, but sees only the branches that it takes, on one connection.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use syn::visit::{self, Visit};
use syn::{Expr, ExprMethodCall, Item, ReturnType, Type, TypeParamBound};

use super::all;
use super::sources::{self, is_of_tests};

/// The methods that run a query.
const RUN: [&str; 4] = ["load", "first", "one", "execute"];

/// What one file of `src/` defines and runs.
struct File {
    /// The module's path, as in `routing::query`.
    module: String,
    /// The paths of its query functions.
    functions: BTreeSet<String>,
    /// The functions whose queries it runs, as it names them; `None` for a query that is built
    /// where it is run.
    runs: Vec<Option<String>>,
}

impl File {
    fn read(root: &Path, path: &Path) -> Self {
        let module = sources::module(root, path).join("::");
        Self::parse(&module, &fs::read_to_string(path).unwrap())
    }

    fn parse(module: &str, source: &str) -> Self {
        let module = module.to_owned();
        let mut file = Self { module, functions: BTreeSet::new(), runs: Vec::new() };
        file.visit_file(&syn::parse_file(source).unwrap());
        file
    }
}

impl<'ast> Visit<'ast> for File {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_of_tests(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if is_query(&function.sig.output) {
            self.functions.insert(format!("{}::{}", self.module, function.sig.ident));
        }
        visit::visit_item_fn(self, function);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        if is_run(call) {
            self.runs.push(called(&call.receiver));
        }
        visit::visit_expr_method_call(self, call);
    }

    /// A macro's tokens have no syntax tree, so nothing may be run among them.
    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        let tokens = invocation.tokens.to_string().replace(char::is_whitespace, "");
        for method in RUN {
            let is_run = tokens.contains(&format!(".{method}(conn)"));
            assert!(!is_run, "{} runs a query in a macro", self.module);
        }
    }
}

/// Whether a function returns `impl Returns<_>` or `impl Executes`.
fn is_query(output: &ReturnType) -> bool {
    let ReturnType::Type(_, returned) = output else { return false };
    let Type::ImplTrait(returned) = &**returned else { return false };
    returned.bounds.iter().any(|bound| {
        let TypeParamBound::Trait(bound) = bound else { return false };
        let name = &bound.path.segments.last().unwrap().ident;
        name == "Returns" || name == "Executes"
    })
}

/// Whether a query is run: a slice's `first` has no argument, and an atomic's `load` an ordering.
fn is_run(call: &ExprMethodCall) -> bool {
    let is_ordering = |argument: &Expr| {
        let Expr::Path(path) = argument else { return false };
        path.path.segments.first().is_some_and(|segment| segment.ident == "Ordering")
    };
    RUN.iter().any(|method| call.method == method)
        && call.args.first().is_some_and(|argument| !is_ordering(argument))
}

/// The path of the function that is called, as the file names it.
fn called(expression: &Expr) -> Option<String> {
    let Expr::Call(call) = expression else { return None };
    let Expr::Path(function) = &*call.func else { return None };
    let names = function.path.segments.iter().map(|segment| segment.ident.to_string());
    Some(names.collect::<Vec<_>>().join("::"))
}

fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    // Running itself is there.
    let run = root.join("sql/run.rs");
    let paths = sources::files(&root).into_iter().filter(|path| *path != run);
    paths.map(|path| File::read(&root, &path)).collect()
}

/// The paths of the registered functions.
fn registered() -> BTreeSet<String> {
    all().iter().map(|query| query.name.split('.').next().unwrap().to_owned()).collect()
}

#[test]
fn every_query_function_is_registered() {
    let functions: BTreeSet<_> = files().into_iter().flat_map(|file| file.functions).collect();
    assert!(functions.len() > 40, "{functions:?}");
    let registered = registered();
    let missing: Vec<_> = functions.symmetric_difference(&registered).collect();
    assert_eq!(missing, [""; 0], "a query function without registration, or the other way round");
}

#[test]
fn nothing_but_a_query_function_is_run() {
    let registered = registered();
    let mut runs = 0;
    for file in files() {
        for function in &file.runs {
            let is_registered = function.as_ref().is_some_and(|function| {
                let here = format!("{}::{function}", file.module);
                let elsewhere = format!("::{function}");
                registered.contains(&here)
                    || function.contains("::")
                        && registered.iter().any(|path| path.ends_with(&elsewhere))
            });
            assert!(is_registered, "{} runs {function:?}, which isn't registered", file.module);
        }
        runs += file.runs.len();
    }
    assert!(runs > 40, "{runs}");
}

#[test]
fn functions_and_runs_are_told_from_others() {
    let file = File::parse(
        "rows",
        "fn list_query() -> impl Returns<i64> { table.select(id) }
         fn all() -> Vec<i64> { vec![] }
         async fn list(conn: &mut Conn) {
             list_query().load(conn).await;
             other::find_query(id).first(conn).await;
             table.select(id).load(conn).await;
             flag.load(Ordering::Relaxed);
             all().first();
         }
         #[cfg(test)]
         fn queries() { table.load(conn); }",
    );
    assert_eq!(file.functions, BTreeSet::from(["rows::list_query".to_owned()]));
    let runs: Vec<_> = file.runs.iter().map(Option::as_deref).collect();
    assert_eq!(runs, [Some("list_query"), Some("other::find_query"), None]);
}
