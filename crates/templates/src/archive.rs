//! A template in one file: tar in gzip. Making it gives the same bytes for the same template; reading takes
//! what anybody made, within bounds, and nothing but files and folders.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use tar::{Builder, EntryType, Header};

use crate::error::malformed;
use crate::form::path_refused;
use crate::{
    FORM, File, MOST_BYTES, MOST_FILES, MOST_FORM, MOST_PACKED, Template, TemplateError, gzip,
};

/// Bytes of an archive that are not its files': heads of 512 bytes and what fills blocks, for each entry.
const MOST_AROUND: usize = 4 << 20;
/// Entries of an archive: files, and folders that other programs put in.
const MOST_ENTRIES: usize = 2 * MOST_FILES;

fn header(length: usize, is_program: bool) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_size(length as u64);
    header.set_mode(if is_program { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn written(template: &Template) -> std::io::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    let text = &template.text;
    tar.append_data(&mut header(text.len(), false), FORM, &text[..])?;
    for (path, file) in &template.files {
        let mut header = header(file.bytes.len(), file.is_program);
        tar.append_data(&mut header, path, &file.bytes[..])?;
    }
    let mut bytes = tar.into_inner()?;
    bytes.flush()?;
    Ok(bytes)
}

/// Makes one file of a template.
///
/// # Errors
/// [`TemplateError::Malformed`], when it would be larger than is read.
pub fn pack(template: &Template) -> Result<Vec<u8>, TemplateError> {
    let failed = |error: std::io::Error| malformed(&template.form.name, error.to_string());
    let packed = gzip::pack(&written(template).map_err(failed)?);
    match packed.len() > MOST_PACKED {
        true => Err(malformed(
            &template.form.name,
            "it has over 8 MiB when it is packed",
        )),
        false => Ok(packed),
    }
}

/// Compresses as [`pack`] does, what is no archive as well: for who tries what hostile ones do.
#[must_use]
pub fn gzip(tar: &[u8]) -> Vec<u8> {
    gzip::pack(tar)
}

/// Reads a packed template.
///
/// # Errors
/// [`TemplateError::Malformed`], [`TemplateError::Version`].
pub fn unpack(bytes: &[u8]) -> Result<Template, TemplateError> {
    if bytes.len() > MOST_PACKED {
        return Err(malformed("the archive", "it has over 8 MiB"));
    }
    let tar = gzip::unpack(bytes, MOST_BYTES + MOST_AROUND)?;
    let odd = |error: std::io::Error| malformed("the archive", error.to_string());
    let mut archive = tar::Archive::new(&tar[..]);
    let (mut form, mut files) = (None, BTreeMap::new());
    for (number, entry) in archive.entries().map_err(odd)?.enumerate() {
        if number == MOST_ENTRIES {
            return Err(malformed("the archive", "it holds over 2000 entries"));
        }
        let mut entry = entry.map_err(odd)?;
        let name = entry.path_bytes().into_owned();
        let shown: String = String::from_utf8_lossy(&name).escape_debug().collect();
        let kind = entry.header().entry_type();
        // Other programs begin with the folder itself, and say `./` of everything.
        let path = std::str::from_utf8(&name).unwrap_or_default();
        let path = path.strip_prefix("./").unwrap_or(path);
        match kind {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Directory if path.is_empty() || path == "." => continue,
            EntryType::Directory => match path_refused(path.trim_end_matches('/')) {
                None => continue,
                Some(why) => return Err(malformed(shown, why)),
            },
            _ => return Err(malformed(shown, "it is neither a file nor a folder")),
        }
        let is_form = path == FORM;
        if let (false, Some(why)) = (is_form, path_refused(path)) {
            return Err(malformed(shown, why));
        }
        let most = if is_form { MOST_FORM } else { MOST_BYTES };
        let mut content = Vec::new();
        let read = entry
            .by_ref()
            .take(most as u64 + 1)
            .read_to_end(&mut content);
        read.map_err(odd)?;
        if content.len() > most || content.len() as u64 != entry.size() {
            return Err(malformed(shown, "it is cut short, or too long"));
        }
        let is_program = entry.header().mode().is_ok_and(|mode| mode & 0o111 != 0);
        let is_twice = match is_form {
            true => form.replace(content).is_some(),
            false => {
                let file = File {
                    bytes: content,
                    is_program,
                };
                files.insert(path.to_owned(), file).is_some()
            }
        };
        if is_twice {
            return Err(malformed(shown, "it is there twice"));
        }
    }
    let form = form.ok_or_else(|| malformed("the archive", "it has no template.toml"))?;
    Template::of(&form, files)
}
