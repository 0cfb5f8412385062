//! What the format's numbers cost and save: cuts the bench's corpora with other chunk, page and segment sizes and prints what would be stored.
//!
//! `cargo run --release -p lifeboat-micro-benches --example sweep -- CORPORA`, where `CORPORA` is the folder that `bench/corpora` fills.
//! The tables of `docs/format.md` come from here.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use lifeboat_agent::chunk::{Cutter, Gear, Params};
use lifeboat_agent::compress::{Compressor, Level};

/// Bytes that each chunk costs beside its own: in a list, a pack's directory and the index (`docs/format.md`).
const CHUNK_COST_BYTES: usize = 54;
const SEGMENT_BYTES: usize = 2 << 20;
const PAGE_BYTES: usize = 4096;
/// Edits of the log, spread over it.
const EDITS: usize = 400;

type Fault = Box<dyn std::error::Error>;

/// What was stored of something.
#[derive(Default)]
struct Stored {
    seen: HashSet<[u8; 16]>,
    segment: Vec<u8>,
    chunks: usize,
    plain: usize,
    coded: usize,
    seconds: f64,
}

impl Stored {
    /// Stores what is new of `data`.
    fn take(
        &mut self,
        data: &[u8],
        cutter: Cutter<'_>,
        segment_bytes: usize,
        level: i32,
    ) -> Result<(), Fault> {
        let started = Instant::now();
        let mut compressor = Compressor::new(Level::Zstd(level))?;
        let mut rest = data;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(cutter.cut(rest));
            rest = after;
            let mut id = [0; 16];
            id.copy_from_slice(&blake3::hash(chunk).as_bytes()[..16]);
            if self.seen.insert(id) {
                self.chunks += 1;
                self.plain += chunk.len();
                if self.segment.len() + chunk.len() > segment_bytes {
                    self.flush(&mut compressor)?;
                }
                self.segment.extend_from_slice(chunk);
            }
        }
        self.seconds += started.elapsed().as_secs_f64();
        Ok(())
    }

    fn flush(&mut self, compressor: &mut Compressor) -> Result<(), Fault> {
        let mut coded = Vec::new();
        compressor.compress(&self.segment, &mut coded)?;
        self.coded += coded.len();
        self.segment.clear();
        Ok(())
    }

    fn finish(&mut self, level: i32) -> Result<(), Fault> {
        self.flush(&mut Compressor::new(Level::Zstd(level))?)
    }

    /// Forgets the amounts, not the chunks.
    fn reset(&mut self) {
        (self.chunks, self.plain, self.coded, self.seconds) = (0, 0, 0, 0.0);
    }

    fn total(&self) -> usize {
        self.coded + self.chunks * CHUNK_COST_BYTES
    }

    fn row(&self, name: &str) {
        let mb = |bytes: usize| bytes as f64 / 1e6;
        println!(
            "| {name} | {} | {:.1} | {:.1} | {:.1} | {:.2} |",
            self.chunks,
            mb(self.plain),
            mb(self.coded),
            mb(self.total()),
            self.seconds
        );
    }
}

fn params(average: usize) -> Params {
    Params {
        whole_max: (2 * average).min(4 << 20),
        min: average / 4,
        average,
        max: (4 * average).min(8 << 20),
        ..Params::default()
    }
}

fn header(title: &str) {
    println!(
        "\n**{title}**\n\n| | new chunks | plain MB | zstd MB | with {CHUNK_COST_BYTES} B a chunk | s |"
    );
    println!("|---|---|---|---|---|---|");
}

fn files(folder: &Path, out: &mut Vec<PathBuf>) -> Result<(), Fault> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files(&entry.path(), out)?;
        } else if kind.is_file() {
            out.push(entry.path());
        }
    }
    Ok(())
}

fn size_name(bytes: usize) -> String {
    if bytes >= 1 << 20 { format!("{} MiB", bytes >> 20) } else { format!("{} KiB", bytes >> 10) }
}

fn tree(folder: &Path, gear: &Gear) -> Result<(), Fault> {
    let mut paths = Vec::new();
    files(folder, &mut paths)?;
    let contents: Vec<Vec<u8>> = paths.iter().map(fs::read).collect::<Result<_, _>>()?;
    let run = |name: &str, params: Params, segment_bytes, level| {
        let mut stored = Stored::default();
        for content in &contents {
            let cutter = Cutter::for_file(content.len() as u64, content, gear, &params);
            stored.take(content, cutter, segment_bytes, level)?;
        }
        stored.finish(level)?;
        stored.row(name);
        Ok::<_, Fault>(())
    };
    header("tree: average chunk");
    for average in [16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 1 << 20] {
        run(&size_name(average), params(average), SEGMENT_BYTES, 3)?;
    }
    header("tree: plain bytes of a segment");
    for bytes in [256 << 10, 1 << 20, 2 << 20, 4 << 20, 8 << 20] {
        run(&size_name(bytes), Params::default(), bytes, 3)?;
    }
    header("tree: zstd level");
    for level in [1, 2, 3, 4, 5, 6] {
        run(&level.to_string(), Params::default(), SEGMENT_BYTES, level)?;
    }
    Ok(())
}

fn log(file: &Path, tail: &Path, gear: &Gear) -> Result<(), Fault> {
    let base = fs::read(file)?;
    let appended = [base.clone(), fs::read(tail)?].concat();
    let mut edited = Vec::with_capacity(base.len() + EDITS * 64);
    let part = base.len() / EDITS;
    for (number, piece) in base.chunks(part).enumerate() {
        edited.extend_from_slice(piece);
        edited.extend_from_slice(format!("an inserted line, number {number}\n").as_bytes());
    }
    header("log: average chunk, first backup / 20 MB appended / 400 lines inserted");
    for average in [16 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 1 << 20] {
        let params = params(average);
        let cutter = Cutter::Gear(gear, &params);
        let mut stored = Stored::default();
        for (what, data) in [("first", &base), ("appended", &appended), ("inserted", &edited)] {
            stored.reset();
            stored.take(data, cutter, SEGMENT_BYTES, 3)?;
            stored.finish(3)?;
            stored.row(&format!("{}, {what}", size_name(average)));
        }
    }
    Ok(())
}

fn database(file: &Path, changes: &Path, gear: &Gear) -> Result<(), Fault> {
    let base = fs::read(file)?;
    let list: serde_json::Value = serde_json::from_slice(&fs::read(changes.join("changes.json"))?)?;
    let pages = list["pages"].as_array().ok_or("no pages in changes.json")?;
    let after = fs::read(changes.join("pages.after"))?;
    let mut changed = base.clone();
    for (page, bytes) in pages.iter().zip(after.chunks(PAGE_BYTES)) {
        let at = usize::try_from(page.as_u64().ok_or("a page is no number")?)? * PAGE_BYTES;
        changed.resize(changed.len().max(at + PAGE_BYTES), 0);
        changed[at..at + PAGE_BYTES].copy_from_slice(bytes);
    }
    header("database: pages and content-defined chunks, first backup / after scattered updates");
    let content_defined = [16 << 10, 64 << 10, 256 << 10, 1 << 20].map(params);
    let pages = [4, 8, 16, 64].map(|kib| (format!("pages of {kib} KiB"), Cutter::Pages(kib << 10)));
    let gears = content_defined.iter().map(|params| (size_name(params.average), Cutter::Gear(gear, params)));
    for (name, cutter) in pages.into_iter().chain(gears) {
        let mut stored = Stored::default();
        for (what, data) in [("first", &base), ("updated", &changed)] {
            stored.reset();
            stored.take(data, cutter, SEGMENT_BYTES, 3)?;
            stored.finish(3)?;
            stored.row(&format!("{name}, {what}"));
        }
    }
    Ok(())
}

fn run(corpora: &Path) -> Result<(), Fault> {
    let gear = Gear::new(&[7; 32]);
    let mixed = corpora.join("mixed-1");
    log(&mixed.join("data/log/access.log"), &mixed.join("changes/log.tail"), &gear)?;
    database(&mixed.join("data/database/shop.sqlite"), &mixed.join("changes"), &gear)?;
    tree(&corpora.join("tree-1/data"), &gear)
}

fn main() -> ExitCode {
    let Some(corpora) = std::env::args_os().nth(1) else {
        eprintln!("which folder of corpora? `bench/corpora` makes one");
        return ExitCode::from(2);
    };
    match run(Path::new(&corpora)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
