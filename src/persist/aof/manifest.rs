//! The manifest: which files the append-only directory consists of, and in what order they are loaded. The format and
//! the texts about what is wrong with it are Redis's.
//!
//! ```text
//! file appendonly.aof.2.base.rdb seq 2 type b      the base: at most one
//! file appendonly.aof.1.incr.aof seq 1 type h      history: to be deleted
//! file appendonly.aof.4.incr.aof seq 4 type i      increments: loaded behind the base, in this order
//! ```
//!
//! A file that is not listed does not count. So the manifest is replaced as a whole, and what it lists is on disk before.

use std::fmt::Write;

use crate::base::quoting;

/// No line is longer.
const LINE_BYTES_MAX: usize = 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub base: Option<Listed>,
    /// In the order in which they are loaded.
    pub increments: Vec<Listed>,
    /// No longer needed.
    pub history: Vec<Listed>,
    /// The numbers given out last.
    pub base_seq: i64,
    pub increment_seq: i64,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub seq: i64,
}

/// What is wrong with a manifest, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// From one; 0 if there is none.
    pub line: usize,
    pub text: String,
    pub reason: &'static str,
}

pub fn manifest_name(append_file: &str) -> String {
    format!("{append_file}.manifest")
}

pub fn temp_manifest_name(append_file: &str) -> String {
    format!("temp-{append_file}.manifest")
}

impl Manifest {
    pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let mut manifest = Manifest::default();
        let mut number = 0;
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            number += 1;
            // Redis reads so much at a time, and looks at the beginning of what it has read.
            let read = &line[..line.len().min(LINE_BYTES_MAX)];
            let wrong =
                |reason| ManifestError { line: number, text: String::from_utf8_lossy(read).into_owned(), reason };
            if read.first() == Some(&b'#') && read.len() == line.len() {
                continue;
            }
            if !read.ends_with(b"\n") {
                return Err(wrong("The AOF manifest file contains too long line"));
            }
            manifest.take_line(read).map_err(wrong)?;
        }
        if number == 0 {
            return Err(ManifestError { line: 0, text: String::new(), reason: "Found an empty AOF manifest" });
        }
        Ok(manifest)
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        const INVALID: &str = "Invalid AOF manifest file format";
        let words = quoting::split(line.trim_ascii()).ok_or(INVALID)?;
        // More pairs may come in later versions.
        if words.len() < 6 || !words.len().is_multiple_of(2) {
            return Err(INVALID);
        }
        let (mut name, mut seq, mut kind) = (None, 0, None);
        for pair in words.chunks_exact(2) {
            match pair[0].to_ascii_lowercase().as_slice() {
                b"file" => {
                    let text = String::from_utf8(pair[1].clone()).map_err(|_| INVALID)?;
                    if text.contains(['/', '\\']) {
                        return Err("File can't be a path, just a filename");
                    }
                    name = Some(text);
                }
                b"seq" => seq = std::str::from_utf8(&pair[1]).ok().and_then(|text| text.parse().ok()).unwrap_or(0),
                b"type" => kind = pair[1].first().copied(),
                _ => {}
            }
        }
        let (Some(name), Some(kind)) = (name, kind) else { return Err(INVALID) };
        if seq == 0 {
            return Err(INVALID);
        }
        let listed = Listed { name, seq };
        match kind {
            b'b' if self.base.is_some() => return Err("Found duplicate base file information"),
            b'b' => {
                self.base_seq = seq;
                self.base = Some(listed);
            }
            b'h' => self.history.push(listed),
            b'i' if seq <= self.increment_seq => return Err("Found a non-monotonic sequence number"),
            b'i' => {
                self.increment_seq = seq;
                self.increments.push(listed);
            }
            _ => return Err("Unknown AOF file type"),
        }
        Ok(())
    }

    /// What is to be written.
    pub fn print(&self) -> String {
        let mut text = String::new();
        let base = self.base.iter().map(|file| (file, 'b'));
        let history = self.history.iter().map(|file| (file, 'h'));
        let increments = self.increments.iter().map(|file| (file, 'i'));
        for (Listed { name, seq }, kind) in base.chain(history).chain(increments) {
            writeln!(text, "file {} seq {seq} type {kind}", shown(name)).expect("a string takes everything");
        }
        text
    }

    /// What the next base will be. What is about to be deleted keeps its name.
    pub fn next_base(&self, append_file: &str, format: &str) -> Listed {
        let listed = |seq: i64| Listed { name: format!("{append_file}.{seq}.base.{format}"), seq };
        let mut next = (self.base_seq + 1..).map(listed);
        next.find(|next| !self.history.contains(next)).expect("numbers do not end")
    }

    /// A new base; the one before is history, and so are the increments which it contains, by their places.
    pub fn set_base(&mut self, base: Listed, contains: impl Fn(usize) -> bool) {
        self.base_seq = base.seq;
        let before = self.base.replace(base);
        let mut places = 0..;
        let is_contained = |_: &Listed| places.next().is_some_and(&contains);
        let (contained, left): (Vec<Listed>, Vec<Listed>) =
            std::mem::take(&mut self.increments).into_iter().partition(is_contained);
        self.increments = left;
        let history = before.into_iter().chain(contained);
        // The newest first, as Redis lists them.
        history.for_each(|file| self.history.insert(0, file));
        if self.increments.is_empty() {
            self.increment_seq = 0;
        }
    }

    /// Whether the manifest on disk lists a base, or not, is not known: the file is to be deleted once another manifest is
    /// there, and not to be replaced before.
    pub fn give_up_base(&mut self, base: &Listed) {
        self.history.insert(0, base.clone());
    }

    /// A new last increment. What is about to be deleted keeps its name.
    pub fn new_increment(&mut self, append_file: &str) -> String {
        let name_of = |seq: i64| format!("{append_file}.{seq}.incr.aof");
        self.increment_seq += 1;
        while self.history.iter().any(|file| file.name == name_of(self.increment_seq)) {
            self.increment_seq += 1;
        }
        let name = name_of(self.increment_seq);
        self.increments.push(Listed { name: name.clone(), seq: self.increment_seq });
        name
    }
}

/// A name as a word of a line.
fn shown(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"');
    if name.bytes().all(is_plain) {
        return name.to_owned();
    }
    let mut quoted = Vec::new();
    quoting::quote(name.as_bytes(), &mut quoted);
    String::from_utf8(quoted).expect("what is not ASCII is escaped")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> &'static str {
        Manifest::parse(text.as_bytes()).expect_err("it is wrong").reason
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let mut manifest = Manifest::default();
        manifest.set_base(manifest.next_base(" file seq \n\n.aof ", "rdb"), |_| false);
        (0..3).for_each(|_| drop(manifest.new_increment("a.aof")));
        manifest.set_base(manifest.next_base("a.aof", "aof"), |place| place == 0);
        let text = manifest.print();
        let lines = [
            "file a.aof.2.base.aof seq 2 type b",
            "file a.aof.1.incr.aof seq 1 type h",
            "file \" file seq \\n\\n.aof .1.base.rdb\" seq 1 type h",
            "file a.aof.2.incr.aof seq 2 type i",
            "file a.aof.3.incr.aof seq 3 type i\n",
        ];
        assert_eq!(text, lines.join("\n"));
        assert_eq!(Manifest::parse(text.as_bytes()), Ok(manifest));
    }

    #[test]
    fn a_new_file_does_not_take_the_place_of_one_that_is_about_to_be_deleted() {
        let mut manifest = Manifest::default();
        assert_eq!(manifest.new_increment("a.aof"), "a.aof.1.incr.aof");
        manifest.set_base(manifest.next_base("a.aof", "rdb"), |_| true);
        assert_eq!(manifest.new_increment("a.aof"), "a.aof.2.incr.aof");
        let given_up = manifest.next_base("a.aof", "rdb");
        manifest.give_up_base(&given_up);
        assert_eq!(manifest.next_base("a.aof", "rdb").name, "a.aof.3.base.rdb");
    }

    #[test]
    fn comments_and_further_pairs_are_passed_over() {
        let manifest = Manifest::parse(b"# c\nfile a seq 3 type i k v\n").expect("right");
        assert_eq!((manifest.increments.len(), manifest.increment_seq), (1, 3));
    }

    #[test]
    fn what_is_wrong_is_told_as_redis_does() {
        assert_eq!(reason(""), "Found an empty AOF manifest");
        assert_eq!(reason("\n"), "Invalid AOF manifest file format");
        assert_eq!(reason("file a seq 1 type b\nfile b seq 2 type b\n"), "Found duplicate base file information");
        assert_eq!(reason("file a seq 2 type i\nfile b seq 1 type i\n"), "Found a non-monotonic sequence number");
        assert_eq!(reason("file a seq 2 type x\n"), "Unknown AOF file type");
        assert_eq!(reason("file a/b seq 2 type i\n"), "File can't be a path, just a filename");
        assert_eq!(reason("file a type i\n"), "Invalid AOF manifest file format");
        assert_eq!(reason("file a seq 1 type i x\n"), "Invalid AOF manifest file format");
        assert_eq!(reason("file a seq 1 type i"), "The AOF manifest file contains too long line");
        assert_eq!(reason(&format!("{} \n", "x".repeat(2000))), "The AOF manifest file contains too long line");
        let error = Manifest::parse(b"#\nfile a seq 1\n").expect_err("too short");
        assert_eq!((error.line, error.text.as_str()), (2, "file a seq 1\n"));
    }
}
