//! Copies of the programs, as `docs/copying.md` describes them.
//!
//! The pages are the source: a copy consists of the part of a program before `const HELP`, and of
//! blocks of the [`PAGES`]. A line such as `<!-- copy: run udp-echo-server -->` before a block names its
//! kind, and the programs or recipes to which it belongs.

use crate::PAIRS;
use std::fs;
use std::io::{self, ErrorKind::InvalidInput};
use std::path::{Path, PathBuf};

/// The pages whose blocks are copied.
pub const PAGES: [&str; 4] =
    ["docs/copying.md", "docs/recipes.md", "docs/more-recipes.md", "docs/from-python.md"];

/// The line of a server that imports the log macros.
const IMPORT: &str = "use common::{error, info, warn};\n";

/// The comment above the handler of a server.
const HANDLER: &str = "    /// The function to replace.\n";

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

fn read(path: &str) -> io::Result<String> {
    let error = |error| io::Error::other(format!("cannot read {path} of the checkout: {error}"));
    fs::read_to_string(root().join(path)).map_err(error)
}

/// Returns the path of a program in the checkout, and its source.
///
/// # Errors
///
/// The file cannot be read.
pub fn source(program: &str) -> io::Result<(String, String)> {
    let (pair, side) = program.rsplit_once('-').unwrap_or((program, ""));
    let path = format!("{pair}/src/{side}.rs");
    let source = read(&path)?;
    Ok((path, source))
}

/// Replaces a text that occurs once.
///
/// # Errors
///
/// The text does not occur, or more than once.
pub fn replace(source: &str, from: &str, to: &str) -> io::Result<String> {
    match source.matches(from).count() {
        1 => Ok(source.replacen(from, to, 1)),
        count => Err(io::Error::other(format!("{from:?} occurs {count} times, not once"))),
    }
}

/// Replaces the text that begins with one text and ends with another.
fn replace_from(source: &str, start: &str, end: &str, to: &str) -> io::Result<String> {
    let error = || io::Error::other(format!("no {start:?} is followed by {end:?}"));
    let (_, rest) = source.split_once(start).ok_or_else(error)?;
    let (old, _) = rest.split_once(end).ok_or_else(error)?;
    replace(source, &[start, old, end].concat(), to)
}

/// Replaces the handler of a server.
///
/// # Errors
///
/// The source has none, or it has been replaced.
pub fn replace_handler(source: &str, handler: &str) -> io::Result<String> {
    replace_from(source, HANDLER, "\n    }\n", handler)
}

/// A block of the pages.
struct Block {
    kind: String,
    /// The programs or recipes to which it belongs.
    names: Vec<String>,
    /// The code, or the first words in the font of code if a line of text follows the marker.
    code: String,
}

fn blocks() -> io::Result<Vec<Block>> {
    let pages: String = PAGES.iter().map(|page| read(page)).collect::<io::Result<_>>()?;
    let parse = |rest: &str| {
        let (marker, rest) = rest.split_once(" -->\n")?;
        let mut words = marker.split(' ').map(String::from);
        let code = match rest.strip_prefix("```") {
            Some(block) => block.split_once('\n')?.1.split_once("```")?.0,
            None => rest.split('`').nth(1)?,
        };
        Some(Block { kind: words.next()?, names: words.collect(), code: code.into() })
    };
    Ok(pages.split("<!-- copy: ").skip(1).filter_map(parse).collect())
}

/// Returns the names of the recipes, in the order of the pages.
///
/// # Errors
///
/// A page cannot be read.
pub fn recipes() -> io::Result<Vec<String>> {
    let blocks = blocks()?.into_iter();
    let blocks = blocks.filter(|block| matches!(&*block.kind, "run" | "handler" | "guard"));
    let names = blocks.flat_map(|block| block.names);
    Ok(names.filter(|name| programs().all(|program| program != *name)).collect())
}

/// The code of the pages that a copy consists of.
struct Parts<'a> {
    blocks: Vec<Block>,
    program: &'a str,
    recipes: &'a [&'a str],
}

impl Parts<'_> {
    /// Returns the code of a kind that belongs to a name.
    fn find(&self, kind: &str, name: &str) -> io::Result<&str> {
        let is_wanted =
            |block: &&Block| block.kind == kind && block.names.iter().any(|n| n == name);
        let block = self.blocks.iter().find(is_wanted);
        let error = || io::Error::other(format!("the pages have no {kind} of {name}"));
        block.map(|block| &*block.code).ok_or_else(error)
    }

    /// Returns the codes of a kind that belong to the recipes, each once.
    fn of_recipes(&self, kind: &str) -> Vec<&str> {
        let is_wanted = |name: &String| self.recipes.contains(&name.as_str());
        let blocks = self.blocks.iter().filter(|block| block.kind == kind);
        blocks.filter(|block| block.names.iter().any(is_wanted)).map(|block| &*block.code).collect()
    }

    /// Returns the code of a kind that belongs to a recipe, of which at most one may have any.
    fn of_recipe(&self, kind: &str) -> io::Result<Option<&str>> {
        let error = format!("more than one of {} has a {kind}", self.recipes.join(", "));
        match self.of_recipes(kind)[..] {
            [] => Ok(None),
            [code] => Ok(Some(code)),
            _ => Err(io::Error::new(InvalidInput, error)),
        }
    }

    /// Applies the recipes to the part of the server that is copied.
    fn apply(&self, mut head: String) -> io::Result<String> {
        for field in self.of_recipes("field") {
            let (name, _) = field.split_once(':').unwrap_or_default();
            head = replace(&head, "struct Server {\n", &format!("struct Server {{\n{field}"))?;
            let value = format!("Ok(Server {{\n        {name}: Default::default(),\n");
            head = replace(&head, "Ok(Server {\n", &value)?;
        }
        if let Some(handler) = self.of_recipe("handler")? {
            head = replace_handler(&head, handler)?;
        }
        if let Some(guard) = self.of_recipe("guard")? {
            head = replace(&head, "    fn handle(", "    fn respond(")?;
            let (above, _) = head.split_once("    fn respond(").unwrap_or_default();
            let comment = above.rfind("\n\n").map_or(0, |end| end + 2);
            head.insert_str(comment, &format!("{guard}\n"));
        }
        Ok(self.of_recipes("items").iter().fold(head, |head, items| head + "\n" + items))
    }

    fn run(&self) -> io::Result<String> {
        let run = self.of_recipe("run")?;
        match self.of_recipe("stop")? {
            // This recipe adds to another one.
            Some(code) => {
                let run = run.map_or_else(|| self.find("run", "stop"), Ok)?;
                let stop = "        stopper.stop();\n";
                replace(run, stop, &format!("{stop}{code}"))
            }
            None => Ok(run.map_or_else(|| self.find("run", self.program), Ok)?.into()),
        }
    }

    fn test(&self) -> io::Result<String> {
        if self.program.ends_with("client") {
            return Ok(String::new());
        }
        let test = format!("\n{}", self.find("test", self.program)?);
        match self.of_recipe("test")? {
            Some(function) => replace_from(&test, "    #[test]\n", "\n    }\n", function),
            None => Ok(test),
        }
    }
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
    ///
    /// # Errors
    ///
    /// The names do not fit together ([`InvalidInput`]), or a file of the checkout cannot be read.
    pub fn new(names: &[&str], logger: Option<&'static str>) -> io::Result<Copy> {
        let invalid = |error: String| Err(io::Error::new(InvalidInput, error));
        let (program, recipes) = match names {
            [first, recipes @ ..] if programs().any(|name| name == *first) => (*first, recipes),
            recipes => (RECIPES_FOR, recipes),
        };
        let known = self::recipes()?;
        let is_known = |name: &&&str| known.iter().any(|known| known == *name);
        if let Some(unknown) = recipes.iter().find(|name| !is_known(name)) {
            return invalid(format!("{unknown:?} is neither a program nor a recipe"));
        } else if !recipes.is_empty() && program != RECIPES_FOR {
            return invalid(format!("{} changes {RECIPES_FOR}, not {program}", recipes.join(", ")));
        }
        let (_, side) = program.rsplit_once('-').unwrap_or_default();
        let parts = Parts { blocks: blocks()?, program, recipes };
        let of_recipe = parts.of_recipe("kit")?;
        let kit_options = of_recipe.or_else(|| parts.find("kit", program).ok()).unwrap_or_default();
        Ok(Copy {
            program: program.into(),
            kit_options: kit_options.into(),
            logger,
            head: parts.apply(head(program, logger, parts.find("macros", "std")?)?)?,
            main: format!("\n{}", parts.find("main", side)?),
            run: format!("\n{}", parts.run()?),
            test: parts.test()?,
        })
    }

    /// Returns the source of a program.
    pub fn main(&self) -> String {
        let init = if self.logger == Some("log") { " {\n    env_logger::init();" } else { " {" };
        [&self.head, &*self.main.replacen(" {", init, 1), &self.run, &self.test].concat()
    }

    /// Returns the source of a module with a function `run`, in which tests can use the server.
    ///
    /// # Errors
    ///
    /// A server lacks a text that is replaced, such as `struct Server`.
    pub fn module(&self) -> io::Result<String> {
        let mut source = [&*self.head, &self.run, &self.test].concat();
        if self.program.ends_with("server") {
            source = replace(&source, "\nstruct Server {", "\npub struct Server {")?;
            for function in ["new", "serve", "stop"].map(|name| format!("\n    fn {name}(")) {
                // Not every server has `stop`.
                source = source.replacen(&function, &function.replace("fn", "pub fn"), 1);
            }
        }
        Ok(source)
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
fn head(program: &str, logger: Option<&str>, macros: &str) -> io::Result<String> {
    let (path, source) = source(program)?;
    let (copied, _) = source.split_once("const HELP").unwrap_or((&source, ""));
    let (header, code) = copied.split_once("\n\n").unwrap_or(("", copied));
    let is_kept = |part: &&str| !part.starts_with("//! ```") && !part.starts_with("//! In Python");
    let header = header.split("\n//!\n").filter(is_kept).collect::<Vec<&str>>().join("\n//!\n");
    // What was an option is a field.
    let header = header.replace("`--", "`");
    let header = header.replace("//! Version", &format!("//! Copied from `{path}`, version"));
    let code = code.trim_end();
    Ok(match (code.split_once(IMPORT), logger) {
        (None, _) => format!("{header}\n\n{code}\n"),
        (Some((_, code)), Some(logger)) => {
            format!("{header}\n\nuse {logger}::{{error, info, warn}};\n{code}\n")
        }
        // Macros are defined before they are used.
        (Some((_, code)), None) => format!("{header}\n\n{macros}\n{code}\n"),
    })
}
