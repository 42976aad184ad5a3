//! `templates`: what projects begin with. Found on this machine and in signed indexes, installed, rated and
//! published. `init` makes a project of one. No server takes part.

mod indexes;
mod publish;
mod ratings;
pub(in crate::cmd) mod shelf;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use semver::Version;
use serde::Serialize;
use serde_json::json;
use skep_core::Timestamp;
use skep_templates::{Listed, MOST_PACKED, archive, digest, is_digest, joined};

use crate::cmd::lock::settings::{self, Settings};
use crate::failure::{Failure, Result};
use crate::output::{Row, human_bytes};
use crate::session::Session;
use indexes::{IndexArgs, Taken};
use shelf::{Found, Origin, Shelf, refused};

/// What to do with templates.
#[derive(Debug, Subcommand)]
pub(crate) enum TemplatesVerb {
    /// List the templates of this machine
    List,
    /// Find templates, on this machine and in the indexes
    Search(SearchArgs),
    /// Show what a template is and what it asks for
    Show(ShowArgs),
    /// Keep a template on this machine: from an index, a folder, a file, a URL
    Install(InstallArgs),
    /// Take an installed template away
    #[command(visible_alias = "rm")]
    Remove(RemoveArgs),
    /// Say what a template is worth, signed
    Rate(ratings::RateArgs),
    /// List what one has said, or write it to a file
    Ratings(ratings::RatingsArgs),
    /// Make one file of a template's folder
    Pack(publish::PackArgs),
    /// Make and sign an index of a folder of such files
    Index(publish::IndexDirArgs),
}

/// Flags of `templates search`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every word must stand in the name, the title, the line about it or the tags.

Examples:
  skep templates search support
  skep templates search --index https://templates.example.com/index.json")]
pub(crate) struct SearchArgs {
    /// Words [default: everything]
    words: Vec<String>,
    #[command(flatten)]
    index: IndexArgs,
}

/// Flags of `templates show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Its name, its folder or its file
    template: String,
    #[command(flatten)]
    index: IndexArgs,
}

/// Flags of `templates install`.
#[derive(Debug, Args)]
#[command(after_help = "\
What an index lists is checked against the SHA-256 that its publisher signed. A
folder, a file or a URL by itself is nobody's word: give a SHA-256 with it.

Examples:
  skep templates install support
  skep templates install support@1.2.0
  skep templates install ./support
  skep templates install https://example.com/support-1.2.0.tar.gz --sha256 9f86…")]
pub(crate) struct InstallArgs {
    /// NAME or NAME@VERSION of an index, a folder, a file, or a URL
    template: String,
    /// The folder to keep it in [default: the settings', else the user's]
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Take it only when it has this SHA-256
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    #[command(flatten)]
    index: IndexArgs,
}

/// Flags of `templates remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Its name
    template: String,
}

/// A line of a list.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    version: String,
    about: String,
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratings: Option<skep_templates::Ratings>,
    from: String,
}

impl Row for Line {
    const HEADERS: &'static [&'static str] =
        &["TEMPLATE", "VERSION", "WHAT IT DOES", "STARS", "FROM"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.name.clone(),
            self.version.clone(),
            self.about.clone(),
            stars(self.ratings),
            self.from.clone(),
        ]
    }
}

/// `4.5 (2)`: the mean, and of how many.
fn stars(ratings: Option<skep_templates::Ratings>) -> String {
    ratings.map_or_else(String::new, |it| format!("{} ({})", it.mean(), it.count))
}

impl Line {
    fn of(listed: &Listed, from: &str) -> Self {
        Self {
            name: listed.name.clone(),
            version: listed.version.to_string(),
            about: listed.about.clone(),
            tags: listed.tags.clone(),
            ratings: listed.ratings,
            from: from.to_owned(),
        }
    }
}

/// The settings for the folder that one is in.
pub(in crate::cmd) fn settings() -> Result<Settings> {
    settings::of(Path::new("agent.lock"))
}

pub(crate) async fn run(session: &Session, verb: TemplatesVerb) -> Result {
    let settings = settings()?;
    match verb {
        TemplatesVerb::List => list(session, &settings),
        TemplatesVerb::Search(args) => search(session, &settings, &args).await,
        TemplatesVerb::Show(args) => show(session, &settings, &args).await,
        TemplatesVerb::Install(args) => install(session, &settings, &args).await,
        TemplatesVerb::Remove(args) => {
            Shelf::of(&settings).remove(&args.template)?;
            let said = format!("{} is gone.", args.template);
            let done = json!({ "removed": args.template });
            session.output.done(&done, &args.template, &said)
        }
        TemplatesVerb::Rate(args) => ratings::rate(session, &settings, &args),
        TemplatesVerb::Ratings(args) => ratings::ratings(session, &args),
        TemplatesVerb::Pack(args) => publish::pack(session, &args),
        TemplatesVerb::Index(args) => publish::index(session, &args),
    }
}

/// The templates of this machine. One that cannot be read is told, and left out.
fn here(session: &Session, settings: &Settings) -> Result<Vec<(Listed, String)>> {
    let shelf = Shelf::of(settings);
    let mut all = Vec::new();
    for name in shelf.names()? {
        match shelf.known(&name) {
            Ok(Some(found)) => {
                let listed = Listed::of(&found.template, &found.packed, String::new());
                all.push((listed, found.place));
            }
            Ok(None) => {}
            Err(failure) => session.output.complain(&failure.told()),
        }
    }
    Ok(all)
}

pub(in crate::cmd) fn list(session: &Session, settings: &Settings) -> Result {
    let all = here(session, settings)?;
    let lines: Vec<Line> = all.iter().map(|(it, from)| Line::of(it, from)).collect();
    session.output.list(&lines)
}

async fn search(session: &Session, settings: &Settings, args: &SearchArgs) -> Result {
    let here = here(session, settings)?;
    let indexes = indexes::take_all(session, settings, &args.index).await?;
    let fits = |it: &&Listed| it.fits(&args.words);
    let mut lines = Vec::new();
    for (listed, from) in here.iter().filter(|(it, _)| it.fits(&args.words)) {
        // What raters say is the index's.
        let all = indexes.iter().flat_map(|it| &it.index.templates);
        let rated = all.filter(|it| it.sha256 == listed.sha256);
        let ratings = rated.filter_map(|it| it.ratings).max_by_key(|it| it.count);
        let line = Line::of(listed, from);
        lines.push(Line { ratings, ..line });
    }
    for taken in &indexes {
        let all = &taken.index.templates;
        let newest = |it: &&Listed| taken.index.find(&it.name, None) == Some(*it);
        for listed in all.iter().filter(newest).filter(fits) {
            if !here.iter().any(|(it, _)| it.sha256 == listed.sha256) {
                lines.push(Line::of(listed, &taken.address));
            }
        }
    }
    session.output.list(&lines)
}

/// What there is of a name: on this machine, else in an index.
async fn show(session: &Session, settings: &Settings, args: &ShowArgs) -> Result {
    let named = &args.template;
    let shelf = Shelf::of(settings);
    let found = match shelf::is_path(named) {
        true => Some(shelf.find(named)?),
        false => shelf.known(named)?,
    };
    if let Some(found) = found {
        return show_found(session, &found);
    }
    let indexes = indexes::take_all(session, settings, &args.index).await?;
    let mut all = indexes.iter();
    let listed = all.find_map(|it| Some((it, it.index.find(named, None)?)));
    let Some((taken, listed)) = listed else {
        // The same words as everywhere, with what there is.
        return shelf.find(named).map(drop);
    };
    let publisher = taken.index.publisher();
    let publisher = publisher.map_err(|error| refused(&taken.address, error))?;
    session.output.one(
        listed,
        &listed.name,
        &[
            ("Template", format!("{} {}", listed.name, listed.version)),
            ("Title", listed.title.clone()),
            ("What it does", listed.about.clone()),
            ("Tags", listed.tags.join(", ")),
            ("Framework", listed.framework.clone().unwrap_or_default()),
            ("Licence", listed.licence.clone().unwrap_or_default()),
            ("Stars", stars(listed.ratings)),
            ("Size", human_bytes(listed.size)),
            ("SHA-256", listed.sha256.clone()),
            ("From", taken.address.clone()),
            ("Signed by", publisher.to_string()),
            (
                "Install it",
                format!("skep templates install {}", listed.name),
            ),
        ],
    )
}

fn show_found(session: &Session, found: &Found) -> Result {
    let form = &found.template.form;
    let variables = form.variables.iter().map(|it| {
        let default = it.default.as_ref().map(|it| format!(" [default: {it}]"));
        let one_of = match it.one_of.is_empty() {
            true => String::new(),
            false => format!(" (one of: {})", it.one_of.join(", ")),
        };
        format!(
            "{}: {}{one_of}{}",
            it.name,
            it.about,
            default.unwrap_or_default()
        )
    });
    let credentials = form.credentials.iter().map(|it| {
        let optional = if it.optional { " (optional)" } else { "" };
        format!("{}: {}{optional}", it.name, it.about)
    });
    let sha256 = digest(&found.packed);
    let origin = found.origin.as_ref();
    let from = origin.map_or(&found.place, |it| &it.from);
    let publisher = origin.and_then(|it| it.publisher.clone());
    let value = json!({
        "name": form.name, "version": form.version.to_string(), "title": form.title,
        "about": form.about, "tags": form.tags, "framework": form.framework,
        "licence": form.licence, "files": form.files, "variables": form.variables,
        "credentials": form.credentials, "prepare": form.prepare,
        "firstCall": form.first_call, "sha256": sha256, "size": found.packed.len(),
        "from": from, "publisher": publisher,
    });
    session.output.one(
        &value,
        &form.name,
        &[
            ("Template", format!("{} {}", form.name, form.version)),
            ("Title", form.title.clone()),
            ("What it does", form.about.clone()),
            ("Tags", form.tags.join(", ")),
            ("Framework", form.framework.clone().unwrap_or_default()),
            ("Licence", form.licence.clone().unwrap_or_default()),
            ("Files", form.files.join(", ")),
            ("Variables", variables.collect::<Vec<_>>().join("; ")),
            ("Credentials", credentials.collect::<Vec<_>>().join("; ")),
            ("Size", human_bytes(found.packed.len() as u64)),
            ("SHA-256", sha256),
            ("From", from.clone()),
            ("Signed by", publisher.unwrap_or_default()),
            ("Use it", format!("skep init DIR -t {}", form.name)),
        ],
    )
}

/// A template that is to be installed, and where it comes from.
struct Got {
    found: Found,
    origin: Origin,
}

/// Reads a packed template, after its bytes were checked.
fn unpacked(packed: Vec<u8>, from: &str) -> Result<Found> {
    let template = archive::unpack(&packed).map_err(|error| refused(from, error))?;
    Ok(Found {
        template,
        packed,
        origin: None,
        place: from.to_owned(),
    })
}

/// What is at a path or a URL: nobody's word but its bytes'.
async fn by_itself(session: &Session, named: &str, sha256: Option<&str>) -> Result<Got> {
    let checked = |packed: &[u8]| {
        let is = digest(packed);
        match sha256.is_none_or(|wanted| wanted == is) {
            true => Ok(is),
            false => Err(Failure::plain(format!("{named}: its SHA-256 is {is}"))
                .hint("Nothing was installed: it is not what you wanted.")),
        }
    };
    let found = match named.contains("://") {
        true => {
            let packed = indexes::load(session, named, MOST_PACKED).await?;
            checked(&packed)?;
            unpacked(packed, named)?
        }
        false => shelf::at(Path::new(named))?,
    };
    let origin = Origin::new(named.to_owned(), checked(&found.packed)?, None);
    Ok(Got { found, origin })
}

/// What the indexes have of a name.
async fn of_index(session: &Session, settings: &Settings, args: &InstallArgs) -> Result<Got> {
    let named = &args.template;
    let (name, version) = match named.split_once('@') {
        Some((name, text)) => {
            let version = Version::parse(text);
            let wrong = |error| Failure::usage(format!("`{text}` is no version: {error}"));
            (name, Some(version.map_err(wrong)?))
        }
        None => (named.as_str(), None),
    };
    let indexes = indexes::take_all(session, settings, &args.index).await?;
    let has = |it: &Taken| it.index.find(name, version.as_ref()).is_some();
    let having: Vec<&Taken> = indexes.iter().filter(|it| has(it)).collect();
    let taken = match having[..] {
        [taken] => taken,
        [] if indexes.is_empty() => {
            return Err(Failure::usage(format!("there is no index to look for `{name}` in"))
                .hint("Name one with --index, or in skep.toml: [[lock.indexes]] address = \"https://…\"."));
        }
        [] => {
            return Err(Failure::plain(format!("no index has `{named}`"))
                .hint("`skep templates search` lists what they have."));
        }
        _ => {
            let addresses: Vec<&str> = having.iter().map(|it| it.address.as_str()).collect();
            let all = addresses.join(", ");
            return Err(
                Failure::plain(format!("several indexes have `{named}`: {all}"))
                    .hint("Say which with --index."),
            );
        }
    };
    let Some(listed) = taken.index.find(name, version.as_ref()) else {
        return Err(Failure::plain(format!("no index has `{named}`")));
    };
    let installed = Shelf::of(settings)
        .known(name)?
        .filter(|it| it.place == "installed");
    if let (Some(installed), None) = (&installed, &version)
        && installed.template.form.version > listed.version
    {
        let is = &installed.template.form.version;
        let detail = format!(
            "{name} {is} is installed, and the newest there is {}",
            listed.version
        );
        let hint = format!(
            "`skep templates install {name}@{}` goes back to it.",
            listed.version
        );
        return Err(Failure::plain(detail).hint(hint));
    }
    let address = joined(&taken.address, &listed.address);
    let address = address.map_err(|error| refused(&taken.address, error))?;
    let packed = indexes::load(session, &address, MOST_PACKED).await?;
    let wrong = |error| refused(&address, error);
    listed.bytes_are(&packed).map_err(wrong)?;
    let found = unpacked(packed, &address)?;
    listed.is(&found.template, &found.packed).map_err(wrong)?;
    let publisher = taken.index.publisher().map_err(wrong)?;
    let sha256 = listed.sha256.clone();
    if args.sha256.as_ref().is_some_and(|wanted| *wanted != sha256) {
        return Err(Failure::plain(format!("{named}: its SHA-256 is {sha256}"))
            .hint("Nothing was installed: it is not what you wanted."));
    }
    let origin = Origin::new(address.clone(), sha256, Some(publisher.to_string()));
    Ok(Got { found, origin })
}

async fn install(session: &Session, settings: &Settings, args: &InstallArgs) -> Result {
    if args.sha256.as_ref().is_some_and(|it| !is_digest(it)) {
        return Err(Failure::usage(
            "--sha256 is 64 digits of lower-case hexadecimal",
        ));
    }
    let is_by_itself = args.template.contains("://") || shelf::is_path(&args.template);
    let got = match is_by_itself {
        true => by_itself(session, &args.template, args.sha256.as_deref()).await?,
        false => of_index(session, settings, args).await?,
    };
    let shelf = match &args.to {
        Some(folder) => Shelf::at(folder.clone()),
        None => Shelf::of(settings),
    };
    let path = shelf.put(&got.found, &got.origin)?;
    let form = &got.found.template.form;
    let signed = match &got.origin.publisher {
        Some(publisher) => format!("signed by {publisher}"),
        None => format!("signed by nobody, SHA-256 {}", got.origin.sha256),
    };
    // Elsewhere than in the templates folder it is found by its path.
    let named = match args.to.is_some() {
        true => path.display().to_string(),
        false => form.name.clone(),
    };
    let said = format!(
        "{} {} is installed from {}, {signed}.\nMake a project of it: skep init DIR -t {named}",
        form.name, form.version, got.origin.from
    );
    let value = json!({
        "name": form.name, "version": form.version.to_string(), "file": path,
        "from": got.origin.from, "sha256": got.origin.sha256, "publisher": got.origin.publisher,
    });
    session.output.done(&value, &form.name, &said)
}
