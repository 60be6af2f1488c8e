//! Copies of the programs, as `docs/copying.md` describes them.
//!
//! The pages are the source: a copy consists of the part of a program before `const HELP`, and of
//! blocks of the [`PAGES`]. A line such as `<!-- copy: run udp-echo-server -->` before a block names its
//! kind, and the programs or recipes to which it belongs.
//!
//! # Errors
//!
//! A function returns an error if the names do not fit together, or if a page or a program lacks a text
//! that is replaced. It panics if a file of the checkout cannot be read.

use crate::PAIRS;
use std::fs;
use std::path::{Path, PathBuf};

/// The pages whose blocks are copied.
pub const PAGES: [&str; 4] =
    ["docs/copying.md", "docs/recipes.md", "docs/more-recipes.md", "docs/from-python.md"];

/// The line above the handler of a server.
pub const HANDLER: &str = "    /// The function to replace.\n";

/// The program that recipes change.
const RECIPES_FOR: &str = "tcp-threaded-server";

/// Returns the names of the programs.
pub fn programs() -> impl Iterator<Item = String> {
    PAIRS.iter().flat_map(|pair| [pair.server(), pair.client()])
}

/// Returns the root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in a folder").into()
}

/// Reads a file of the checkout.
pub fn read(path: &str) -> String {
    let text = fs::read_to_string(root().join(path));
    text.unwrap_or_else(|error| panic!("cannot read {path} of the checkout: {error}"))
}

/// Returns the path of a program in the checkout, and its source.
pub fn source(program: &str) -> (String, String) {
    let (pair, side) = program.rsplit_once('-').expect("a program is a server or a client");
    let path = format!("{pair}/src/{side}.rs");
    let source = read(&path);
    (path, source)
}

/// Replaces a text that occurs once.
pub fn replace(source: &str, from: &str, to: &str) -> Result<String, String> {
    match source.matches(from).count() {
        1 => Ok(source.replacen(from, to, 1)),
        count => Err(format!("{from:?} occurs {count} times, not once")),
    }
}

/// Replaces a method or a test, which begins with a line above it.
pub fn replace_function(source: &str, start: &str, function: &str) -> Result<String, String> {
    let parts = source.split_once(start).and_then(|(before, rest)| {
        let (_, after) = rest.split_once("\n    }\n")?;
        Some([before, function, after].concat())
    });
    parts.ok_or_else(|| format!("no function follows {start:?}"))
}

/// Returns the markers of a page, such as `copy: run udp-echo-server`, each with the block of code that
/// follows, or with the first words in the font of code if a line of text follows.
pub fn blocks(page: &str) -> impl Iterator<Item = (&str, &str)> {
    page.split("<!-- ").skip(1).filter_map(|part| {
        let (marker, rest) = part.split_once(" -->\n")?;
        let code = match rest.strip_prefix("```") {
            Some(block) => block.split_once('\n')?.1.split_once("```")?.0,
            None => rest.split('`').nth(1)?,
        };
        Some((marker, code))
    })
}

/// Returns the names of the recipes, in the order of the pages.
pub fn recipes() -> Vec<String> {
    let pages = PAGES.map(read).concat();
    let mut recipes = Vec::new();
    for (marker, _) in blocks(&pages) {
        let words: Vec<&str> = marker.split(' ').collect();
        if let ["copy:", "run" | "handler" | "guard", names @ ..] = &words[..] {
            recipes.extend(names.iter().map(ToString::to_string));
        }
    }
    recipes.retain(|name| programs().all(|program| program != *name));
    recipes
}

/// A copy of a program.
pub struct Copy {
    /// The program that was copied.
    pub program: String,
    /// The options of the fault kit that suit it.
    pub kit_options: String,
    /// The part of the program that is copied.
    pub head: String,
    logger: Option<&'static str>,
    main: String,
    run: String,
    test: String,
}

impl Copy {
    /// Copies a program and applies recipes. Without the name of a program, that is the TCP server.
    ///
    /// The macros of the page log, or those of a crate such as `log`. Of the comment at the top of
    /// the program, how to run the original and where to read on are left out.
    pub fn new(names: &[&str], logger: Option<&'static str>) -> Result<Copy, String> {
        let (program, recipes) = match names {
            [first, recipes @ ..] if programs().any(|name| name == *first) => (*first, recipes),
            recipes => (RECIPES_FOR, recipes),
        };
        let known = self::recipes();
        if let Some(unknown) = recipes.iter().find(|name| known.iter().all(|it| it != *name)) {
            return Err(format!("{unknown:?} is neither a program nor a recipe"));
        } else if !recipes.is_empty() && program != RECIPES_FOR {
            return Err(format!("{} changes {RECIPES_FOR}, not {program}", recipes.join(", ")));
        }
        let pages = PAGES.map(read).concat();
        let of = |kind: &str, names: &[&str]| -> Vec<&str> {
            let prefix = format!("copy: {kind} ");
            let code_of = |(marker, code)| {
                let mut owners = str::strip_prefix(marker, &prefix)?.split(' ');
                owners.any(|owner| names.contains(&owner)).then_some(code)
            };
            blocks(&pages).filter_map(code_of).collect()
        };
        for kind in ["kit", "handler", "guard", "run", "stop", "test"] {
            if of(kind, recipes).len() > 1 {
                return Err(format!("more than one of {} has a {kind}", recipes.join(", ")));
            }
        }
        // The code of a recipe, or else of a name, if there is any.
        let part = |kind, name| {
            let codes = [of(kind, recipes), of(kind, &[name])].concat();
            codes.first().copied().unwrap_or_default()
        };
        let (_, side) = program.rsplit_once('-').unwrap_or_default();
        // The recipes with a stop add to another one.
        let run = part("run", if of("stop", recipes).is_empty() { program } else { "stop" });
        let mut copy = Copy {
            program: program.into(),
            kit_options: part("kit", program).into(),
            head: head(program, logger, part("macros", "std")),
            logger,
            main: format!("\n{}", part("main", side)),
            run: format!("\n{run}"),
            // Of a client there is none.
            test: of("test", &[program]).iter().map(|test| format!("\n{test}")).collect(),
        };
        copy.apply(|kind| of(kind, recipes))?;
        Ok(copy)
    }

    /// Applies the code of the recipes, of each kind.
    fn apply<'a>(&mut self, codes: impl Fn(&str) -> Vec<&'a str>) -> Result<(), String> {
        let head = &mut self.head;
        for field in codes("field") {
            let (name, _) = field.split_once(':').unwrap_or_default();
            *head = replace(head, "struct Server {\n", &format!("struct Server {{\n{field}"))?;
            let value = format!("Ok(Server {{\n        {name}: Default::default(),\n");
            *head = replace(head, "Ok(Server {\n", &value)?;
        }
        for handler in codes("handler") {
            *head = replace_function(head, HANDLER, handler)?;
        }
        for guard in codes("guard") {
            *head = replace(head, "    fn handle(", "    fn respond(")?;
            let (above, _) = head.split_once("    fn respond(").unwrap_or_default();
            let comment = above.rfind("\n\n").map_or(0, |end| end + 2);
            head.insert_str(comment, &format!("{guard}\n"));
        }
        for items in codes("items") {
            *head += &format!("\n{items}");
        }
        for code in codes("stop") {
            let stop = "        stopper.stop();\n";
            self.run = replace(&self.run, stop, &format!("{stop}{code}"))?;
        }
        for test in codes("test") {
            self.test = replace_function(&self.test, "    #[test]\n", test)?;
        }
        Ok(())
    }

    /// Returns the source of a program.
    pub fn main(&self) -> String {
        let init = if self.logger == Some("log") { " {\n    env_logger::init();" } else { " {" };
        [&self.head, &*self.main.replacen(" {", init, 1), &self.run, &self.test].concat()
    }

    /// Returns the source of a module with a function `run`, in which tests can use the server.
    pub fn module(&self) -> String {
        let mut source = [&*self.head, &self.run, &self.test].concat();
        if self.program.ends_with("server") {
            for item in ["struct Server {", "    fn new(", "    fn serve(", "    fn stop("] {
                let public = item.replace("struct", "pub struct").replace("fn", "pub fn");
                source = source.replacen(&format!("\n{item}"), &format!("\n{public}"), 1);
            }
        }
        source
    }

    /// Returns the manifest of a package that consists of the copy.
    pub fn manifest(&self, name: &str) -> String {
        let ctrlc = "ctrlc = { version = \"3\", features = [\"termination\"] }\n";
        let ctrlc = if self.run.contains("ctrlc::") { ctrlc } else { "" };
        let log = if self.logger.is_some() { "env_logger = \"0.11\"\nlog = \"0.4\"\n" } else { "" };
        format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
             rust-version = \"1.85\"\n\n[dependencies]\n{ctrlc}{log}"
        )
    }
}

/// Returns the part of a program that is copied, with these macros or those of a crate.
fn head(program: &str, logger: Option<&str>, macros: &str) -> String {
    let (path, source) = source(program);
    let (copied, _) = source.split_once("const HELP").unwrap_or((&source, ""));
    let (header, code) = copied.split_once("\n\n").unwrap_or(("", copied));
    let is_kept = |part: &&str| !part.starts_with("//! ```") && !part.starts_with("//! In Python");
    let header = header.split("\n//!\n").filter(is_kept).collect::<Vec<&str>>().join("\n//!\n");
    // What was an option is a field.
    let header = header.replace("`--", "`");
    let header = header.replace("//! Version", &format!("//! Copied from `{path}`, version"));
    let import = |name: &str| format!("use {name}::{{error, info, warn}};\n");
    // Macros are defined before they are used.
    let macros = logger.map_or_else(|| format!("{macros}\n"), import);
    format!("{header}\n\n{}\n", code.trim_end().replacen(&import("common"), &macros, 1))
}
